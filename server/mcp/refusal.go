package mcp

import (
	"context"
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
)

// refusal is an error in words for a model: what happened, and what to do.
type refusal string

func (r refusal) Error() string { return string(r) }

// next says what to do about a code. Where it says nothing, the message of the operation does.
var next = map[string]string{
	"INSUFFICIENT_SCOPE":      "Ask the user for an API key with that scope: Settings, Security, API keys.",
	"API_KEY_NOT_ALLOWED":     "Ask the user to do this in Kijko.",
	"CONTEXT_NOT_FOUND":       "Call list_contexts for those that you can use.",
	"FORBIDDEN":               "The user's role does not allow it. Ask the user, or go on without it.",
	"FILE_NOT_FOUND":          "Call list_files for the files of the context.",
	"NODE_NOT_FOUND":          "Call find_symbol for the ids of the present graph; they change when the graph is built again.",
	"SKILL_NOT_FOUND":         "Call list_skills for those that you can run.",
	"SKILL_INACTIVE":          "The user can switch it on in Kijko.",
	"EXECUTION_NOT_FOUND":     "run_skill returns the id of its run.",
	"PROVIDER_NOT_CONFIGURED": "The operator of this installation must configure it. Go on without it.",
	"QUOTA_EXCEEDED":          "The plan of the organization is used up. Tell the user; do not try again.",
}

// words are what a model reads of an error.
func (f *Feature) words(ctx context.Context, err error) string {
	if own := refusal(""); errors.As(err, &own) {
		return string(own)
	}
	p := api.ProblemOf(err)
	text := p.Message
	if hint := next[p.Code]; hint != "" {
		text += " " + hint
	}
	if after := p.Header["Retry-After"]; after != "" && p.Code != "QUOTA_EXCEEDED" {
		text += " Try again in " + after + " s."
	}
	if p.Status == http.StatusInternalServerError {
		if t, ok := ctx.Value(turnKey{}).(*turn); ok {
			text += " The request id is " + t.requestID + "."
			f.s.Log.Error("MCP message failed", "request_id", t.requestID, "error", err)
		}
	}
	return text + " (" + p.Code + ")"
}

// refused is the result of a tool that was refused. It is no error of the protocol: the model reads it and goes on.
func (f *Feature) refused(ctx context.Context, err error) *sdk.CallToolResult {
	r := &sdk.CallToolResult{}
	r.SetError(errors.New(f.words(ctx, err)))
	return r
}

// fault is the error of the protocol for methods that have no result for refusals.
func (f *Feature) fault(ctx context.Context, uri string, err error) error {
	if p := api.ProblemOf(err); p.Status == http.StatusNotFound && uri != "" {
		return sdk.ResourceNotFoundError(uri)
	}
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: f.words(ctx, err)}
}
