package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/tests/pgtap"
)

const pgtapFolder = "tests/pgtap"

// helpersFile, in that folder, is no test: it is loaded before each of them.
const helpersFile = "helpers.sql"

// checkFile needs an extension that PostgreSQL in other versions than the system's may lack.
const checkFile = "01_plpgsql_check.sql"

// sqlTests runs each file of tests/pgtap with psql, each in its own copy of a database that was set
// up from nothing.
func sqlTests(ctx context.Context, out io.Writer) (t tally, err error) {
	files, err := filepath.Glob(filepath.Join(pgtapFolder, "*.sql"))
	if err != nil {
		return t, fmt.Errorf("find tests: %w", err)
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		wanted := func(part string) bool { return strings.Contains(filepath.Base(f), part) }
		return filepath.Base(f) == helpersFile || strings.HasSuffix(f, pgtap.Suffix) || !slices.ContainsFunc(strings.Split(*match, ","), wanted)
	})
	if len(files) == 0 {
		return t, fmt.Errorf("no test in %s", pgtapFolder)
	}
	if err := os.MkdirAll(callsFolder, 0o755); err != nil {
		return t, fmt.Errorf("make %s: %w", callsFolder, err)
	}
	if err := os.Setenv(devpg.CallsVariable, callsFolder); err != nil {
		return t, fmt.Errorf("say where called functions are recorded: %w", err)
	}
	say := func(s string) { fmt.Fprintln(out, s) }
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true, Progress: say})
	if err != nil {
		return t, err
	}
	say(fmt.Sprintf("PostgreSQL %d", cluster.Version()))
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, cluster.Stop(after)) }()
	if err := cluster.EnsurePgTAP(ctx, say); err != nil {
		return t, err
	}
	if os.Getenv(devpg.TestVariable) != "" {
		offered, err := cluster.Offers(ctx, "plpgsql_check")
		if err != nil {
			return t, err
		}
		if !offered {
			say("left out, since this PostgreSQL has no plpgsql_check: " + checkFile)
			files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == checkFile })
		}
	} else if err := cluster.EnsureExtension(ctx, "plpgsql_check", say); err != nil {
		return t, err
	}
	template := fmt.Sprintf("pgtap_%d", os.Getpid())
	defer func() { err = errors.Join(err, cluster.DropDatabase(after, template)) }()
	if err := makeTemplate(ctx, cluster, template); err != nil {
		return t, err
	}
	return t, runFiles(ctx, cluster, template, files, func(file string, r tapResult) {
		t.add(r.tally)
		r.print(out, file)
	})
}

// runFiles runs as many files at a time as there are processors, and reports the results in the order of the files.
func runFiles(ctx context.Context, cluster *devpg.Cluster, template string, files []string, tell func(string, tapResult)) error {
	type outcome struct {
		result tapResult
		err    error
	}
	outcomes := make([]chan outcome, len(files))
	places := make(chan struct{}, runtime.NumCPU())
	// A database cannot be copied by two sessions at once.
	var copying sync.Mutex
	for i, file := range files {
		outcomes[i] = make(chan outcome, 1)
		go func() {
			places <- struct{}{}
			defer func() { <-places }()
			r, err := runCopy(ctx, cluster, template, fmt.Sprintf("%s_%d", template, i), file, &copying)
			outcomes[i] <- outcome{r, err}
		}()
	}
	var errs []error
	for i, file := range files {
		o := <-outcomes[i]
		errs = append(errs, o.err)
		if o.err == nil {
			tell(file, o.result)
		}
	}
	return errors.Join(errs...)
}

// makeTemplate sets a database up and adds pgTAP the way the Supabase CLI does, in schema extensions and on the search path of every role.
func makeTemplate(ctx context.Context, cluster *devpg.Cluster, name string) (err error) {
	if _, err := cluster.EnsureDatabase(ctx, name); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, cluster.DSN(devpg.Superuser, name))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := db.Setup(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `create extension if not exists pgtap with schema extensions`); err != nil {
		return fmt.Errorf("create extension pgtap: %w", err)
	}
	return nil
}

