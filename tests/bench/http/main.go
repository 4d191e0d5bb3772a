// Command http measures the request path: P1, P4 to P8, Q2 and E1 of the targets. wrk loads the server; pgbench runs the same SQL with
// the same claims beside it. Rounds are interleaved, medians are printed.
//
//	go run ./tests/bench/http              all
//	KIJKO_BENCH_BASE=../before go run ./tests/bench/http read
//	                                       beside the server of another checkout, on the same database in the same rounds (read, write, fair)
//	go run ./tests/bench/http write quota  some of start, read, rules, keys, peer, write, pooler, list, quota, metering, flood, fair, stripe, storm, usage
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/server/api"
)

const (
	rounds  = 5
	clients = 32
	seconds = "3"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench http:", err)
		os.Exit(1)
	}
}

// bench is one database, one server process and one signed-up person.
type bench struct {
	dir      string
	cluster  *devpg.Cluster
	owner    *pgx.Conn
	url      string
	server   *exec.Cmd
	env      []string
	person   struct{ user, session, org, token, claims string }
	project  string
	peerPort string
	// other is the server of another checkout on the same database, measured in the same rounds.
	other     string
	stopOther func()
}

func run(ctx context.Context) (err error) {
	for _, tool := range []string{"wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing; install it with: apt-get install %s", tool, tool)
		}
	}
	dir, err := os.MkdirTemp("", "kijko-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir}
	defer b.close()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"start", b.coldStart}, {"read", b.read}, {"rules", b.rules}, {"keys", b.keys}, {"peer", b.peer}, {"write", b.write}, {"pooler", b.pooler}, {"list", b.list}, {"quota", b.quota}, {"metering", b.metering}, {"flood", b.flood}, {"fair", b.fair}, {"stripe", b.stripe}, {"storm", b.storm}, {"usage", b.usage}} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], step.name) {
			continue
		}
		if err := step.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) close() {
	b.stopServer()
	if b.stopOther != nil {
		b.stopOther()
	}
	if b.owner != nil {
		_ = b.owner.Close(context.Background())
	}
	if b.cluster != nil {
		_ = b.cluster.Stop(context.Background())
		_ = devpg.Remove(filepath.Join(b.dir, "data"))
	}
}

func (b *bench) prepare(ctx context.Context) (err error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, "server"), "./server")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the server: %w", err)
	}
	if b.cluster, err = devpg.Start(ctx, devpg.Options{DataDir: filepath.Join(b.dir, "data")}); err != nil {
		return err
	}
	if _, err := b.cluster.EnsureDatabase(ctx, "kijko"); err != nil {
		return err
	}
	if b.owner, err = pgx.Connect(ctx, b.cluster.DSN(devpg.Superuser, "kijko")); err != nil {
		return err
	}
	if err := db.Setup(ctx, b.owner); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	b.url = "http://127.0.0.1:" + port
	b.env = append(os.Environ(), "DEBUG=true", "KIJKO_ADDR=127.0.0.1:"+port, "KIJKO_RATE_PER_MINUTE=0", "KIJKO_DATA_DIR="+b.dir, "STRIPE_WEBHOOK_SECRET="+stripeSecret,
		"ENCRYPTION_KEY="+base64.StdEncoding.EncodeToString([]byte("a key for the time of the bench!")),
		"DATABASE_URL="+b.cluster.DSN("kijko_server", "kijko"))
	if err := b.startServer(ctx); err != nil {
		return err
	}
	if checkout := os.Getenv("KIJKO_BENCH_BASE"); checkout != "" {
		if b.other, b.stopOther, err = b.startOther(ctx, checkout); err != nil {
			return err
		}
	}
	return b.signUp(ctx)
}

