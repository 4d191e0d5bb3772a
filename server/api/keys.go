package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"kijko/server/openapi"
)

// Keys knows API keys and counts what requests with them cost.
type Keys interface {
	// Find gives who a key acts as, or 401 API_KEY_INVALID. Whether the key lives is judged by the database at each request.
	Find(ctx context.Context, key, clientIP string) (*Caller, error)
	// Take counts a unit of the plan for a request, or refuses with 429 QUOTA_EXCEEDED. The headers belong on the answer.
	Take(ctx context.Context, caller *Caller) (map[string]string, error)
	// GiveBack undoes a Take.
	GiveBack(caller *Caller)
	// Used notes that a key was used, Expired that one was refused because it had expired.
	Used(caller *Caller, clientIP, userAgent string)
	Expired(caller *Caller, clientIP, userAgent string)
}

// keyPrefix begins every API key and no token.
const keyPrefix = "kijko_"

// IsKey says that a bearer is an API key, never a token.
func IsKey(bearer string) bool { return strings.HasPrefix(bearer, keyPrefix) }

const nothing = "select null::jsonb, " + outcome

// admitKey judges what is not judged by the call itself, and counts the request. Of a key whose scope does not reach, and before a handler does
// anything, the database is asked at once; where a function answers, its own transaction judges the key, so that a request stays one round trip.
func (a *App) admitKey(ctx context.Context, call *Call, e *endpoint) error {
	var refused error
	if e.handler != nil || !openapi.Reaches(call.Caller.Key.Scope, e.op.Scope) {
		if refused = a.judgeKey(ctx, call, call.Caller, e.op.Scope); refused != nil && ProblemOf(refused).Status != http.StatusForbidden {
			return refused
		}
	}
	if !e.op.Counted {
		return refused
	}
	// Who is let in but may not do this has made a request all the same.
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

// judgeKey asks the database about a key alone.
func (a *App) judgeKey(ctx context.Context, call *Call, caller *Caller, needs string) error {
	call.Caller = caller
	_, err := a.exec.Run(ctx, &Request{Caller: caller, Needs: needs, SQL: nothing, ReadOnly: true, RequestID: call.RequestID, ClientIP: call.ClientIP})
	return err
}

// finishKey notes a use. What was no use, or was answered before, costs nothing.
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
	case !refused:
		a.deps.Keys.Used(call.Caller, call.ClientIP, agent)
	}
}
