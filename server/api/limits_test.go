package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
)

// The limits of a transaction apply with any kind of connection to the database, and to this transaction only.
func TestLimitsTravelWithTheCall(t *testing.T) {
	for name, reach := range map[string]func(*bundle, *db.PoolOptions){
		"Directly":             func(*bundle, *db.PoolOptions) {},
		"DirectlyWithoutNames": func(_ *bundle, o *db.PoolOptions) { o.Unnamed = true },
		"ThroughAPoolerOfTransactions": func(b *bundle, o *db.PoolOptions) {
			o.Unnamed, o.DSN = true, b.db.Bouncer("kijko_server", "transaction")
		},
		"ThroughAPoolerOfSessions": func(b *bundle, o *db.PoolOptions) { o.DSN = b.db.Bouncer("kijko_server", "session") },
	} {
		t.Run(name, func(t *testing.T) {
			b := setupAround(t, func(b *bundle, _ *api.Deps, o *db.PoolOptions) {
				o.Size, o.Timeout = 1, 700*time.Millisecond
				reach(b, o)
			})
			b.db.Exec(`create function api.test_limits(p jsonb) returns jsonb language sql stable as $$
				select jsonb_object_agg(name, setting) from pg_settings where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout') $$;
				grant execute on function api.test_limits to authenticated, anon`)
			ctx := t.Context()
			outside := func() {
				t.Helper()
				var statement, lock, idle string
				require.NoError(t, b.pool.QueryRow(ctx, `select current_setting('statement_timeout'), current_setting('lock_timeout'),
					current_setting('idle_in_transaction_session_timeout')`).Scan(&statement, &lock, &idle))
				require.Equal(t, []string{"0", "0", "0"}, []string{statement, lock, idle}, "the next borrower has none of them")
			}
			exec := api.NewExecutor(b.pool, nil)
			for _, r := range []*api.Request{{Caller: b.caller, ReadOnly: true}, {Caller: b.caller}, {ReadOnly: true}, {}} {
				r.SQL, r.Args = api.CallSQL("test_limits"), []any{[]byte("{}")}
				answer, err := exec.Run(ctx, r)
				require.NoError(t, err)
				require.JSONEq(t, `{"statement_timeout": "700", "lock_timeout": "700", "idle_in_transaction_session_timeout": "30000"}`, string(answer.Body))
				outside()
			}
			var lock string
			require.NoError(t, db.Row(ctx, b.pool, "select current_setting('lock_timeout')", nil, &lock))
			require.Equal(t, "700ms", lock, "a statement of the server's own has them as well")
			outside()

			slow := b.do(t, "GET", "/api/v1/slow", "")
			require.Equal(t, 503, slow.status)
			require.Equal(t, "TIMEOUT", slow.json(t)["code"], "ended by the database")
			require.ErrorContains(t, db.Exec(ctx, b.pool, "select pg_sleep(30)"), "57014")
			outside()
			require.Equal(t, 200, b.do(t, "GET", "/api/v1/who", "").status)

			// Entering itself waits for no lock that another transaction holds for long.
			conn := b.db.Connect("postgres")
			_, err := conn.Exec(ctx, "begin; lock table private.sessions in access exclusive mode")
			require.NoError(t, err)
			began := time.Now()
			locked := b.do(t, "GET", "/api/v1/who", "")
			require.Equal(t, []any{503, "SERVICE_UNAVAILABLE"}, []any{locked.status, locked.json(t)["code"]})
			require.Less(t, time.Since(began), 3*time.Second)
			_, err = conn.Exec(ctx, "rollback")
			require.NoError(t, err)
			require.Equal(t, 200, b.do(t, "GET", "/api/v1/who", "").status)
			outside()
		})
	}
}

func TestAConnectionOfItsOwnHoldsItsLimits(t *testing.T) {
	b := setup(t, nil)
	for name, dsn := range map[string]string{"directly": b.db.DSN("kijko_server"), "through a pooler": b.db.Bouncer("kijko_server", "session")} {
		conn, err := db.Connect(t.Context(), dsn, db.DefaultLimits())
		require.NoError(t, err, name)
		_, err = conn.Exec(t.Context(), "listen kijko_events")
		require.NoError(t, err, name)
		for setting, want := range map[string]string{"statement_timeout": "15s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "30s"} {
			var got string
			require.NoError(t, conn.QueryRow(t.Context(), "show "+setting, pgx.QueryExecModeSimpleProtocol).Scan(&got), name)
			require.Equal(t, want, got, name)
		}
		require.NoError(t, conn.Close(context.WithoutCancel(t.Context())))
	}
}
