package connections

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/connections"
	"kijko/worker/seal"
)

// connect answers POST /oauth/connect/{provider}.
func (f *Feature) connect(c *api.Call) error {
	return f.begin(c, "begin_connection", map[string]string{})
}

// connectDirectory answers POST /projects/{projectId}/directory-sync/{provider}.
func (f *Feature) connectDirectory(c *api.Call) error {
	return f.begin(c, "begin_directory_sync", map[string]string{"projectId": c.Path("projectId")})
}

// begin makes state and verifier and stores them. The database decides whether the caller is allowed and whether this installation supports
// the provider: without a state it refuses a provider that is not configured, after all other checks. The address goes through the
// database, sealed, because a replay under an Idempotency-Key returns it again.
func (f *Feature) begin(c *api.Call, function string, p map[string]string) error {
	var body struct {
		RedirectURI string `json:"redirectUri"`
	}
	if len(c.Body) > 0 {
		if err := c.Decode(&body); err != nil {
			return err
		}
	}
	provider := strings.Clone(c.Path("provider"))
	p["provider"] = provider
	purpose := seal.ConnectionState(c.Caller.UserID)
	own := f.Origin + openapi.Prefix + "/oauth/callback/" + provider
	p["redirectUri"] = own
	if body.RedirectURI != "" && body.RedirectURI != own {
		if !slices.Contains(f.Redirects, body.RedirectURI) {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A consent may lead back to the addresses of KIJKO_GIT_REDIRECTS only.", "redirectUri")
		}
		p["redirectUri"] = body.RedirectURI
	}
	if f.Box != nil && f.Providers.CanConnect(provider) {
		state, verifier := newState(), connections.Verifier()
		sealed, err := f.Box.Seal(purpose, []byte(verifier))
		if err != nil {
			return err
		}
		p["stateHash"], p["sealedVerifier"], p["origin"] = digest(state), sealed, f.listener(c)
		if p["sealedUrl"], err = f.Box.Seal(purpose, []byte(f.Providers.ConsentURL(provider, state, verifier, p["redirectUri"]))); err != nil {
			return err
		}
	}
	answer, err := c.Query(c.Context(), function, p)
	if err != nil {
		return err
	}
	var kept struct {
		Sealed string `json:"sealed"`
	}
	if err := json.Unmarshal(answer.Body, &kept); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	address, err := f.Box.Open(purpose, kept.Sealed)
	if err != nil {
		return err
	}
	if answer.Body, err = json.Marshal(map[string]string{"authUrl": string(address)}); err != nil {
		return err
	}
	return c.Reply(answer)
}

// listener returns the page that may be notified how the consent ended: the page that begins it, if its origin may call the API.
func (f *Feature) listener(c *api.Call) string {
	if origin := string(c.Ctx.Request().Header.Peek(fiber.HeaderOrigin)); origin != "" && f.Origins.Allow(origin) {
		return origin
	}
	return originOf(f.AppURL)
}

// newState draws 256 random bits.
func newState() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// digest is the stored form of a state.
func digest(state string) string {
	sum := sha256.Sum256([]byte(state))
	return hex.EncodeToString(sum[:])
}

// taken is the result of private.take_state.
type taken struct {
	UserID         string `json:"userId"`
	SealedVerifier string `json:"sealedVerifier"`
	RedirectURI    string `json:"redirectUri"`
	Origin         string `json:"origin"`
}

// finished is stored in the database when a consent succeeded.
type finished struct {
	Provider    string    `json:"provider"`
	StateHash   string    `json:"stateHash"`
	TokenID     uuid.UUID `json:"tokenId"`
	SealedToken string    `json:"sealedToken,omitempty"`
	ExpiresAt   string    `json:"expiresAt,omitempty"`
	AccountID   string    `json:"accountId,omitempty"`
	Username    string    `json:"username,omitempty"`
	AvatarURL   string    `json:"avatarUrl,omitempty"`
	Scopes      []string  `json:"scopes,omitempty"`
}

