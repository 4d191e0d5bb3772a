package db

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolOptions say how to reach the database for requests.
type PoolOptions struct {
	DSN string
	// Size is the number of connections; 0 is ten for each processor: writes wait for the disk, and many commits share one flush.
	Size int
	// Unnamed switches named prepared statements off, for transaction poolers that cannot keep them.
	Unnamed bool
	// Traced reports each statement to OpenTelemetry.
	Traced bool
	// Timeout bounds each statement in the database itself; default 15 s. See Limits.
	Timeout time.Duration
	// Application is shown in pg_stat_activity.
	Application string
}

// OpenPool opens a lazy pool: it succeeds while the database is down, and recovers by itself when it comes back.
func OpenPool(ctx context.Context, o PoolOptions) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	c.MaxConns = int32(o.Size)
	if o.Size <= 0 {
		c.MaxConns = int32(10 * runtime.GOMAXPROCS(0))
	}
	c.MaxConnIdleTime = 10 * time.Minute
	c.MaxConnLifetime = time.Hour
	c.MaxConnLifetimeJitter = 10 * time.Minute
	c.HealthCheckPeriod = 15 * time.Second
	// No ping before use: it would be a second round trip. A connection that died meanwhile fails its first call, and the executor takes
	// another one where that is safe.
	c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	c.ConnConfig.ConnectTimeout = 3 * time.Second
	c.ConnConfig.RuntimeParams["application_name"] = o.Application
	if o.Unnamed {
		// Each call carries its own unnamed statement; only the types of its parameters are remembered.
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if o.Traced {
		c.ConnConfig.Tracer = otelpgx.NewTracer()
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	keepLimits(pool, limits(o.Timeout))
	return pool, nil
}

// Readers is how many read-only calls should run at once: two for each processor was measured fastest, fewer on a small pool.
func Readers(pool *pgxpool.Pool) int {
	return min(int(pool.Config().MaxConns), max(4, 2*runtime.GOMAXPROCS(0)))
}
