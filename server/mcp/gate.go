package mcp

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
)

// turn is one message of a call. Its first operation costs the unit of the message, the next ones are free.
type turn struct {
	*call
	isPaid atomic.Bool
}

type turnKey struct{}

// gate holds for every message: at most atOnce of a caller at a time; a message ends with its request, also in the versions where the SDK
// lets it go on; a panic ends the message and not the process.
func (f *Feature) gate(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, r sdk.Request) (result sdk.Result, err error) {
		at, ok := ctx.Value(callKey{}).(*call)
		if !ok {
			return nil, errors.New("mcp: a message without a request")
		}
		ctx, cancel := context.WithCancel(context.WithValue(ctx, turnKey{}, &turn{call: at}))
		defer cancel()
		defer context.AfterFunc(at.here, cancel)()
		if !f.enter(at.user) {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError,
				Message: fmt.Sprintf("%d calls are in progress, which is the most at a time. Wait until one of them has ended.", atOnce)}
		}
		defer f.leave(at.user)
		defer func() {
			if v := recover(); v != nil {
				f.s.Log.Error("MCP message failed", "request_id", at.requestID, "method", method, "error", fmt.Sprintf("panic: %v\n%s", v, debug.Stack()))
				result, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "Something went wrong on Kijko's side. The request id is " + at.requestID + "."}
			}
		}()
		return next(ctx, method, r)
	}
}

func (f *Feature) enter(user string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[user] >= atOnce {
		return false
	}
	f.busy[user]++
	return true
}

func (f *Feature) leave(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[user]--; f.busy[user] <= 0 {
		delete(f.busy, user)
	}
}

// do calls an operation as the caller of the message and reads its JSON, unless into is nil.
func do(ctx context.Context, o api.Operation, into any) (*api.Result, error) {
	t, ok := ctx.Value(turnKey{}).(*turn)
	if !ok {
		return nil, errors.New("mcp: an operation outside of a message")
	}
	o.Free = t.isPaid.Swap(true)
	r, err := t.Do(ctx, o)
	if err != nil || into == nil {
		return r, err
	}
	if err := r.Decode(into); err != nil {
		return nil, fmt.Errorf("%s: %w", o.ID, err)
	}
	return r, nil
}
