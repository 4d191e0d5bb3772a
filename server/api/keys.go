package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"kijko/server/openapi"
)

// Keys checks API keys and counts the units that their requests cost.
type Keys interface {
	// Find returns the caller that a key acts as, or 401 API_KEY_INVALID. The database checks at each request whether the key is still
	// valid.
	Find(ctx context.Context, key, clientIP string) (*Caller, error)
	// Take counts a unit of the plan for a request, or refuses with 429 QUOTA_EXCEEDED. The headers are to be set on the answer.
	Take(ctx context.Context, caller *Caller) (map[string]string, error)
	// GiveBack undoes a Take.
	GiveBack(caller *Caller)
	// Used records that a key was used, Expired that one was refused because it had expired.
	Used(caller *Caller, clientIP, userAgent string)
	Expired(caller *Caller, clientIP, userAgent string)
}

// keyPrefix begins every API key and no token.
const keyPrefix = "kijko_"

// IsKey reports whether a bearer credential is an API key and not a token.
func IsKey(bearer string) bool { return strings.HasPrefix(bearer, keyPrefix) }

const nothing = "select null::jsonb, " + outcome

// admitKey makes the checks that the call itself does not make, and counts the request. If the key's scope does not suffice, or before a
// handler runs, the database is asked at once. If a function answers, its own transaction checks the key, so that a request stays one round
// trip.
func (a *App) admitKey(ctx context.Context, call *Call, e *endpoint) error {
	var refused error
	if e.handler != nil || !openapi.Reaches(call.Caller.Key.Scope, e.op.Scope) {
		if refused = a.authorizeKey(ctx, call, call.Caller, e.op.Scope); refused != nil && ProblemOf(refused).Status != http.StatusForbidden {
			return refused
		}
	}
	if !e.op.Counted || call.inside != nil && call.inside.free {
		return refused
	}
	// A request that is authenticated but not permitted still counts as a request.
	headers, err := a.deps.Keys.Take(ctx, call.Caller)
	if err != nil {
		return cmp.Or(refused, err)
	}
	call.units = true
	for name, value := range headers {
		call.Ctx.Set(name, value)
	}
	return refused
}

// authorizeKey asks the database about a key only.
func (a *App) authorizeKey(ctx context.Context, call *Call, caller *Caller, needs string) error {
	call.Caller = caller
	_, err := a.exec.Run(ctx, &Request{Caller: caller, Needs: needs, SQL: nothing, ReadOnly: true, RequestID: call.RequestID, ClientIP: call.ClientIP})
	return err
}

// finishKey records a use. A request that was refused (401, 429), or whose answer was replayed, costs no unit.
func (a *App) finishKey(call *Call, status int) {
	if call.Caller == nil || call.Caller.Key == nil {
		return
	}
	refused := status == http.StatusUnauthorized || status == http.StatusTooManyRequests
	if call.units && (refused || len(call.Ctx.Response().Header.Peek("Idempotency-Replayed")) > 0) {
		a.deps.Keys.GiveBack(call.Caller)
	}
	agent := string(call.Ctx.Request().Header.UserAgent())
	switch {
	case call.code == "API_KEY_EXPIRED":
		a.deps.Keys.Expired(call.Caller, call.ClientIP, agent)
	case !refused && call.inside == nil:
		a.deps.Keys.Used(call.Caller, call.ClientIP, agent)
	}
}