// complete answers POST /oauth/callback: the page sends the parameters that it got from the provider.
func (f *Feature) complete(c *api.Call) error {
	var body struct {
		Provider string `json:"provider"`
		Code     string `json:"code"`
		State    string `json:"state"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	done := finished{Provider: body.Provider, StateHash: digest(body.State)}
	raw, err := json.Marshal(done)
	if err != nil {
		return err
	}
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("take_own_state($1)"), Args: []any{raw},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		if c.Keyed() {
			// A repeated request finds its state used up, and gets the answer of the first one.
			if replayed, again := c.Query(c.Context(), "finish_connection", done); again == nil {
				return c.Reply(replayed)
			}
		}
		return err
	}
	token, err := f.exchange(c.Context(), answer.Body, body.Code, &done)
	if err != nil {
		return err
	}
	if answer, err = c.Query(c.Context(), "finish_connection", done); err != nil {
		f.giveBack(c.Context(), done.Provider, token)
		return err
	}
	return c.Reply(answer)
}

// exchange turns the code into tokens and asks the provider for their account. A refusal stores no connection, and the state is used up.
func (f *Feature) exchange(ctx context.Context, state []byte, code string, done *finished) (connections.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var t taken
	if err := json.Unmarshal(state, &t); err != nil {
		return connections.Token{}, fmt.Errorf("read the state: %w", err)
	}
	if f.Box == nil {
		return connections.Token{}, invalidState(nil)
	}
	verifier, err := f.Box.Open(seal.ConnectionState(t.UserID), t.SealedVerifier)
	if err != nil {
		return connections.Token{}, invalidState(err)
	}
	token, err := f.Providers.Exchange(ctx, done.Provider, code, string(verifier), t.RedirectURI)
	switch {
	case errors.Is(err, connections.ErrRejected):
		return token, invalidState(err)
	case err != nil:
		return token, f.refused(done.Provider, err)
	}
	account, err := f.identity(ctx, done.Provider, token.Access)
	if err != nil {
		f.giveBack(ctx, done.Provider, token)
		return token, f.refused(done.Provider, err)
	}
	done.TokenID = uuid.New()
	if done.SealedToken, err = f.Keeper.Seal(done.TokenID, token); err != nil {
		f.giveBack(ctx, done.Provider, token)
		return token, err
	}
	if !token.Expires.IsZero() {
		done.ExpiresAt = token.Expires.UTC().Format(time.RFC3339Nano)
	}
	done.AccountID, done.Username, done.AvatarURL, done.Scopes = account.ID, account.Username, account.AvatarURL, token.Scopes
	return token, nil
}

func (f *Feature) identity(ctx context.Context, provider, token string) (connections.Account, error) {
	if directory := f.Providers.Directory(provider); directory != nil {
		return directory.Identity(ctx, token)
	}
	return f.Providers.Host(provider).Identity(ctx, token)
}

// giveBack revokes tokens that could not be stored, best effort.
func (f *Feature) giveBack(ctx context.Context, provider string, token connections.Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var err error
	if directory := f.Providers.Directory(provider); directory != nil {
		err = directory.Revoke(ctx, token)
	} else {
		err = f.Providers.Host(provider).Revoke(ctx, token)
	}
	if err != nil {
		f.Log.Warn("a token that is not kept could not be given back", "provider", provider, "error", err)
	}
}

func invalidState(cause error) error {
	return api.NewProblem(http.StatusBadRequest, "OAUTH_STATE_INVALID",
		"The provider does not accept this code. Begin the connection again.", "").Because(cause)
}

// refused returns the answer to a refusal or failure of a provider.
func (f *Feature) refused(provider string, err error) error {
	var database connections.DatabaseError
	var refusal *connections.Refusal
	switch {
	case errors.As(err, &database):
		return api.FromDatabase(database.Unwrap())
	case errors.Is(err, connections.ErrNone), errors.Is(err, connections.ErrBroken):
		return notConnected(provider, err)
	case !errors.As(err, &refusal):
		return err
	}
	var p *api.Problem
	switch refusal.Reason {
	case connections.Limited:
		p = api.NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", "The provider limits the number of requests at the moment. Please try again later.", "")
	case connections.Forbidden:
		return notConnected(provider, err)
	default:
		p = api.NewProblem(http.StatusBadGateway, "PROVIDER_ERROR", "The provider could not be reached, or did not give a usable answer. Please try again.", "")
	}
	if refusal.RetryAfter > 0 {
		p.Header = map[string]string{fiber.HeaderRetryAfter: strconv.FormatInt(int64((refusal.RetryAfter+time.Second-1)/time.Second), 10)}
	}
	p.Details = providerDetails(provider)
	f.Log.Warn("a provider refuses", "provider", provider, "error", err)
	return p.Because(err)
}

func notConnected(provider string, cause error) error {
	p := api.NewProblem(http.StatusForbidden, "NOT_AUTHENTICATED", "Connect your account at this provider, with the rights that it asks for.", "")
	p.Details = providerDetails(provider)
	return p.Because(cause)
}

func providerDetails(provider string) json.RawMessage {
	raw, err := json.Marshal(map[string]string{"provider": provider})
	if err != nil {
		return nil
	}
	return raw
}
