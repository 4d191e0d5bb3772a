// Command enter measures the cost of the rules of organizations for a request in the database: private.enter and a read of one row, as the
// server sends them, beside the same with the SQL of another checkout. Rounds are interleaved; the medians of their ratios are printed.
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
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db/devpg"
)

const (
	rounds  = 9
	seconds = "1"
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
	scripts := map[string]string{}
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
	for _, c := range []struct{ name, script string }{{"organization without rules", "ours plain"}, {"second factor, allow-list and age of passwords in force", "ours rules"}} {
		var ratios []float64
		for range rounds {
			before, err := pgbench(ctx, cluster.DSN("kijko_server", "base"), scripts["base plain"])
			if err != nil {
				return err
			}
			after, err := pgbench(ctx, cluster.DSN("kijko_server", "ours"), scripts[c.script])
			if err != nil {
				return err
			}
			ratios = append(ratios, after/before)
		}
		slices.Sort(ratios)
		fmt.Printf("%s: %.3f of the base's speed (%.3f to %.3f)\n", c.name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	}
	return nil
}

func furnish(ctx context.Context, dsn, dir, name string, scripts map[string]string) error {
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
		script := fmt.Sprintf(`\startpipeline
select set_config('transaction_read_only', 'on', true), private.enter('%s', '%s', '%s', '%s', 'bench', '10.7.1.2'), set_config('role', 'authenticated', true);
select api.get_project('{"projectId": "%s"}');
\endpipeline
`, user, session, org, claims, project)
		file := filepath.Join(dir, name+kind+".sql")
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			return err
		}
		scripts[name+" "+kind] = file
	}
	_, err = conn.Exec(ctx, "analyze")
	return err
}

var speed = regexp.MustCompile(`tps = ([\d.]+)`)

func pgbench(ctx context.Context, dsn, script string) (float64, error) {
	out, err := exec.CommandContext(ctx, "pgbench", "-n", "-M", "prepared", "-c", "1", "-T", seconds, "-f", script, dsn).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return strconv.ParseFloat(string(speed.FindSubmatch(out)[1]), 64)
}
