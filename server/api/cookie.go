package api

import (
	"context"
	"errors"
	"net/http"

	"kijko/server/openapi"
)

// SessionCookie is for calls that a browser makes without an Authorization header (contract 40, 1.10).
const SessionCookie = "kijko_session"

// CookieAuthenticator is an Authenticator that knows the session cookie too.
type CookieAuthenticator interface {
	// AuthenticateCookie gives the caller whose session the value names, nil where it is not of our making, and 401 where the session has ended.
	AuthenticateCookie(ctx context.Context, value string) (*Caller, error)
}

// byCookie is the caller that the session cookie names, where the operation takes it; nil without one.
//
// A page of another site can have a browser send the cookie, so what changes something demands an origin of ours. It is compared with the list
// and not with Host, which proxies rewrite.
func (a *App) byCookie(ctx context.Context, call *Call) (*Caller, error) {
	value := string(call.Ctx.Request().Header.Cookie(SessionCookie))
	auth, ok := a.deps.Auth.(CookieAuthenticator)
	if value == "" || !ok || call.Op.Cookie == "" {
		return nil, nil
	}
	ignoring := call.Op.Cookie == openapi.CookieAttribution
	method := call.Ctx.Method()
	if method != http.MethodGet && method != http.MethodHead && !a.deps.Origins.Allow(string(call.Ctx.Request().Header.Peek("Origin"))) {
		if ignoring {
			return nil, nil
		}
		return nil, NewProblem(http.StatusForbidden, "ORIGIN_NOT_ALLOWED", "Pages of this origin may not call with the session cookie.", "")
	}
	caller, err := auth.AuthenticateCookie(ctx, value)
	var p *Problem
	if ignoring && errors.As(err, &p) && p.Status < http.StatusInternalServerError {
		return nil, nil
	}
	return caller, err
}
