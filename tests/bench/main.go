// Command bench prints the table of figures (docs/figures.md): each is a ratio against something that runs beside it in the same run,
// because absolute times differ by a factor of two between machines, and on shared ones between minutes.
//
//	go run ./tests/bench              all
//	go run ./tests/bench http ingest  some
//	go run ./tests/bench ingest graph DIRECTORY  one part of a program, with what it wants to know
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
)

// steps are the programs of each part, with their arguments. The parts realtime, skills, audit, graph, gdpr and retention measure on a database that this program
// makes for them.
var steps = map[string][][]string{
	"http": {{}},
	"realtime": {{"writes"}, {"latency"}, {"-sockets", "1000", "fanout"}, {"-sockets", "5000", "-rounds", "3", "-events", "20", "fanout"},
		{"-sockets", "500", "-events", "200", "burst"}, {"-sockets", "500", "reads"}, {"-sockets", "1000", "idle"},
		{"-sockets", "5000", "-rounds", "3", "idle"}, {"-sockets", "10000", "-rounds", "3", "idle"}, {"-sockets", "1000", "storm"}},
	"ingest": {{}},
	"jobs":   {{}},
	"skills": {{}},
	"audit":  {{}},
	// What other tenants notice of it.
	"retention": {{}},
	"graph":     {{}},
	"gdpr":      {{}},
	// Events of clients, through a server of its own.
	"analytics": {{}},
	// It needs a folder: go run ./tests/bench compression DIR
	"compression": {{}},
	// It needs repositories, or the word speed: go run ./tests/bench retrieval REPO
	"retrieval": {{}},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	wanted := os.Args[1:]
	if len(wanted) == 0 {
		wanted = []string{"http", "realtime", "jobs", "skills", "audit", "graph", "gdpr", "analytics", "retention", "ingest"}
	}
	if len(wanted) > 1 && steps[wanted[0]] != nil && steps[wanted[1]] == nil { // a program and its arguments
		steps[wanted[0]] = [][]string{wanted[1:]}
		wanted = wanted[:1]
	}
	fmt.Printf("%d processors, %s, %s/%s\n", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range wanted {
		if err := part(ctx, name); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func part(ctx context.Context, name string) (err error) {
	if steps[name] == nil {
		return errors.New("this part is unknown: http, realtime, jobs, skills, audit, graph, gdpr, analytics, retention or ingest")
	}
	env := os.Environ()
	if name == "realtime" || name == "skills" || name == "audit" || name == "graph" || name == "gdpr" || name == "retention" {
		dsn, remove, err := database(ctx)
		if err != nil {
			return err
		}
		defer remove()
		env = append(env, "DATABASE_URL="+dsn)
	}
	for _, args := range steps[name] {
		cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./tests/bench/" + name}, args...)...)
		cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, env
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

// database makes a durable, set-up database, which is dropped afterwards.
func database(ctx context.Context) (dsn string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "kijko-bench")
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	cluster, err := devpg.Start(ctx, devpg.Options{DataDir: data})
	if err != nil {
		return "", nil, err
	}
	remove = func() {
		_ = cluster.Stop(context.Background())
		_ = devpg.Remove(data)
		_ = os.RemoveAll(dir)
	}
	if _, err = cluster.EnsureDatabase(ctx, "kijko"); err == nil {
		dsn = cluster.DSN(devpg.Superuser, "kijko")
		err = setup(ctx, dsn)
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return dsn, remove, nil
}

func setup(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	// The benches of sockets count calls of SQL functions.
	for _, sql := range []string{"alter system set track_functions = 'all'", "select pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return db.Setup(ctx, conn)
}