func (b *bench) startServer(ctx context.Context, extra ...string) error {
	log, err := os.Create(filepath.Join(b.dir, "server.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	b.server = exec.CommandContext(ctx, filepath.Join(b.dir, "server"))
	b.server.Env, b.server.Stderr = append(slices.Clone(b.env), extra...), log
	if err := b.server.Start(); err != nil {
		return err
	}
	if err := awaitReady(b.url); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

func awaitReady(url string) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		res, err := http.Get(url + "/health/ready")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return errors.New("the server did not become ready")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (b *bench) stopServer() {
	if b.server == nil || b.server.Process == nil {
		return
	}
	_ = b.server.Process.Signal(syscall.SIGTERM)
	_ = b.server.Wait()
	b.server = nil
}

func (b *bench) signUp(ctx context.Context) error {
	var t struct {
		AccessToken string `json:"access_token"`
	}
	body := `{"email":"bench@example.nl","password":"bench-password","first_name":"Bench","last_name":"Mark"}`
	if err := b.post("/api/v1/auth/signup", "", body, &t); err != nil {
		return err
	}
	b.person.token = t.AccessToken
	err := b.owner.QueryRow(ctx, `select s.user_id::text, s.id::text, s.organization_id::text from private.sessions s join public.users u on u.id = s.user_id
		where u.email = 'bench@example.nl'`).Scan(&b.person.user, &b.person.session, &b.person.org)
	if err != nil {
		return err
	}
	b.person.claims = fmt.Sprintf(`{"sub":"%s","sid":"%s","org_id":"%s","email":"bench@example.nl","role":"authenticated"}`,
		b.person.user, b.person.session, b.person.org)
	var created struct{ Project struct{ ID string } }
	if err := b.post("/api/v1/projects", b.person.token, `{"name":"Bench project","description":"One row to read"}`, &created); err != nil {
		return err
	}
	b.project = created.Project.ID
	return nil
}

func (b *bench) post(path, token, body string, into any) error {
	r, err := http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	if res.StatusCode > 299 {
		return fmt.Errorf("POST %s: %d %s", path, res.StatusCode, raw)
	}
	return json.Unmarshal(raw, into)
}

// coldStart measures E1, from exec to the first 200 of the readiness probe, on a migrated database.
func (b *bench) coldStart(ctx context.Context) error {
	var took []float64
	for range rounds {
		b.stopServer()
		began := time.Now()
		if err := b.startServer(ctx); err != nil {
			return err
		}
		took = append(took, float64(time.Since(began).Milliseconds()))
	}
	report("E1", "cold start to ready, ms", median(took), "must 1000, aim 200")
	return nil
}

func (b *bench) enterSQL(readOnly string) string {
	return fmt.Sprintf(`select private.enter('%s', '%s', '%s', '%s', 'bench', '127.0.0.1'), set_config('transaction_read_only', '%s', true),
		set_config('role', 'authenticated', true)`, b.person.user, b.person.session, b.person.org, b.person.claims, readOnly)
}

// oneLine joins lines: pgbench reads a meta command to the end of its line and a statement to its semicolon. Colons are not variables here.
func pipelined(statements ...string) string {
	return "\\startpipeline\n" + strings.Join(statements, ";\n") + ";\n\\endpipeline\n"
}

// read measures P1 and our half of P3: one row over HTTP beside the same SQL in pgbench.
func (b *bench) read(ctx context.Context) error {
	p := fmt.Sprintf(`{"projectId": "%s"}`, b.project)
	script := pipelined(b.enterSQL("on"), strings.Replace(api.CallSQL("get_project"), "$1", quoted(p), 1))
	var ratios, ours, p99, beside []float64
	for range rounds {
		h, err := b.wrk(ctx, "/api/v1/projects/"+b.project, "")
		if err != nil {
			return err
		}
		if beside, err = b.besideOther(ctx, beside, h, "/api/v1/projects/"+b.project, ""); err != nil {
			return err
		}
		t, err := b.pgbench(ctx, "kijko_server", script, clients)
		if err != nil {
			return err
		}
		ratios, ours, p99 = append(ratios, h.rate/t), append(ours, h.rate), append(p99, h.p99)
	}
	report("P1", fmt.Sprintf("one-row GET / pgbench pipelined (%.0f a second, p99 %.1f ms)", median(ours), median(p99)), median(ratios), "must 0.40, aim 0.55")
	reportBeside("P1", "one-row GET", beside)
	return nil
}

// rules measures the same read in an organization that demands a second factor, addresses of its list and young passwords.
func (b *bench) rules(ctx context.Context) error {
	set := func(plan string) error {
		_, err := b.owner.Exec(ctx, strings.NewReplacer("{org}", b.person.org, "{user}", b.person.user, "{plan}", plan).Replace(`
			update public.subscriptions set plan_id = '{plan}' where organization_id = '{org}';
			update public.users set two_factor_enabled_at = now() where id = '{user}';
			update public.security_policies set require_second_factor = 'all', expiry_days = 90, ip_mode = 'enforce', ip_admin_bypass = false where organization_id = '{org}';
			insert into public.ip_allow_list_entries (organization_id, name, network, is_range)
			select '{org}', 'x', ('127.' || n || '.0.0/16')::cidr, true from generate_series(0, 19) n on conflict do nothing`))
		return err
	}
	var ratios []float64
	for range 2 * rounds {
		var rates []float64
		for _, plan := range []string{"free", "enterprise"} {
			if err := set(plan); err != nil {
				return err
			}
			h, err := b.wrk(ctx, "/api/v1/projects/"+b.project, "")
			if err != nil {
				return err
			}
			rates = append(rates, h.rate)
		}
		ratios = append(ratios, rates[1]/rates[0])
	}
	report("", "one-row GET with all rules of an organization / with none", median(ratios), "must 0.97")
	return set("free")
}

// besideOther adds the rate of a load divided by that of the other checkout's server.
func (b *bench) besideOther(ctx context.Context, ratios []float64, h load, path, lua string) ([]float64, error) {
	if b.other == "" {
		return nil, nil
	}
	o, err := b.wrkAt(ctx, b.other+path, lua, clients)
	if err != nil {
		return nil, err
	}
	return append(ratios, h.rate/o.rate), nil
}

func reportBeside(id, what string, ratios []float64) {
	if len(ratios) > 0 {
		report(id, what+" / the other checkout's", median(ratios), "")
	}
}

// write measures P5 beside a bare pipelined INSERT by the same caller: a skill (one row and its event), and a project, which begins with
// eight rows. The project is also measured beside its own SQL.
func (b *bench) write(ctx context.Context) error {
	if _, err := b.owner.Exec(ctx, `create table if not exists public.bench_rows (id uuid primary key default gen_random_uuid(), organization_id uuid,
		user_id uuid, name text, description text, created_at timestamptz default now()); grant insert on public.bench_rows to authenticated;
		create unique index if not exists bench_rows_name on public.bench_rows (organization_id, lower(name))`); err != nil {
		return err
	}
	bare := pipelined(b.enterSQL("off"), fmt.Sprintf(`insert into public.bench_rows (organization_id, user_id, name) values ('%s', '%s', gen_random_uuid()::text)`,
		b.person.org, b.person.user))
	same := pipelined(b.enterSQL("off"), strings.Replace(api.CallSQL("create_project"), "$1",
		"jsonb_build_object('body', jsonb_build_object('name', gen_random_uuid()::text))", 1))
	random := func(body string) string {
		return `function init() math.randomseed(os.time()) end
request = function()
  return wrk.format("POST", nil, nil, string.format('` + body + `', math.random(2^30), math.random(2^30), math.random(2^30)))
end`
	}
	var skills, projects, equal, rates, beside []float64
	for round := range rounds + 1 {
		skill, err := b.wrk(ctx, "/api/v1/skills", random(`{"name":"%x %x %x","promptTemplate":"Say hello to the people of this house"}`))
		if err != nil {
			return err
		}
		project, err := b.wrk(ctx, "/api/v1/projects", random(`{"name":"%x %x %x"}`))
		if err != nil {
			return err
		}
		if beside, err = b.besideOther(ctx, beside, project, "/api/v1/projects", random(`{"name":"%x %x %x"}`)); err != nil {
			return err
		}
		plain, err := b.pgbench(ctx, "kijko_server", bare, clients)
		if err != nil {
			return err
		}
		own, err := b.pgbench(ctx, "kijko_server", same, clients)
		if err != nil {
			return err
		}
		if round == 0 {
			// Plans made for empty tables are bad for full ones; autovacuum renews the statistics within a minute.
			if _, err := b.owner.Exec(ctx, "analyze"); err != nil {
				return err
			}
			continue
		}
		skills, projects = append(skills, skill.rate/plain), append(projects, project.rate/plain)
		equal, rates = append(equal, project.rate/own), append(rates, project.rate)
	}
	report("P5", "POST of a skill, with its event / pgbench INSERT", median(skills), "must 0.35, aim 0.55")
	report("P5", fmt.Sprintf("POST of a project, eight rows (%.0f a second) / pgbench INSERT of one", median(rates)), median(projects), "must 0.35, aim 0.55")
	report("P5", "the same / its own SQL in pgbench", median(equal), "")
	reportBeside("P5", "POST of a project", beside)
	return nil
}

// pooler measures P8, the same read through PgBouncer in transaction mode, without named statements.
func (b *bench) pooler(ctx context.Context) error {
	if _, err := exec.LookPath("pgbouncer"); err != nil {
		fmt.Println("P8   skipped: pgbouncer is missing; install it with: apt-get install pgbouncer")
		return nil
	}
	direct, err := b.wrk(ctx, "/api/v1/projects/"+b.project, "")
	if err != nil {
		return err
	}
	stop, dsn, err := b.startBouncer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	b.stopServer()
	if err := b.startServer(ctx, "DATABASE_URL="+dsn, "DATABASE_DIRECT_URL="+b.cluster.DSN("kijko_server", "kijko"), "KIJKO_DB_PREPARED=false"); err != nil {
		return err
	}
	through, err := b.wrk(ctx, "/api/v1/projects/"+b.project, "")
	if err != nil {
		return err
	}
	b.stopServer()
	if err := b.startServer(ctx); err != nil {
		return err
	}
	report("P8", fmt.Sprintf("behind PgBouncer / direct (%.0f and %.0f a second)", through.rate, direct.rate), through.rate/direct.rate, "must 0.60, aim 0.80")
	return nil
}

func (b *bench) startBouncer(ctx context.Context) (stop func(), dsn string, err error) {
	config, err := pgx.ParseConfig(b.cluster.DSN("kijko_server", "kijko"))
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	folder, err := os.MkdirTemp("", "kijko-bouncer")
	if err != nil {
		return nil, "", err
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		return nil, "", err
	}
	ini := fmt.Sprintf("[databases]\nkijko = host=%s port=%d dbname=kijko user=kijko_server\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 100\nunix_socket_dir =\nignore_startup_parameters = extra_float_digits\n", config.Host, config.Port, port)
	if err := os.WriteFile(filepath.Join(folder, "bouncer.ini"), []byte(ini), 0o644); err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, "pgbouncer", "-q", filepath.Join(folder, "bouncer.ini"))
	if os.Geteuid() == 0 {
		cmd.Args = []string{"pgbouncer", "-q", "-u", "postgres", filepath.Join(folder, "bouncer.ini")}
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(folder)
	}, "postgres://kijko_server@127.0.0.1:" + port + "/kijko?sslmode=disable", nil
}

// usage measures p50 of GET /billing/usage of an organization with seven days of each metric beside that of a project, over one connection.
func (b *bench) usage(ctx context.Context) error {
	if _, err := b.owner.Exec(ctx, `insert into public.usage_counters (organization_id, metric, period, used, granted, day, day_value)
		select $1::uuid, m, private.usage_period(m, now()), 70, 100, (now() at time zone 'UTC')::date, 10 from unnest(array['api_calls', 'ingestions', 'storage', 'oracle_queries']) m
		on conflict do nothing`, b.person.org); err != nil {
		return err
	}
	if _, err := b.owner.Exec(ctx, `insert into public.usage_days (organization_id, metric, day, value)
		select $1::uuid, m, (now() at time zone 'UTC')::date - d, 10 * d from unnest(array['api_calls', 'ingestions', 'storage', 'oracle_queries']) m, generate_series(1, 30) d
		on conflict do nothing`, b.person.org); err != nil {
		return err
	}
	if _, err := b.owner.Exec(ctx, "analyze"); err != nil {
		return err
	}
	var ratios, ours, one []float64
	for range rounds {
		u, err := b.wrkWith(ctx, "/api/v1/billing/usage", "", 1)
		if err != nil {
			return err
		}
		p, err := b.wrkWith(ctx, "/api/v1/projects/"+b.project, "", 1)
		if err != nil {
			return err
		}
		ratios, ours, one = append(ratios, u.p50/p.p50), append(ours, u.p50), append(one, p.p50)
	}
	report("S3", fmt.Sprintf("p50 of GET /billing/usage (%.2f ms) / of a one-row GET (%.2f ms)", median(ours), median(one)), median(ratios), "must 1.5")
	return nil
}

// list measures P6 and P7, a page of 20 under row-level security.
func (b *bench) list(ctx context.Context) error {
	page := "select api.list_projects('{}')"
	under := pipelined(b.enterSQL("on"), page)
	// The same transaction without the policy: as the owner, who bypasses it, with the same enter and the same set role.
	free := pipelined(strings.Replace(b.enterSQL("on"), "'authenticated'", "'none'", 1), page)
	if _, err := b.listLatency(ctx, 10_000); err != nil {
		return err
	}
	var ratios []float64
	for range rounds {
		a, err := b.pgbench(ctx, "kijko_server", under, 4)
		if err != nil {
			return err
		}
		c, err := b.pgbench(ctx, devpg.Superuser, free, 4)
		if err != nil {
			return err
		}
		ratios = append(ratios, a/c)
	}
	report("P6", "page of 20 by api.list_projects under RLS / the same without RLS", median(ratios), "must 0.90, aim 0.97")

	small, err := b.listLatency(ctx, 10_000)
	if err != nil {
		return err
	}
	large, err := b.listLatency(ctx, 1_000_000)
	if err != nil {
		return err
	}
	report("P7", fmt.Sprintf("p50 of GET /projects at 1,000,000 / at 10,000 projects (%.2f ms / %.2f ms)", large, small), large/small, "must 1.5, aim 1.1")
	return nil
}

// listLatency fills the table to n projects over 1,000 organizations, with a tenth of the first 10,000 in this person's, and gives the p50.
func (b *bench) listLatency(ctx context.Context, n int) (float64, error) {
	sql := fmt.Sprintf(`
		set session_replication_role = replica;
		insert into public.organizations (id, name) select md5('o' || g)::uuid, 'Org ' || g from generate_series(1, 1000) g on conflict do nothing;
		insert into public.projects (organization_id, user_id, name, updated_at)
		select case when g %% 1000 = 0 then '%[1]s' else md5('o' || (g %% 1000))::uuid end, '%[2]s', 'Project ' || g, now() - g * interval '1 second'
		from generate_series((select count(*) from public.projects) + 1, %[3]d) g
		on conflict do nothing;
		set session_replication_role = origin;
		vacuum analyze public.projects`, b.person.org, b.person.user, n)
	for _, statement := range strings.Split(sql, ";\n") {
		if _, err := b.owner.Exec(ctx, statement); err != nil {
			return 0, fmt.Errorf("filling: %w", err)
		}
	}
	var all []float64
	for range rounds {
		h, err := b.wrkWith(ctx, "/api/v1/projects", "", 1)
		if err != nil {
			return 0, err
		}
		all = append(all, h.p50)
	}
	return median(all), nil
}

// quota measures Q2, a metered write beside a plain insert, over 1,000 organizations and in one hot one. The row is the smallest that any
// of our tables has: a key, its organization, an index over it.
func (b *bench) quota(ctx context.Context) error {
	if _, err := b.owner.Exec(ctx, `insert into public.organizations (id, name) select md5('o' || g)::uuid, 'Org ' || g from generate_series(1, 1000) g on conflict do nothing;
		insert into public.subscriptions (organization_id, plan_id) select id, 'enterprise' from public.organizations on conflict do nothing;
		update public.subscriptions set plan_id = 'teams', overrides = '{"ingestions": 1000000000}';
		create table public.bench_plain (id uuid primary key default gen_random_uuid(), organization_id uuid not null references public.organizations,
			at timestamptz not null default now());
		create index on public.bench_plain (organization_id, at)`); err != nil {
		return err
	}
	plain := `insert into public.bench_plain (organization_id) values (md5('o' || (1 + floor(random() * 1000))::int)::uuid)`
	for _, c := range []struct{ name, org, aim string }{
		{"1,000 organizations", "md5('o' || (1 + floor(random() * 1000))::int)::uuid", "must 0.70, aim 0.85"},
		{"one hot organization", "md5('o1')::uuid", "must 0.15, aim 0.50"},
	} {
		metered := "select private.consume_quota(" + c.org + ", 'ingestions', 1)"
		var ratios []float64
		for range rounds {
			a, err := b.pgbench(ctx, devpg.Superuser, pipelined(plain, metered), clients)
			if err != nil {
				return err
			}
			p, err := b.pgbench(ctx, devpg.Superuser, pipelined(plain), clients)
			if err != nil {
				return err
			}
			ratios = append(ratios, a/p)
		}
		report("Q2", "metered / plain insert, "+c.name, median(ratios), c.aim)
	}
	return nil
}

// metering measures what copies of units for OpenMeter cost a metered write: Q3 while there is none, beside the same write without the trigger,
// and Q4 while there is one. The units are those of quota, over 1,000 organizations and in one hot one.
func (b *bench) metering(ctx context.Context) error {
	if _, err := b.owner.Exec(ctx, `insert into public.organizations (id, name) select md5('o' || g)::uuid, 'Org ' || g from generate_series(1, 1000) g on conflict do nothing;
		insert into public.subscriptions (organization_id, plan_id) select id, 'enterprise' from public.organizations on conflict do nothing;
		update public.subscriptions set plan_id = 'teams', overrides = '{"ingestions": 1000000000}'`); err != nil {
		return err
	}
	const (
		off     = "alter table public.usage_counters enable trigger _800_meter; select private.declare_metering(false)"
		without = "alter table public.usage_counters disable trigger _800_meter"
		on      = "alter table public.usage_counters enable trigger _800_meter; select private.declare_metering(true); truncate private.metering_events"
	)
	for _, c := range []struct{ name, org string }{{"1,000 organizations", "md5('o' || (1 + floor(random() * 1000))::int)::uuid"}, {"one hot organization", "md5('o1')::uuid"}} {
		unit := pipelined("select private.consume_quota(" + c.org + ", 'ingestions', 1)")
		rates := map[string][]float64{}
		for range rounds {
			for _, state := range []string{without, off, on} {
				if _, err := b.owner.Exec(ctx, state); err != nil {
					return err
				}
				rate, err := b.pgbench(ctx, devpg.Superuser, unit, clients)
				if err != nil {
					return err
				}
				rates[state] = append(rates[state], rate)
			}
		}
		ratio := func(state string) float64 {
			var ratios []float64
			for i, rate := range rates[state] {
				ratios = append(ratios, rate/rates[without][i])
			}
			return median(ratios)
		}
		report("Q3", "metered write, no OpenMeter / without its trigger, "+c.name, ratio(off), "no more than noise")
		report("Q4", "metered write with a copy for OpenMeter / without its trigger, "+c.name, ratio(on), "")
	}
	return nil
}

type load struct{ rate, p50, p99 float64 }

func (b *bench) wrk(ctx context.Context, path, lua string) (load, error) {
	return b.wrkWith(ctx, path, lua, clients)
}

func (b *bench) wrkWith(ctx context.Context, path, lua string, connections int) (load, error) {
	return b.wrkAt(ctx, b.url+path, lua, connections)
}

func (b *bench) wrkAt(ctx context.Context, url, lua string, connections int) (load, error) {
	args := []string{"-t1", "-c" + strconv.Itoa(connections), "-d" + seconds + "s", "--latency", "-H", "Authorization: Bearer " + b.person.token,
		"-H", "Content-Type: application/json"}
	if lua != "" {
		script := filepath.Join(b.dir, "load.lua")
		if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
			return load{}, err
		}
		args = append(args, "-s", script)
	}
	out, err := exec.CommandContext(ctx, "wrk", append(args, url)...).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if bytes.Contains(out, []byte("Non-2xx")) {
		return load{}, fmt.Errorf("wrk met refusals: %s", out)
	}
	return load{rate: number(out, `Requests/sec:\s+([\d.]+)`), p50: latency(out, "50%"), p99: latency(out, "99%")}, nil
}

func latency(out []byte, percentile string) float64 {
	m := regexp.MustCompile(regexp.QuoteMeta(percentile) + `\s+([\d.]+)(us|ms|s)`).FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64)
	return v * map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(m[2])]
}

func (b *bench) pgbench(ctx context.Context, role, script string, clients int) (float64, error) {
	file := filepath.Join(b.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, b.cluster.Tool("pgbench"), "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "1", "-T", seconds,
		"-f", file, "-d", b.cluster.DSN(role, "kijko"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out[max(0, len(out)-2000):])
	}
	tps := number(out, `tps = ([\d.]+)`)
	if tps == 0 {
		return 0, fmt.Errorf("pgbench said nothing: %s", out)
	}
	return tps, nil
}

func number(out []byte, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64)
	return v
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.SortFunc(v, cmp.Compare)
	return v[len(v)/2]
}

func report(id, what string, value float64, aim string) {
	fmt.Printf("%-4s %-78s %8.2f   %s\n", id, what, value, aim)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
