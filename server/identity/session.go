package identity

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/server/auth"
)

// refreshSession answers POST /auth/refresh. A refusal clears the cookie, which would be dead anyway.
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

// switchOrganization answers POST /auth/switch-org. The database judges the caller in the transaction that moves them.
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

// logOut answers POST /auth/logout: 204 whatever was sent. Only a missing database is an error, since nothing was ended then.
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
	if session := i.sessionOf(c); session != "" {
		args["session_id"] = session
	}
	if len(args) > 0 {
		if _, err := i.server(c, "log_out", args); err != nil {
			return err
		}
	}
	i.clearCookie(c)
	return c.Reply(api.Answer{})
}

// sessionOf names the session of the Bearer token, expired or not; "" without a genuine one.
func (i *Identity) sessionOf(c *api.Call) string {
	scheme, token, _ := strings.Cut(string(c.Ctx.Request().Header.Peek("Authorization")), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return ""
	}
	id, err := i.verifier.VerifyExpired(c.Context(), token)
	if err != nil {
		return ""
	}
	if id.Kind != auth.KindBuiltin {
		// A session of an external issuer that was never used here has no row that could be ended: make it first, so that the
		// token is dead afterwards. It fails for an expired token, which needs no ending then.
		if _, err := i.Authenticate(c.Context(), token); err != nil && !errors.As(err, new(*api.Problem)) {
			i.log.Warn("logout of an external session", "request_id", c.RequestID, "error", err)
		}
	}
	return id.SessionID
}
