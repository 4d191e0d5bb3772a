// Command enter measures the cost of the rules of organizations for a request in the database: private.enter and a read of one row, as the
// server sends them, beside the same with the SQL of another checkout. Rounds are interleaved, and the processor time of the backend is
// measured, so that other work on the machine hardly disturbs it. Linux only.
//
//	KIJKO_BENCH_BASE=../main go run ./tests/bench/enter
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db/devpg"
)

const (
	rounds   = 25
	requests = 1000
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench enter:", err)
		os.Exit(1)
	}
}

// person acts in an organization; $1 is its name. Both checkouts have the functions that this uses.
const person = `
with u as (insert into public.users (email, first_name, email_verified_at) values ($1 || '@example.nl', 'Ann', now()) returning id),
o as (select u.id as user_id, private.create_organization($1, u.id) as org_id from u),
s as (insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at) select user_id, org_id, now() + interval '9 days', now() + interval '9 days' from o returning *)
select user_id::text, id::text, organization_id::text from s`

// rules is an organization that demands everything, and a member who meets every demand. $1 is the organization, $2 the person.
const rules = `
update public.subscriptions set plan_id = 'enterprise' where organization_id = $1;
update public.users set two_factor_enabled_at = now() where id = $2;
insert into private.credentials (user_id, password_hash, meets_policy) values ($2, '$argon2id$', true);
update public.security_policies set require_second_factor = 'all', expiry_days = 90, ip_mode = 'enforce', ip_admin_bypass = false where organization_id = $1;
insert into public.ip_allow_list_entries (organization_id, name, network, is_range) select $1::uuid, 'x', ('10.' || n || '.0.0/16')::cidr, true from generate_series(1, 20) n`

func run(ctx context.Context) (err error) {
	base := os.Getenv("KIJKO_BENCH_BASE")
	if base == "" {
		return errors.New("KIJKO_BENCH_BASE names the other checkout")
	}
	dir, err := os.MkdirTemp("", "kijko-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cluster, err := devpg.Start(ctx, devpg.Options{DataDir: filepath.Join(dir, "data")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(ctx), devpg.Remove(filepath.Join(dir, "data"))) }()
	scripts := map[string][]string{}
	for name, checkout := range map[string]string{"base": base, "ours": "."} {
		if _, err := cluster.EnsureDatabase(ctx, name); err != nil {
			return err
		}
		setup := exec.CommandContext(ctx, "go", "run", "./db/cmd/kijko-db", "setup")
		setup.Dir, setup.Env = checkout, append(os.Environ(), "DATABASE_URL="+cluster.DSN(devpg.Superuser, name))
		if out, err := setup.CombinedOutput(); err != nil {
			return fmt.Errorf("setting %s up: %w: %s", name, err, out)
		}
		if err := furnish(ctx, cluster.DSN(devpg.Superuser, name), dir, name, scripts); err != nil {
			return err
		}
	}
	cases := []struct{ name, database, script string }{{"", "base", "base plain"}, {"organization without rules", "ours", "ours plain"},
		{"second factor, allow-list and age of passwords in force", "ours", "ours rules"}}
	costs, ratios := make([][]float64, len(cases)), make([][]float64, len(cases))
	conns := make([]*pgx.Conn, len(cases))
	for i, c := range cases {
		if conns[i], err = pgx.Connect(ctx, cluster.DSN("kijko_server", c.database)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conns[i].Close(ctx)) }()
	}
	for round := range rounds + 1 {
		for i, c := range cases {
			cost, err := measure(ctx, conns[i], scripts[c.script])
			if err != nil {
				return err
			}
			// The first round plans the statements.
			if round > 0 {
				costs[i] = append(costs[i], cost)
				ratios[i] = append(ratios[i], costs[0][round-1]/cost)
			}
		}
	}
	for i, c := range cases[1:] {
		r := ratios[i+1]
		slices.Sort(r)
		fmt.Printf("%s: %.3f of the base's speed (median of %d rounds, quarters %.3f and %.3f; best rounds %.0f us / %.0f us)\n",
			c.name, r[len(r)/2], len(r), r[len(r)/4], r[3*len(r)/4], slices.Min(costs[i+1]), slices.Min(costs[0]))
	}
	return nil
}

func furnish(ctx context.Context, dsn, dir, name string, scripts map[string][]string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, kind := range []string{"plain", "rules"} {
		var user, session, org, project string
		if err := conn.QueryRow(ctx, person, kind).Scan(&user, &session, &org); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, `insert into public.projects (organization_id, user_id, name) values ($1, $2, 'Project') returning id::text`, org, user).Scan(&project); err != nil {
			return err
		}
		if kind == "rules" && name == "ours" {
			if _, err := conn.Exec(ctx, strings.NewReplacer("$1", "'"+org+"'", "$2", "'"+user+"'").Replace(rules)); err != nil {
				return err
			}
		}
		claims := fmt.Sprintf(`{"sub":"%s","sid":"%s","org_id":"%s"}`, user, session, org)
		scripts[name+" "+kind] = []string{fmt.Sprintf(`select set_config('transaction_read_only', 'on', true),
			private.enter('%s', '%s', '%s', '%s', 'bench', '10.7.1.2'), set_config('role', 'authenticated', true)`, user, session, org, claims),
			fmt.Sprintf(`select api.get_project('{"projectId": "%s"}')`, project)}
	}
	_, err = conn.Exec(ctx, "analyze")
	return err
}

// measure gives the processor time of a request in microseconds, as the scheduler counts it for the backend. Unlike the time that passes, it
// hardly depends on what else the machine does.
func measure(ctx context.Context, conn *pgx.Conn, script []string) (float64, error) {
	before, err := processorTime(conn)
	if err != nil {
		return 0, err
	}
	for range requests {
		var batch pgx.Batch
		for _, statement := range script {
			batch.Queue(statement)
		}
		if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
			return 0, err
		}
	}
	after, err := processorTime(conn)
	return (after - before) / requests / 1000, err
}

func processorTime(conn *pgx.Conn) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", conn.PgConn().PID()))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return strconv.ParseFloat(first, 64)
}
