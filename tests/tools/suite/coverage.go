package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
)

// required is the least share of statements, in percent, for the packages that carry the product.
const required = 80.0

// duties says which packages carry which part of the product. A package belongs to the first duty
// with a matching prefix.
var duties = []struct {
	name     string
	prefixes []string
}{
	{"identity", []string{"kijko/server/auth"}},
	{"realtime", []string{"kijko/server/realtime"}},
	{"request path", []string{"kijko/server"}},
	{"ingestion", []string{"kijko/worker"}},
}

// coverage shows the share of statements by package and the SQL functions that no test calls.
func coverage(ctx context.Context, out io.Writer) (tally, error) {
	var t tally
	packages, err := readProfiles(profileFile, racedProfileFile)
	if err != nil {
		return t, err
	}
	t.add(authorizationStatements(out, packages))
	uncalled, all, err := uncalledFunctions(ctx)
	if err != nil {
		return t, err
	}
	fmt.Fprintf(out, "SQL functions: %d of %d called by a test\n", all-len(uncalled), all)
	if len(uncalled) > 0 {
		fmt.Fprintf(out, "not ok: no test calls %s\n", strings.Join(uncalled, ", "))
		t.failed++
	} else {
		t.passed++
	}
	return t, nil
}

// share counts statements.
type share struct{ covered, total int }

func (s share) percent() float64 {
	if s.total == 0 {
		return 100
	}
	return 100 * float64(s.covered) / float64(s.total)
}

// readProfiles reads the profiles of a run as one.
func readProfiles(names ...string) (map[string]share, error) {
	var all []io.Reader
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%w; write it with: make test-go", err)
		}
		defer func() { _ = f.Close() }()
		all = append(all, f)
	}
	return readProfile(io.MultiReader(all...))
}

// readProfile sums a profile up by package. The same block appears once for each test program that
// contains it; it is covered when one of them ran it.
func readProfile(r io.Reader) (map[string]share, error) {
	type block struct {
		statements int
		covered    bool
	}
	blocks := map[string]block{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		fields := strings.Fields(line) // file.go:1.2,3.4 statements count
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: not a line of a coverage profile: %q", profileFile, line)
		}
		statements, serr := strconv.Atoi(fields[1])
		count, cerr := strconv.Atoi(fields[2])
		if err := errors.Join(serr, cerr); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", profileFile, line, err)
		}
		b := blocks[fields[0]]
		blocks[fields[0]] = block{statements, b.covered || count > 0}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", profileFile, err)
	}
	packages := map[string]share{}
	for place, b := range blocks {
		file, _, _ := strings.Cut(place, ":")
		s := packages[path.Dir(file)]
		s.total += b.statements
		if b.covered {
			s.covered += b.statements
		}
		packages[path.Dir(file)] = s
	}
	return packages, nil
}

// authorizationStatements prints the table and counts one check a duty.
func authorizationStatements(out io.Writer, packages map[string]share) tally {
	var t tally
	sums := map[string]share{}
	fmt.Fprintf(out, "%-40s %-14s %10s\n", "package", "duty", "statements")
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		duty, s := dutyOf(name), packages[name]
		fmt.Fprintf(out, "%-40s %-14s %8.1f %%\n", name, duty, s.percent())
		sum := sums[duty]
		sums[duty] = share{sum.covered + s.covered, sum.total + s.total}
	}
	for _, d := range duties {
		s, known := sums[d.name]
		switch {
		case !known:
			fmt.Fprintf(out, "not ok: %s: no package was tested\n", d.name)
			t.failed++
		case s.percent() < required:
			fmt.Fprintf(out, "not ok: %s: %.1f %% of %d statements, required are %.0f %%\n", d.name, s.percent(), s.total, required)
			t.failed++
		default:
			fmt.Fprintf(out, "ok: %s: %.1f %% of %d statements\n", d.name, s.percent(), s.total)
			t.passed++
		}
	}
	return t
}

func dutyOf(name string) string {
	for _, d := range duties {
		for _, p := range d.prefixes {
			if name == p || strings.HasPrefix(name, p+"/") {
				return d.name
			}
		}
	}
	return ""
}

// uncalledFunctions compares the functions of a new database with those that the test processes
// recorded. Plain SQL functions that PostgreSQL may inline into their caller are left out: it does
// not count their calls.
func uncalledFunctions(ctx context.Context) (uncalled []string, all int, err error) {
	called, err := recordedCalls(callsFolder)
	if err != nil {
		return nil, 0, err
	}
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true})
	if err != nil {
		return nil, 0, err
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, cluster.Stop(after)) }()
	name := fmt.Sprintf("catalog_%d", os.Getpid())
	if _, err := cluster.EnsureDatabase(ctx, name); err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, cluster.DropDatabase(after, name)) }()
	functions, err := catalogFunctions(ctx, cluster.DSN(devpg.Superuser, name))
	if err != nil {
		return nil, 0, err
	}
	for _, f := range functions {
		if !called[f] {
			uncalled = append(uncalled, f)
		}
	}
	return uncalled, len(functions), nil
}

func catalogFunctions(ctx context.Context, dsn string) (names []string, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := db.Setup(ctx, conn); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `
		select distinct n.nspname || '.' || p.proname
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
		where n.nspname in ('public', 'api', 'private', 'jobs')
		  and not (l.lanname = 'sql' and not p.prosecdef and p.proconfig is null)
		  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
		order by 1`)
	if err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	return names, nil
}

// recordedCalls reads the records that devpg.DropDatabase left in the folder.
func recordedCalls(folder string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.calls"))
	if err != nil {
		return nil, fmt.Errorf("find recorded calls: %w", err)
	}
	called := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read recorded calls: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			called[strings.TrimSpace(line)] = true
		}
	}
	return called, nil
}
