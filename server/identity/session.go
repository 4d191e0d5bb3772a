package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"kijko/server/api"
	"kijko/server/auth"
)

// refreshSession answers POST /auth/refresh. A refusal clears the cookie, which would be invalid anyway.
func (i *Identity) refreshSession(c *api.Call) error {
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	err := i.signIn(c, "refresh_session", map[string]any{"presented_hash": hex.EncodeToString(auth.HashSecret(body.RefreshToken)),
		"session_limit": i.sessionLimit})
	var p *api.Problem
	if errors.As(err, &p) && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		i.clearCookie(c)
	}
	return err
}

// switchOrganization answers POST /auth/switch-org. The database authorizes the caller in the transaction that switches the organization.
func (i *Identity) switchOrganization(c *api.Call) error {
	var body struct {
		OrgID string `json:"org_id"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	return i.signIn(c, "switch_session", map[string]any{"user_id": c.Caller.UserID, "session_id": c.Caller.SessionID,
		"org_hint": orNull(c.Caller.OrgHint), "claims": c.Caller.Claims, "request_id": c.RequestID, "client_ip": c.ClientIP, "org_id": body.OrgID})
}

// endTimeout bounds how long signing out waits for the identity provider. After that, a job continues.
const endTimeout = 3 * time.Second

// logOut answers POST /auth/logout: 204 for any input. Only an unavailable database is an error, since no session was ended then.
func (i *Identity) logOut(c *api.Call) error {
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if len(c.Body) > 0 {
		if err := c.Decode(&body); err != nil {
			return err
		}
	}
	args := map[string]any{}
	if body.RefreshToken != "" {
		args["token_hash"] = hex.EncodeToString(auth.HashSecret(body.RefreshToken))
	}
	i.nameSession(c, args)
	if len(args) > 0 {
		found, err := i.server(c, "log_out", args)
		if err != nil {
			return err
		}
		i.endAtProvider(c, found.Ended)
	}
	i.clearCookie(c)
	return c.Reply(api.Answer{})
}

// endAtProvider ends at Keycloak the sessions that ended here, so that Keycloak's cookie does not sign the user in again. If that fails,
// the job sessions.end retries it.
func (i *Identity) endAtProvider(c *api.Call, ended []endedSession) {
	if i.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), endTimeout)
	defer cancel()
	for _, s := range ended {
		if s.Issuer != i.provider.Issuer() {
			continue
		}
		if err := i.provider.EndSession(ctx, s.Key); err != nil {
			i.log.Warn("session was not ended at the identity provider yet", "request_id", c.RequestID, "error", err)
		}
	}
}

// nameSession adds to args the session of the Bearer token, expired or not. It adds nothing without a genuine token.
func (i *Identity) nameSession(c *api.Call, args map[string]any) {
	scheme, token, _ := strings.Cut(string(c.Ctx.Request().Header.Peek("Authorization")), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return
	}
	id, err := i.verifier.VerifyExpired(c.Context(), token)
	if err != nil {
		return
	}
	if id.Kind == auth.KindBuiltin {
		args["session_id"] = id.SessionID
		return
	}
	// A session of an external issuer that was never used here has no row to end. It is made first, so that the token is invalid
	// afterwards. This fails for an expired token, whose session needs no ending.
	if _, err := i.Authenticate(c.Context(), token); err != nil && !errors.As(err, new(*api.Problem)) {
		i.log.Warn("logout of an external session", "request_id", c.RequestID, "error", err)
	}
	args["issuer"], args["session_key"], args["auth_time"] = id.Issuer, id.SessionKey, authTime(id)
}
