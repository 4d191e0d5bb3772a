package api

import (
	"context"
	"net/http"
)

// SessionCookie is for calls that a browser makes without an Authorization header (contract 40, 1.10).
const SessionCookie = "kijko_session"

// CookieAuthenticator is an Authenticator that also accepts the session cookie.
type CookieAuthenticator interface {
	// AuthenticateCookie returns the caller of the session that the value names. It returns nil when this server did not make the value,
	// and 401 when the session has ended.
	AuthenticateCookie(ctx context.Context, value string) (*Caller, error)
}

// byCookie returns the caller that the session cookie names, if the operation accepts the cookie; nil without one.
//
// A page of another site can make a browser send the cookie, so a request that changes data must have an allowed origin. The origin is
// compared with the list and not with Host, which proxies rewrite.
func (a *App) byCookie(ctx context.Context, call *Call) (*Caller, error) {
	value := string(call.Ctx.Request().Header.Cookie(SessionCookie))
	auth, ok := a.deps.Auth.(CookieAuthenticator)
	if value == "" || !ok || call.Op.Cookie == "" {
		return nil, nil
	}
	method := call.Ctx.Method()
	if method != http.MethodGet && method != http.MethodHead && !a.deps.Origins.Allow(string(call.Ctx.Request().Header.Peek("Origin"))) {
		return nil, NewProblem(http.StatusForbidden, "ORIGIN_NOT_ALLOWED", "Pages of this origin may not call with the session cookie.", "")
	}
	return auth.AuthenticateCookie(ctx, value)
}
