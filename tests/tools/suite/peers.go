package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/tests/peers"
)

// peerSteps run the product against real programs that take minutes to build or to fetch. Each prints what it ran, with versions. A program
// that cannot be fetched is a failure.
var peerSteps = []step{
	{"minio", minio},
	{"gitea", gitea},
	{"keycloak", keycloak},
	{"mcp", mcp},
	{"falkordb", falkordb},
	{"sdks", sdks},
	{"neighbors", neighbors},
	{"stripe", stripeMock},
	{"postgres-18", onPostgres("18")},
	{"postgres-17", onPostgres("17")},
	{"postgres-16", onPostgres("16")},
	{"supabase", supabase},
	{"kubernetes", kubernetes},
	{"prometheus", prometheus},
	{"release", previousRelease},
}

// minio runs the tests of worker/storage with MinIO, and with a small disk that gets full.
func minio(ctx context.Context, out io.Writer) (t tally, err error) {
	if err := provide(ctx, out, peers.MinIOProgram); err != nil {
		return t, err
	}
	disk := os.Getenv("KIJKO_TEST_SMALL_DISK")
	if disk == "" {
		var remove func() error
		if disk, remove, err = smallDisk(ctx); err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	return goTest(ctx, out, []string{"KIJKO_TEST_SMALL_DISK=" + disk}, "-tags", "peers", "-count", "1", "-timeout", "10m",
		"-run", "MinIO|FullDisk", "./worker/storage")
}

// smallDisk mounts a small disk in memory.
func smallDisk(ctx context.Context) (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp("", "kijko-small-"); err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	if text, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", dir).CombinedOutput(); err != nil {
		return "", nil, errors.Join(os.Remove(dir), fmt.Errorf("a small disk is needed and could not be mounted (%w: %s): run as root on Linux, or name "+
			"a folder on a file system of 80 MB in KIJKO_TEST_SMALL_DISK", err, bytes.TrimSpace(text)))
	}
	return dir, func() error {
		return errors.Join(exec.CommandContext(context.WithoutCancel(ctx), "umount", dir).Run(), os.Remove(dir))
	}, nil
}

// gitea runs the tests of worker/gitfetch, and those of connected accounts and of pushes, with Gitea.
func gitea(ctx context.Context, out io.Writer) (tally, error) {
	if err := provide(ctx, out, peers.GiteaProgram); err != nil {
		return tally{}, err
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "10m", "-run", "Gitea", "./worker/gitfetch", "./tests/connections", "./tests/pushes")
}

// stripeMock holds each kind of request that the product sends to Stripe against Stripe's published description.
func stripeMock(ctx context.Context, out io.Writer) (tally, error) {
	if err := provide(ctx, out, peers.StripeMockProgram); err != nil {
		return tally{}, err
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "10m", "-run", "StripesDescription", "./tests/billing")
}

// keycloak runs the sign-in tests with Keycloak and our realm.
func keycloak(ctx context.Context, out io.Writer) (tally, error) {
	if err := provide(ctx, out, peers.KeycloakProgram); err != nil {
		return tally{}, err
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "20m", "-run", "ThroughKeycloak", "./tests/identity")
}

// mcp runs the test of connectors with the MCP servers of PyPI, and that of our own server with the clients of PyPI and npm.
func mcp(ctx context.Context, out io.Writer) (tally, error) {
	for _, p := range []peers.Program{peers.MCPProgram, peers.MCPPackages} {
		if err := provide(ctx, out, p); err != nil {
			return tally{}, err
		}
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "10m", "-run", "MCPServersOfPyPI|MCPClientsOf", "./tests/integrations", "./tests/mcp")
}

// falkordb runs the tests of the mirror of graphs alone; being light, they are part of every run too.
func falkordb(ctx context.Context, out io.Writer) (tally, error) {
	if err := provide(ctx, out, peers.FalkorDBProgram); err != nil {
		return tally{}, err
	}
	return goTest(ctx, out, nil, "-count", "1", "-timeout", "10m", "-run", "FalkorDB|Mirror", "./tests/graph")
}

