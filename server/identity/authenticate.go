package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/server/auth"
)

// Authenticate turns a Bearer token into a caller. For a token that this server signed, the token alone is enough. For a token of another
// issuer it takes one look-up, cached with the token. The database checks at each request whether session and membership are still active.
// Errors: *api.Problem 401 UNAUTHENTICATED, 403 EMAIL_NOT_VERIFIED or MEMBERSHIP_INACTIVE (external accounts), 503 AUTH_UNAVAILABLE.
func (i *Identity) Authenticate(ctx context.Context, token string) (*api.Caller, error) {
	id, err := i.verifier.Verify(ctx, token)
	if err != nil {
		return nil, refusal(err)
	}
	known := i.callers.get(id)
	if known == nil {
		if known, err = i.resolve(ctx, id); err != nil {
			return nil, err
		}
		i.callers.put(id, known)
	}
	if known.due(time.Now()) {
		i.toucher.Touch(known.caller.SessionID, known.caller.OrgHint)
	}
	return &known.caller, nil
}

// AuthenticateCookie is Authenticate for the session cookie. The cookie names only a session; the database knows its user.
func (i *Identity) AuthenticateCookie(ctx context.Context, value string) (*api.Caller, error) {
	if i.cookies == nil {
		return nil, nil
	}
	session, ok := i.cookies.Verify(value)
	if !ok {
		return nil, nil
	}
	found, err := i.run(ctx, api.Request{RequestID: uuid.NewString()}, "session_caller", map[string]any{"session_id": session})
	if err != nil {
		return nil, err
	}
	caller := &api.Caller{UserID: found.UserID, SessionID: session, OrgHint: found.OrgID, ExpiresAt: time.Now().Add(time.Duration(found.MaxAge) * time.Second)}
	claims, err := json.Marshal(map[string]any{"sub": caller.UserID, "sid": session, "role": "authenticated", "org_id": found.OrgID})
	if err != nil {
		return nil, fmt.Errorf("claims of a cookie: %w", err)
	}
	caller.Claims = string(claims)
	i.toucher.Touch(session, found.OrgID)
	return caller, nil
}

func refusal(err error) error {
	switch {
	case errors.Is(err, auth.ErrInvalidToken):
		return api.NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "This credential is not valid. Please sign in again.", "")
	case errors.Is(err, auth.ErrUnavailable):
		return api.Unavailable("AUTH_UNAVAILABLE", "The identity provider cannot be reached at the moment. Please try again.", err)
	}
	return err
}

// resolve makes the caller of an identity.
func (i *Identity) resolve(ctx context.Context, id *auth.Identity) (*known, error) {
	caller := api.Caller{UserID: id.UserID, SessionID: id.SessionID, OrgHint: id.OrgHint, Claims: id.RawClaims, ExpiresAt: id.ExpiresAt}
	if id.Kind == auth.KindBuiltin {
		return &known{caller: caller}, nil
	}
	// The first use of a session that another program began is recorded as a sign-in, from an address and with a device.
	ip, device := api.PeerOf(ctx)
	found, err := i.run(ctx, api.Request{RequestID: uuid.NewString(), ClientIP: ip, Device: device}, "resolve_external", map[string]any{
		"issuer": id.Issuer, "provider": id.Kind, "subject": id.Subject, "email": id.Email, "email_verified": id.EmailVerified,
		"first_name": id.FirstName, "last_name": id.LastName, "org_hint": orNull(id.OrgHint), "session_id": id.SessionID,
		"session_key": id.SessionKey, "iat": id.IssuedAt.Unix(), "auth_time": authTime(id),
	})
	if err != nil {
		return nil, err
	}
	caller.UserID, caller.SessionID = found.UserID, found.SessionID
	// Postgres gets only verified data, under this server's own names: the sub of a foreign issuer is not a user id here.
	claims, err := json.Marshal(map[string]any{"iss": id.Issuer, "sub": caller.UserID, "sid": caller.SessionID, "role": "authenticated",
		"org_id": id.OrgHint, "email": id.Email, "platform_admin": id.PlatformAdmin, "iat": id.IssuedAt.Unix(), "exp": id.ExpiresAt.Unix()})
	if err != nil {
		return nil, fmt.Errorf("claims of an external account: %w", err)
	}
	caller.Claims = string(claims)
	return &known{caller: caller}, nil
}

// authTime returns the time of the sign-in as the database takes it: seconds, or null.
func authTime(id *auth.Identity) any {
	if id.AuthenticatedAt.IsZero() {
		return nil
	}
	return id.AuthenticatedAt.Unix()
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// known is a caller with the time of the last write of last_active_at.
type known struct {
	caller  api.Caller
	touched atomic.Int64 // Unix seconds
}

const touchEvery = 60 // seconds

// due reports true once a minute, when the activity of the session is to be written.
func (k *known) due(now time.Time) bool {
	last, at := k.touched.Load(), now.Unix()
	return at-last >= touchEvery && k.touched.CompareAndSwap(last, at)
}

const maxCallers = 1 << 14

// callers caches the caller of each verified identity. The verifier returns the same pointer for the same token for as long as it caches
// it, so the pointer is the key and a look-up hashes one word. Two generations bound the memory: when the young one is full it becomes the
// old one.
type callers struct {
	mu         sync.RWMutex
	limit      int
	young, old map[*auth.Identity]*known
}

func newCallers(limit int) *callers {
	return &callers{limit: limit / 2, young: make(map[*auth.Identity]*known)}
}

func (c *callers) get(id *auth.Identity) *known {
	c.mu.RLock()
	k, young := c.young[id]
	if !young {
		k = c.old[id]
	}
	c.mu.RUnlock()
	if k != nil && !young {
		c.put(id, k)
	}
	return k
}

func (c *callers) put(id *auth.Identity, k *known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[*auth.Identity]*known)
	}
	c.young[id] = k
}
