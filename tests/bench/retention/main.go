// Command retention measures what another tenant's calls notice while a million old rows end: half of them runs of skills whose texts and
// rows go, half events of analytics that lose their person. DATABASE_URL names an empty, set-up database.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL")); err != nil {
		fmt.Fprintln(os.Stderr, "bench retention:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn string) error {
	rows := 1_000_000
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			return err
		}
		rows = n
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	crowd, err := organization(ctx, conn, "crowd")
	if err != nil {
		return err
	}
	other, err := organization(ctx, conn, "other")
	if err != nil {
		return err
	}
	for _, sql := range []string{
		`insert into public.skill_executions (user_id, organization_id, execution_type, status, output, executed_at, started_at, completed_at)
			select u, o, 'manual', 'completed', repeat('An answer. ', 20), t, t, t
			from (select $1::uuid as u, $2::uuid as o, now() - interval '100 days' - g * interval '1 second' as t from generate_series(1, $3 / 2) g) x`,
		`insert into private.analytics_events (user_id, organization_id, session_id, type, properties, received_at, occurred_at, client_timestamp)
			select u, o, 's' || t, 'ingestion_started', '{}', t, t, t
			from (select $1::uuid as u, $2::uuid as o, now() - interval '40 days' - g * interval '1 second' as t from generate_series(1, $3 / 2) g) x`,
	} {
		if _, err := conn.Exec(ctx, sql, crowd.user, crowd.id, rows); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "vacuum analyze public.skill_executions, private.analytics_events"); err != nil {
		return err
	}
	began := time.Now()
	var counted int64
	if err := conn.QueryRow(ctx, `select sum(private.count_old(r, now(), 1000000)) from private.retention_rules r`).Scan(&counted); err != nil {
		return err
	}
	fmt.Printf("%-14s %5.1f  seconds of a dry run that counts %d rows\n", "retention", time.Since(began).Seconds(), counted)

	quiet, err := calls(ctx, dsn, other, func(done int) bool { return done < 2000 })
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	var batches int
	var longest time.Duration
	began = time.Now()
	go func() {
		ended <- func() error {
			for {
				began := time.Now()
				var more bool
				if err := conn.QueryRow(ctx, "select private.run_retention()").Scan(&more); err != nil {
					return err
				}
				batches, longest = batches+1, max(longest, time.Since(began))
				if !more {
					return nil
				}
			}
		}()
	}()
	over := false
	busy, err := calls(ctx, dsn, other, func(int) bool {
		select {
		case err = <-ended:
			over = true
		default:
		}
		return !over
	})
	if err != nil {
		return err
	}
	fmt.Printf("%-14s %5.2f  a call of another tenant while rows end / before, median (%.1f ms / %.1f ms)\n", "retention", ratio(busy, quiet, 50), at(busy, 50), at(quiet, 50))
	fmt.Printf("%-14s %5.2f  the same, 99 of 100 (%.1f ms / %.1f ms); the slowest of %d took %.1f ms, of %d before %.1f ms\n", "retention", ratio(busy, quiet, 99), at(busy, 99),
		at(quiet, 99), len(busy), at(busy, 100), len(quiet), at(quiet, 100))
	fmt.Printf("%-14s %5.0f  transactions in %.0f s, the longest %.0f ms\n", "retention", float64(batches), time.Since(began).Seconds(), longest.Seconds()*1000)
	var left int64
	if err := conn.QueryRow(ctx, `select sum(private.count_old(r, now(), 1000000)) from private.retention_rules r`).Scan(&left); err != nil {
		return err
	}
	if left > 0 || at(busy, 100) > 100 {
		return fmt.Errorf("%d old rows are left, and another tenant waited %.0f ms", left, at(busy, 100))
	}
	return nil
}

type tenant struct{ id, user string }

func organization(ctx context.Context, conn *pgx.Conn, name string) (t tenant, err error) {
	if err = conn.QueryRow(ctx, "insert into public.users (email, first_name, last_name) values ($1, 'A', 'Person') returning id::text", name+"@example.nl").Scan(&t.user); err != nil {
		return t, err
	}
	return t, conn.QueryRow(ctx, "select private.create_organization($1, $2)::text", name, t.user).Scan(&t.id)
}

// calls write and read the tables whose rows end, in a transaction each, and gives their times in milliseconds.
func calls(ctx context.Context, dsn string, t tenant, goOn func(done int) bool) (took []float64, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for goOn(len(took)) {
		began := time.Now()
		if _, err := conn.Exec(ctx, `with run as (
				insert into public.skill_executions (user_id, organization_id, execution_type, status, output, started_at, completed_at)
				values ($1, $2, 'manual', 'completed', 'An answer.', now(), now()) returning id
			), event as (
				insert into private.analytics_events (user_id, organization_id, session_id, type, properties, occurred_at, client_timestamp)
				values ($1, $2, 's', 'ingestion_started', '{}', now(), now()) returning id
			)
			select (select array_agg(e.id) from (select x.id from public.skill_executions x where x.user_id = $1 order by x.executed_at desc limit 20) e), run.id, event.id from run, event`,
			t.user, t.id); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
	}
	slices.Sort(took)
	return took, nil
}

func at(sorted []float64, percent int) float64 {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

func ratio(a, b []float64, percent int) float64 { return at(a, percent) / at(b, percent) }