// sdks compares what Langfuse and OpenMeter get with what their own SDKs send.
func sdks(ctx context.Context, out io.Writer) (tally, error) {
	if err := provide(ctx, out, peers.SDKsProgram); err != nil {
		return tally{}, err
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "10m", "-run", "SDK", "./tests/tracing", "./tests/metering")
}

// neighbors runs the tests of the outbox with Zulip's client and the store of Agent-Lightning, of PyPI.
func neighbors(ctx context.Context, out io.Writer) (t tally, err error) {
	if err := errors.Join(provide(ctx, out, peers.ZulipProgram), provide(ctx, out, peers.LightningProgram)); err != nil {
		return t, err
	}
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "10m", "-run", "NeighborsOfPyPI", "./tests/outbox")
}

// previousRelease upgrades an installation of the release before to today's, with programs of both at work.
func previousRelease(ctx context.Context, out io.Writer) (tally, error) {
	return goTest(ctx, out, nil, "-tags", "peers", "-count", "1", "-timeout", "15m", "./tests/upgrades")
}

// provide builds a peer and says its version.
func provide(ctx context.Context, out io.Writer, p peers.Program) error {
	_, err := p.Path(ctx, out)
	if err == nil {
		_, err = fmt.Fprintf(out, "%s %s\n", p.Name, p.Version)
	}
	return err
}

// goOnPostgres are the tests in Go that run on each version: set-up of databases, the path of a request, and a test or two of every part.
var goOnPostgres = []string{"-count", "1", "-p", "2", "-timeout", "20m", "-run",
	"^Test(Kept|Ephemeral|Request|Identity|TheNextBorrower|IdempotencyKey|Rates|Health|ARequestIsOneRoundTrip|Setup|Projects|Uploads|Quota|Idempotency|" +
		"Skills|SkillLists|Executions|Habits|Statistics|Notifications|Mail|TenantsAreIsolated|SignUp|LogIn|Refresh|IngestionCancel|IngestionOfSeveralSources|" +
		"RealtimeOrder|RealtimeHandshake|RealtimeReplayOverREST|ConnectionsThatDie)",
	"./db/devpg", "./server/api", "./tests/..."}

// onPostgres runs the tests in SQL and some in Go on the newest release of a major version.
func onPostgres(major string) func(context.Context, io.Writer) (tally, error) {
	return func(ctx context.Context, out io.Writer) (t tally, err error) {
		var printed, said bytes.Buffer
		cmd := exec.CommandContext(ctx, "go", "run", "./tests/tools/postgres", "get", major)
		cmd.Stdout, cmd.Stderr = &printed, &said
		if err := cmd.Run(); err != nil {
			return t, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(said.Bytes()))
		}
		bin := strings.TrimSpace(printed.String())
		_, _ = fmt.Fprintln(out, bin)
		before, was := os.LookupEnv(devpg.TestVariable)
		if err := os.Setenv(devpg.TestVariable, bin); err != nil {
			return t, fmt.Errorf("choose PostgreSQL %s: %w", major, err)
		}
		defer func() {
			if was {
				err = errors.Join(err, os.Setenv(devpg.TestVariable, before))
			} else {
				err = errors.Join(err, os.Unsetenv(devpg.TestVariable))
			}
		}()
		if t, err = sqlTests(ctx, out); err != nil {
			return t, err
		}
		// The tests in SQL record the called functions for this folder; these runs do not need the record.
		inGo, err := goTest(ctx, out, []string{devpg.CallsVariable + "="}, goOnPostgres...)
		t.add(inGo)
		return t, err
	}
}

