// Command retention measures what another tenant's calls notice while a million old rows end: half of them runs of skills whose texts and
// rows go, half events of analytics that lose their person. DATABASE_URL names an empty, set-up database.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// perRound is how many calls, and how many transactions of retention, change places.
const perRound = 50

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

	caller, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = caller.Close(context.WithoutCancel(ctx)) }()
	// A call that waits longer for a lock fails. Time that a busy machine takes is no wait.
	if _, err := caller.Exec(ctx, "set lock_timeout = '100ms'"); err != nil {
		return err
	}
	var quiet, busy []float64
	var batches int
	var longest time.Duration
	for more := true; more; {
		if err := calls(ctx, caller, other, &quiet, func(done int) bool { return done < perRound }); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() {
			ended <- func() error {
				for n := 0; n < perRound && more; n++ {
					began := time.Now()
					if err := conn.QueryRow(ctx, "select private.run_retention()").Scan(&more); err != nil {
						return err
					}
					batches, longest = batches+1, max(longest, time.Since(began))
				}
				return nil
			}()
		}()
		over := false
		if callErr := calls(ctx, caller, other, &busy, func(int) bool {
			select {
			case err = <-ended:
				over = true
			default:
			}
			return !over
		}); callErr != nil || err != nil {
			return errors.Join(callErr, err)
		}
	}
	slices.Sort(quiet)
	slices.Sort(busy)
	for _, percent := range []int{50, 90, 99} {
		fmt.Printf("%-14s %5.2f  a call of another tenant while rows end / between, %d of 100 (%.1f ms / %.1f ms)\n", "retention", at(busy, percent)/at(quiet, percent), percent,
			at(busy, percent), at(quiet, percent))
	}
	fmt.Printf("%-14s %5d  calls of another tenant, none of which waited 100 ms for a lock; %d transactions of retention, the longest %.0f ms\n", "retention", len(busy), batches,
		longest.Seconds()*1000)
	var left int64
	if err := conn.QueryRow(ctx, `select sum(private.count_old(r, now(), 1000000)) from private.retention_rules r`).Scan(&left); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d old rows are left", left)
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

// calls write and read the tables whose rows end, in a transaction each, and add their times in milliseconds.
func calls(ctx context.Context, conn *pgx.Conn, t tenant, took *[]float64, goOn func(done int) bool) error {
	for done := 0; goOn(done); done++ {
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
			return err
		}
		*took = append(*took, float64(time.Since(began).Microseconds())/1000)
	}
	return nil
}

func at(sorted []float64, percent int) float64 {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}
