package app

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/realtime"
	"kijko/worker/llm"
	"kijko/worker/storage"
)

// databaseCheck is healthy when the database answers and carries the migrations of this binary.
func databaseCheck(pool *pgxpool.Pool) api.Check {
	return api.Check{Name: "database", Critical: true, Probe: func(ctx context.Context) api.CheckResult {
		var version int32
		if err := db.Row(ctx, pool, "select private.schema_version()", nil, &version); err != nil {
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		}
		if version != db.ExpectedVersion() {
			return api.CheckResult{Status: "unhealthy", Code: "MIGRATIONS_PENDING"}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// queueLag is the age of the oldest due job from which the queue counts as degraded: its workers are away or overrun.
const queueLag = 60

func queueCheck(pool *pgxpool.Pool) api.Check {
	return api.Check{Name: "queue", Critical: true, Probe: func(ctx context.Context) api.CheckResult {
		var pending int64
		var oldest float64
		if err := db.Row(ctx, pool, "select pending, oldest_seconds from private.queue_state()", nil, &pending, &oldest); err != nil {
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		}
		r := api.CheckResult{Status: "healthy", Pending: &pending, OldestSeconds: &oldest}
		if oldest > queueLag {
			r.Status, r.Code = "degraded", "BEHIND"
		}
		return r
	}}
}

// listenerCheck is realtime's own, under the contract's name: without it no event leaves this process.
func listenerCheck(server *realtime.Server) api.Check {
	check := server.Check()
	check.Name, check.Critical = "listener", true
	return check
}

// storageCheck is healthy when the blob store can be reached.
func storageCheck(store *storage.Store) api.Check {
	return api.Check{Name: "storage", Probe: func(ctx context.Context) api.CheckResult {
		if err := store.Reachable(ctx); err != nil {
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// aiCheck says whether the installation itself can ask a model; organizations may bring keys of their own.
func aiCheck(models *llm.Set) api.Check {
	return api.Check{Name: "ai", Probe: func(context.Context) api.CheckResult {
		for _, has := range models.Offers() {
			if has {
				return api.CheckResult{Status: "healthy"}
			}
		}
		return api.CheckResult{Status: "unconfigured"}
	}}
}

// authCheck is degraded while a remote identity provider cannot be reached; known keys still verify tokens.
func authCheck(verifier *auth.Verifier) api.Check {
	return api.Check{Name: "auth", Probe: func(context.Context) api.CheckResult {
		for _, provider := range verifier.Status() {
			if provider.Err != nil {
				return api.CheckResult{Status: "degraded", Code: "PROVIDER_UNREACHABLE"}
			}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}
