package app

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/expirable"

	"kijko/server/api"
	"kijko/server/openapi"
)

// presence records after the answer that a user was in a project: `lastActiveAt`, and an opened project or a read file in its activity log.
// Reads stay read-only, and no request waits for it. Best effort: entries that do not fit into the queue are dropped.
type presence struct {
	exec  *api.Executor
	log   *slog.Logger
	queue chan visit
	// seen holds the users and projects recorded within the last minute, so that most requests cost only a look-up.
	seen *expirable.LRU[string, struct{}]
}

type visit struct {
	caller  *api.Caller
	project string
	viewed  bool
	// file is the id of the file whose content was read.
	file string
}

const (
	maxVisits   = 1024
	visitsKept  = 50_000
	visitPeriod = time.Minute
)

func newPresence(exec *api.Executor, log *slog.Logger) *presence {
	return &presence{exec: exec, log: log, queue: make(chan visit, maxVisits),
		seen: expirable.NewLRU[string, struct{}](visitsKept, nil, visitPeriod)}
}

// note is called with the answer of a successful operation on a project; file is the id that its path names, if any.
func (p *presence) note(op *openapi.Operation, caller *api.Caller, project, file string) {
	if uuid.Validate(project) != nil {
		// The path of a chat may name a thread instead of its context.
		return
	}
	id := strings.TrimSuffix(op.ID, openapi.AtAlias)
	viewed := id == "getProjectFull" || id == "getContext"
	if id != "readContextFile" {
		file = ""
	}
	key := caller.UserID + project + file
	if viewed {
		key += "v"
	}
	if _, ok := p.seen.Get(key); ok {
		return
	}
	select {
	case p.queue <- visit{caller, project, viewed, file}:
		p.seen.Add(key, struct{}{})
	default:
	}
}

// run writes until ctx ends.
func (p *presence) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-p.queue:
			request := &api.Request{Caller: v.caller, Needs: openapi.ScopeRead, SQL: api.ProcedureSQL("touch_project($1::uuid, $2)"), Args: []any{v.project, v.viewed}}
			if v.file != "" {
				request.SQL, request.Args = api.ProcedureSQL("view_source($1::uuid, $2)"), []any{v.project, v.file}
			}
			_, err := p.exec.Run(ctx, request)
			if err != nil && ctx.Err() == nil {
				p.log.Debug("noting a visit", "error", err)
			}
		}
	}
}