// supabase runs the parts of Supabase's CLI that need no containers. It pushes all migrations to an empty database, setup continues from
// there, and the CLI's linter finds no error.
func supabase(ctx context.Context, out io.Writer) (t tally, err error) {
	const folder = "tests/tools/supabase"
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	install.Dir = folder
	if text, err := install.CombinedOutput(); err != nil {
		return t, fmt.Errorf("Supabase's CLI cannot be had: npm ci: %w\n%s", err, text)
	}
	program, err := filepath.Abs(filepath.Join(folder, "node_modules", ".bin", "supabase"))
	if err != nil {
		return t, fmt.Errorf("resolve %s: %w", folder, err)
	}
	say := func(s string) { _, _ = fmt.Fprintln(out, s) }
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true, Progress: say})
	if err != nil {
		return t, err
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, cluster.Stop(after)) }()
	if err := cluster.EnsureExtension(ctx, "plpgsql_check", say); err != nil {
		return t, err
	}
	name := fmt.Sprintf("supabase_%d", os.Getpid())
	if _, err := cluster.EnsureDatabase(ctx, name); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, cluster.DropDatabase(after, name)) }()
	cli := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append(os.Environ(), "SUPABASE_TELEMETRY_DISABLED=1")
		var said bytes.Buffer
		cmd.Stderr = &said
		text, err := cmd.Output()
		if err != nil {
			return text, fmt.Errorf("%w\n%s", err, bytes.TrimSpace(said.Bytes()))
		}
		return text, nil
	}
	version, err := cli("--version")
	if err != nil {
		return t, err
	}
	say(fmt.Sprintf("supabase %s, PostgreSQL %d", bytes.TrimSpace(version), cluster.Version()))
	address := cluster.TCPDSN(name)
	for _, check := range []struct {
		name string
		run  func() error
	}{
		{"db push applies every migration to an empty database", func() error {
			_, err := cli("db", "push", "--yes", "--db-url", address)
			return err
		}},
		{"migration list knows all of them as applied", func() error { return migrationsApplied(cli, address) }},
		{"kijko-db setup goes on from there", func() error { return setup(ctx, cluster.DSN(devpg.Superuser, name)) }},
		{"db lint finds no error in our schemas", func() error { return lintFindsNothing(cli, address) }},
		{"the files of supabase/tests pass one after another", func() error { return supabaseTests(ctx, cluster, name) }},
	} {
		if err := check.run(); err != nil {
			say("not ok: " + check.name + ": " + err.Error())
			t.failed++
			continue
		}
		say("ok: " + check.name)
		t.passed++
	}
	return t, nil
}

// supabaseTests runs the files that "supabase test db" runs, in its order, on one database.
func supabaseTests(ctx context.Context, cluster *devpg.Cluster, name string) error {
	if err := cluster.EnsurePgTAP(ctx, func(string) {}); err != nil {
		return err
	}
	files, err := filepath.Glob("supabase/tests/*.sql")
	if err != nil {
		return fmt.Errorf("find tests: %w", err)
	}
	slices.Sort(files)
	for _, file := range files {
		r := runFile(ctx, cluster, name, file)
		if r.failed > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s", file, strings.Join(r.notes, "\n")))
		}
	}
	return err
}

func setup(ctx context.Context, dsn string) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return db.Setup(ctx, conn)
}

func migrationsApplied(cli func(...string) ([]byte, error), address string) error {
	files, err := filepath.Glob("supabase/migrations/*.sql")
	if err != nil {
		return fmt.Errorf("find migrations: %w", err)
	}
	listed, err := cli("migration", "list", "--db-url", address)
	if err != nil {
		return err
	}
	for _, file := range files {
		number, _, _ := strings.Cut(filepath.Base(file), "_")
		if bytes.Count(listed, []byte(number)) != 2 { // once local, once remote
			return fmt.Errorf("%s is not applied:\n%s", number, listed)
		}
	}
	return nil
}

// lintFindsNothing shows errors and security findings; the rest is taste.
func lintFindsNothing(cli func(...string) ([]byte, error), address string) error {
	text, err := cli("db", "lint", "--db-url", address, "--schema", "public,api,private,jobs", "--level", "warning", "--fail-on", "error")
	at := bytes.IndexByte(text, '[')
	if at < 0 {
		return err
	}
	var found []struct {
		Function string
		Issues   []struct{ Level, Message string }
	}
	if jerr := json.Unmarshal(text[at:], &found); jerr != nil {
		return errors.Join(err, fmt.Errorf("read what db lint says: %w", jerr))
	}
	for _, f := range found {
		for _, i := range f.Issues {
			if i.Level == "error" || strings.HasPrefix(i.Level, "security") || strings.Contains(i.Message, "not SQL injection safe") {
				err = errors.Join(err, fmt.Errorf("%s: %s", f.Function, i.Message))
			}
		}
	}
	return err
}