// runCopy runs one file in a copy of the template.
func runCopy(ctx context.Context, cluster *devpg.Cluster, template, name, file string, copying *sync.Mutex) (r tapResult, err error) {
	admin, err := pgx.Connect(ctx, cluster.DSN(devpg.Superuser, "postgres"))
	if err != nil {
		return r, fmt.Errorf("connect: %w", err)
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, admin.Close(after)) }()
	copySQL := fmt.Sprintf("create database %s template %s", pgx.Identifier{name}.Sanitize(), pgx.Identifier{template}.Sanitize())
	copying.Lock()
	_, err = admin.Exec(ctx, copySQL)
	copying.Unlock()
	if err != nil {
		return r, fmt.Errorf("copy the template: %w", err)
	}
	defer func() { err = errors.Join(err, cluster.DropDatabase(after, name)) }()
	return runFile(ctx, cluster, name, file), nil
}

// runFile runs one file with psql, after the helpers that stand beside it.
func runFile(ctx context.Context, cluster *devpg.Cluster, database, file string) tapResult {
	raw, err := os.ReadFile(file)
	if err != nil {
		return parseTAP(&bytes.Buffer{}, err)
	}
	script, err := pgtap.Expand(string(raw))
	if err != nil {
		return parseTAP(&bytes.Buffer{}, err)
	}
	args := []string{"-XqAt", "-v", "ON_ERROR_STOP=1"}
	if helpers := filepath.Join(filepath.Dir(file), helpersFile); exists(helpers) {
		args = append(args, "-f", helpers)
	}
	cmd := exec.CommandContext(ctx, cluster.Tool("psql"), append(args, "-f", "-", cluster.DSN(devpg.Superuser, database))...)
	cmd.Env = append(os.Environ(), `PGOPTIONS=-c search_path=public,extensions -c client_min_messages=warning`)
	cmd.Stdin = strings.NewReader(script)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	failure := cmd.Run()
	return parseTAP(&text, failure)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tapResult is the outcome of one file.
type tapResult struct {
	tally
	notes []string // failures with their diagnostics, and faults of the file as a whole
}

var (
	planLine = regexp.MustCompile(`^1\.\.(\d+)`)
	testLine = regexp.MustCompile(`^(not )?ok\b`)
	todoMark = regexp.MustCompile(`(?i)# (todo|skip)\b`)
)

// parseTAP reads a file's output. A file that runs a number of tests other than the planned one, or whose psql failed, has failed as a
// whole.
func parseTAP(text io.Reader, failure error) tapResult {
	var r tapResult
	planned, seen := -1, 0
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, 64<<10), 16<<20)
	afterFailure := false
	for lines.Scan() {
		line := lines.Text()
		test, plan := testLine.FindStringSubmatch(line), planLine.FindStringSubmatch(line)
		switch {
		case plan != nil:
			if n, err := strconv.Atoi(plan[1]); err == nil {
				planned = n
			}
		case test != nil:
			seen++
			afterFailure = test[1] != "" && !todoMark.MatchString(line)
			if afterFailure {
				r.failed++
				r.notes = append(r.notes, line)
			} else {
				r.passed++
			}
		case strings.HasPrefix(line, "Bail out!"), strings.Contains(line, "ERROR:"), strings.Contains(line, "FATAL:"), afterFailure:
			r.notes = append(r.notes, line)
		}
	}
	whole := ""
	switch {
	case lines.Err() != nil:
		whole = "output cannot be read: " + lines.Err().Error()
	case failure != nil:
		whole = "psql: " + failure.Error()
	case planned < 0:
		whole = "no plan: the file must call plan() and finish()"
	case planned != seen:
		whole = fmt.Sprintf("%d tests planned, %d run", planned, seen)
	}
	if whole != "" {
		r.failed++
		r.notes = append(r.notes, whole)
	}
	return r
}

func (r tapResult) print(out io.Writer, file string) {
	word := "pass"
	if r.failed > 0 {
		word = "FAIL"
	}
	fmt.Fprintf(out, "%s %s: %d passed, %d failed\n", word, file, r.passed, r.failed)
	for _, n := range r.notes {
		fmt.Fprintln(out, "    "+n)
	}
}
