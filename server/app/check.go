package app

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/config"
	"kijko/server/realtime"
	"kijko/worker/graph"
	"kijko/worker/llm"
	"kijko/worker/neighbors"
	"kijko/worker/outbox"
	"kijko/worker/storage"
	"kijko/worker/telemetry"
)

// databaseCheck is healthy when the database answers and has the migrations of this binary. It may have those of the next release: servers of
// both run side by side during an upgrade, and those of this one must not leave the service before the others are there.
func databaseCheck(pool *pgxpool.Pool) api.Check {
	return api.Check{Name: "database", Critical: true, Probe: func(ctx context.Context) api.CheckResult {
		var version int32
		if err := db.Row(ctx, pool, "select private.schema_version()", nil, &version); err != nil {
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		}
		if version < db.ExpectedVersion() {
			return api.CheckResult{Status: "unhealthy", Code: "MIGRATIONS_PENDING"}
		}
		postgres, err := db.VersionOf(ctx, pool)
		switch {
		case err != nil:
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		case postgres.TooOld:
			return api.CheckResult{Status: "unhealthy", Code: "VERSION_TOO_OLD"}
		case postgres.Untested:
			return api.CheckResult{Status: "healthy", Code: "VERSION_UNTESTED"}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// tellVersion logs the version of PostgreSQL as soon as it answers.
func tellVersion(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) {
	for ctx.Err() == nil {
		v, err := db.VersionOf(ctx, pool)
		if err == nil {
			switch {
			case v.TooOld:
				log.Error("PostgreSQL is too old: " + v.Refusal().Error())
			case v.Untested:
				log.Warn("PostgreSQL is newer than what Kijko was tested on", "version", v.Text, "tested", db.TestedVersions)
			default:
				log.Info("PostgreSQL", "version", v.Text, "tested", db.TestedVersions)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// queueLag is the age of the oldest due job from which the queue counts as degraded: its workers are down or overloaded.
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

// listenerCheck is realtime's check, under the contract's name: without the listener no event leaves this process.
func listenerCheck(server *realtime.Server) api.Check {
	check := server.Check()
	check.Name, check.Critical = "listener", true
	return check
}

const (
	// The result of a probe of the store is reused for this long: a probe writes, and the route is public.
	storageProbeLifetime = time.Second
	// The time limit of a probe; a store that is down takes seconds to fail.
	storageProbeTime = 15 * time.Second
)

// storageProbe checks whether content can be stored. Probes run one at a time and to their own end, which may come after the end of the
// request that asked. The reason of a failure is therefore logged.
type storageProbe struct {
	store *storage.Store
	log   *slog.Logger
	// ctx ends with the app.
	ctx context.Context // probes outlive their requests
	end context.CancelFunc

	mu      sync.Mutex
	at      time.Time
	err     error
	running chan struct{}
}

func newStorageProbe(store *storage.Store, log *slog.Logger) *storageProbe {
	ctx, end := context.WithCancel(context.Background())
	return &storageProbe{store: store, log: log, ctx: ctx, end: end}
}

// check is healthy when content can be written, read and removed.
func (s *storageProbe) check() api.Check {
	return api.Check{Name: "storage", Probe: func(ctx context.Context) api.CheckResult {
		if err := s.result(ctx); err != nil {
			return api.CheckResult{Status: "unhealthy", Code: "UNREACHABLE"}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// result waits for the running probe until ctx ends.
func (s *storageProbe) result(ctx context.Context) error {
	s.mu.Lock()
	if s.running == nil && time.Since(s.at) >= storageProbeLifetime {
		s.running = make(chan struct{})
		go s.run(s.running)
	}
	running, err := s.running, s.err
	s.mu.Unlock()
	if running == nil {
		return err
	}
	select {
	case <-running:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the running probe and waits for it.
func (s *storageProbe) close() {
	s.end()
	s.mu.Lock()
	running := s.running
	s.at = time.Now().Add(time.Hour) // prevents further probes
	s.mu.Unlock()
	if running != nil {
		<-running
	}
}

func (s *storageProbe) run(done chan struct{}) {
	ctx, cancel := context.WithTimeout(s.ctx, storageProbeTime)
	defer cancel()
	err := s.store.Reachable(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ctx.Err() != nil:
	case err != nil && (s.err == nil || s.err.Error() != err.Error()):
		s.log.Error("files cannot be stored: see KIJKO_STORAGE_URL, and the room and the rights there", "error", err)
	case err == nil && s.err != nil:
		s.log.Info("files can be stored again")
	}
	s.err, s.running = err, nil
	if now := time.Now(); s.at.Before(now) {
		s.at = now
	}
	close(done)
}

// aiCheck reports whether the installation itself can use a model. Organizations may add their own keys.
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

// stripeCheck reports whether payments are set up. It does not call Stripe.
func stripeCheck(cfg config.Config) api.Check {
	return api.Check{Name: "stripe", Probe: func(context.Context) api.CheckResult {
		if cfg.StripeKey == "" || len(cfg.StripeWebhookSecrets) == 0 {
			return api.CheckResult{Status: "unconfigured"}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// authCheck is degraded while a remote identity provider cannot be reached. Known keys still verify tokens.
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

// graphCheck is degraded while the copy of graphs cannot be reached or its copying fails; Postgres answers meanwhile. Pending is how many
// contexts the copy does not hold.
func graphCheck(pool *pgxpool.Pool, copies graph.Backend) api.Check {
	return api.Check{Name: "graph", Probe: func(ctx context.Context) api.CheckResult {
		if copies == nil {
			return api.CheckResult{Status: "disabled"}
		}
		var lagging, failing int64
		if err := db.Row(ctx, pool, "select lagging, failing from private.graph_mirror_state($1)", []any{copies.Name()}, &lagging, &failing); err != nil {
			return api.CheckResult{Status: "degraded", Code: "UNREACHABLE"}
		}
		r := api.CheckResult{Status: "healthy", Pending: &lagging}
		if failing > 0 {
			r.Status, r.Code = "degraded", "MIRROR_FAILS"
		}
		if copies.Ping(ctx) != nil {
			r.Status, r.Code = "degraded", "MIRROR_UNREACHABLE"
		}
		return r
	}}
}

// tracingCheck is degraded while a receiver of this process's spans does not take them. Requests do not notice that.
func tracingCheck(tracing *telemetry.Tracing) api.Check {
	return api.Check{Name: "tracing", Probe: func(context.Context) api.CheckResult {
		receivers := tracing.Receivers()
		if len(receivers) == 0 {
			return api.CheckResult{Status: "disabled"}
		}
		for _, r := range receivers {
			if r.Failing {
				return api.CheckResult{Status: "degraded", Code: "RECEIVER_FAILS"}
			}
		}
		return api.CheckResult{Status: "healthy"}
	}}
}

// meteringCheck is degraded while OpenMeter does not take the units; they wait. Pending is how many.
func meteringCheck(pool *pgxpool.Pool, configured bool) api.Check {
	return api.Check{Name: "metering", Probe: func(ctx context.Context) api.CheckResult {
		if !configured {
			return api.CheckResult{Status: "disabled"}
		}
		var pending, refused int64
		var oldest float64
		var failing bool
		if err := db.Row(ctx, pool, "select pending, refused, oldest_seconds, is_failing from private.metering_health()", nil, &pending, &refused, &oldest, &failing); err != nil {
			return api.CheckResult{Status: "degraded", Code: "UNREACHABLE"}
		}
		r := api.CheckResult{Status: "healthy", Pending: &pending, OldestSeconds: &oldest}
		switch {
		case failing:
			r.Status, r.Code = "degraded", "OPENMETER_FAILS"
		case oldest > meteringLag:
			r.Status, r.Code = "degraded", "BEHIND"
		case refused > 0:
			r.Status, r.Code = "degraded", "EVENTS_REFUSED"
		}
		return r
	}}
}

// meteringLag is the age in seconds of the oldest unit from which metering counts as degraded: no worker sends.
const meteringLag = 300

// neighborChecks show each neighbor: disabled, healthy, or degraded while it cannot be reached or deliveries to it fail. Pending is how many
// deliveries wait. No request waits for a neighbor, so none is critical.
func neighborChecks(pool *pgxpool.Pool, list []outbox.Neighbor) []api.Check {
	checks := make([]api.Check, len(neighbors.Names))
	for i, name := range neighbors.Names {
		at := slices.IndexFunc(list, func(n outbox.Neighbor) bool { return n.Name() == name })
		checks[i] = api.Check{Name: name, Probe: func(ctx context.Context) api.CheckResult {
			if at < 0 {
				return api.CheckResult{Status: "disabled"}
			}
			var pending, failing, lost int64
			if err := db.Row(ctx, pool, "select pending, failing, lost from private.outbox_state($1)", []any{name}, &pending, &failing, &lost); err != nil {
				return api.CheckResult{Status: "degraded", Code: "UNREACHABLE"}
			}
			r := api.CheckResult{Status: "healthy", Pending: &pending}
			if lost > 0 {
				r.Status, r.Code = "degraded", "DELIVERIES_DROPPED"
			}
			if failing > 0 {
				r.Status, r.Code = "degraded", "DELIVERY_FAILS"
			}
			// Below the time limit of a check, which would count as this server's failure.
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if list[at].Ping(ctx) != nil {
				r.Status, r.Code = "degraded", "NEIGHBOR_UNREACHABLE"
			}
			return r
		}}
	}
	return checks
}
