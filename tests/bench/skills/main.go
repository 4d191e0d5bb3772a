// Command skills measures the product's own computations around skills: next runs of schedules, conditions of reflexes, and statistics
// whose cost must grow with the requested window and not with the history behind it. DATABASE_URL names an empty, set-up database.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const rounds = 5

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench skills:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, step := range []func(context.Context, *pgx.Conn) error{schedules, statistics, conditions} {
		if err := step(ctx, conn); err != nil {
			return err
		}
	}
	return nil
}

// schedules measures next runs a second on one connection, beside the cheapest function possible.
func schedules(ctx context.Context, conn *pgx.Conn) error {
	const n = 5000
	if _, err := conn.Exec(ctx, `create function public.nothing(text, text, timestamptz) returns timestamptz language plpgsql as 'begin return $3; end'`); err != nil {
		return err
	}
	calls := func(function string) (float64, error) {
		began := time.Now()
		_, err := conn.Exec(ctx, fmt.Sprintf(`select count(%s((array['0 9 * * 1-5', '*/30 * * * *', '30 2 * * *', '0 0 13 * 5', '0 9 1 * *'])[1 + g %% 5],
			(array['Europe/Amsterdam', 'America/New_York', 'UTC'])[1 + g %% 3], timestamptz '2026-01-01' + g * interval '7 hours')) from generate_series(1, %d) g`,
			function, n))
		return n / time.Since(began).Seconds(), err
	}
	var ours, bare []float64
	for range rounds {
		a, err := calls("private.cron_next")
		if err != nil {
			return err
		}
		b, err := calls("public.nothing")
		if err != nil {
			return err
		}
		ours, bare = append(ours, a), append(bare, b)
	}
	report("cron", fmt.Sprintf("next runs a second in SQL, one connection (%.0f) / calls of an empty function", median(ours)), median(ours)/median(bare))
	return nil
}

const person = "00000000-0000-4000-8000-000000000001"

// statistics measures seven days of a hundred thousand runs, and the same seven days with a million behind them.
func statistics(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `insert into public.users (id, email) values ('`+person+`', 'bench@example.nl')`); err != nil {
		return err
	}
	var org string
	if err := conn.QueryRow(ctx, "select private.create_organization('Bench', $1)::text", person).Scan(&org); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `insert into public.skills (id, user_id, organization_id, name, prompt_template)
		values ($1, $1, $2, 'Bench', 'Say something about {{topic}}')`, person, org); err != nil {
		return err
	}
	// A thousand days back at an even rate of 1,000 a day.
	fill := func(from, to int) error {
		progress("filling in runs %d to %d; a minute for a million", from, to)
		for _, sql := range []string{"set session_replication_role = replica", fmt.Sprintf(`
			insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, input, output, status, prompt_tokens, completion_tokens,
				duration_ms, cost_cents, executed_at, completed_at)
			select '%[1]s', '%[2]s', '%[1]s', 'manual', '{"topic": "statistics"}', repeat('output ', 20), case when g %% 9 = 0 then 'failed' else 'completed' end, g %% 4000,
				g %% 900, g %% 60000, g %% 7, now() - g * interval '86.4 seconds', now() from generate_series(%[3]d, %[4]d) g`, person, org, from, to),
			"set session_replication_role = origin", "vacuum analyze public.skill_executions"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("filling: %w", err)
			}
		}
		return nil
	}
	ask := func(call string) (float64, error) {
		var all []float64
		for range rounds {
			tx, err := conn.Begin(ctx)
			if err != nil {
				return 0, err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf(`select set_config('app.user_id', '%s', true), set_config('app.org_id', '%s', true),
				set_config('app.org_role', 'owner', true), set_config('role', 'authenticated', true)`, person, org)); err != nil {
				return 0, err
			}
			began := time.Now()
			if _, err := tx.Exec(ctx, "select "+call); err != nil {
				return 0, err
			}
			all = append(all, time.Since(began).Seconds()*1000)
			if err := tx.Rollback(ctx); err != nil {
				return 0, err
			}
		}
		return median(all), nil
	}
	calls := []struct{ name, sql string }{
		{"7 days over all skills", `api.get_aggregated_stats('{"period": "7d"}')`},
		{"90 days over all skills", `api.get_aggregated_stats('{"period": "90d"}')`},
		{"7 days of one skill", `api.get_skill_stats_of('{"skillId": "` + person + `", "period": "7d"}')`},
		{"cost projection", `api.get_cost_projection('{}')`},
		{"everything there is", `api.get_execution_stats('{}')`},
	}
	if err := fill(1, 100_000); err != nil {
		return err
	}
	progress("asking %d statistics, %d times each", len(calls), rounds)
	small := map[string]float64{}
	for _, c := range calls {
		ms, err := ask(c.sql)
		if err != nil {
			return err
		}
		small[c.name] = ms
	}
	if err := fill(100_001, 1_000_000); err != nil {
		return err
	}
	for _, c := range calls {
		ms, err := ask(c.sql)
		if err != nil {
			return err
		}
		report("stat", fmt.Sprintf("%s, of 1,000,000 runs (%.1f ms) / of 100,000 (%.1f ms)", c.name, ms, small[c.name]), ms/small[c.name])
	}
	return nil
}

// conditions runs the Go benchmarks of the package that evaluates them.
func conditions(ctx context.Context, _ *pgx.Conn) error {
	progress("the benchmarks of ./worker/condition; a minute or two")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "./worker/condition")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.SortFunc(v, cmp.Compare)
	return v[len(v)/2]
}

// progress is printed beside the table.
func progress(format string, a ...any) { fmt.Fprintf(os.Stderr, "     "+format+"\n", a...) }

func report(id, what string, value float64) {
	fmt.Printf("%-4s %-92s %8.2f\n", id, what, value)
}
