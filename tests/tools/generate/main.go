// Command generate renews the files that are derived from db/, server/ and tests/ and kept in the repository:
//
//	db/schema.sql            what a database amounts to that was set up from nothing; one line a function
//	supabase/migrations/     the same database as plain SQL files, for psql and the Supabase CLI
//	supabase/tests/          the pgTAP files of tests/pgtap, where "supabase test db" looks for them
//	docs/settings.md         the table of settings, between its two markers
//	worker/ingestion/secret/rules.toml  gitleaks' rules, of the version that go.mod names
//	server/client/           of the client package: the modules in src/services, src/dates.ts, src/modules.ts, the version
//
// With -check it changes nothing and fails, naming the stale files and the command that renews them.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"kijko/db/devpg"
)

// output is what belongs under one folder or file of the repository.
type output struct {
	path    string // relative to the repository, with slashes
	content []byte
}

// managed are the folders in which every file is generated. A file there that is not among the outputs is stale as well.
var managed = []string{"supabase/migrations", "supabase/tests", clientServices}

func main() {
	check := flag.Bool("check", false, "change nothing; fail where a file is stale")
	root := flag.String("C", ".", "the repository's folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, check bool) error {
	outputs, dump, err := generate(ctx, root)
	if err != nil {
		return err
	}
	stale, err := differences(root, outputs)
	if err != nil {
		return err
	}
	if check {
		if len(stale) > 0 {
			return fmt.Errorf("stale: %s\nrenew with: make generate", strings.Join(stale, ", "))
		}
		return nil
	}
	if slices.Contains(stale, "db/schema.sql") {
		if err := rehearse(ctx, root, dump); err != nil {
			return err
		}
	}
	for _, path := range stale {
		fmt.Println("renewed", path)
	}
	return write(root, outputs)
}

// generate makes all outputs from the sources, on a database of its own. It also gives that database's dump.
func generate(ctx context.Context, root string) (outputs []output, dump []byte, err error) {
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true, Progress: say})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	d, err := newDatabase(ctx, cluster)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.drop(context.WithoutCancel(ctx))) }()
	if err := d.setUp(ctx); err != nil {
		return nil, nil, err
	}
	if dump, err = d.dump(ctx); err != nil {
		return nil, nil, err
	}
	schema, err := d.schemaFile(ctx, dump)
	if err != nil {
		return nil, nil, err
	}
	outputs = append(outputs, output{"db/schema.sql", schema})
	migrations, err := d.supabaseMigrations(ctx)
	if err != nil {
		return nil, nil, err
	}
	copies, err := pgtapCopies(root)
	if err != nil {
		return nil, nil, err
	}
	settings, err := settingsPage(root)
	if err != nil {
		return nil, nil, err
	}
	rules, err := gitleaksRules(ctx, root)
	if err != nil {
		return nil, nil, err
	}
	files, err := clientFiles(root)
	if err != nil {
		return nil, nil, err
	}
	return slices.Concat(outputs, migrations, copies, settings, rules, files), dump, nil
}

func say(text string) { fmt.Fprintln(os.Stderr, "generate:", text) }

// differences names the files that are absent, differ, or should not be there; sorted.
func differences(root string, outputs []output) ([]string, error) {
	var stale []string
	wanted := map[string]bool{}
	for _, o := range outputs {
		wanted[o.path] = true
		have, err := os.ReadFile(filepath.Join(root, o.path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("compare: %w", err)
		}
		if err != nil || !bytes.Equal(have, o.content) {
			stale = append(stale, o.path)
		}
	}
	extra, err := unexpected(root, wanted)
	if err != nil {
		return nil, err
	}
	stale = append(stale, extra...)
	slices.Sort(stale)
	return stale, nil
}

func unexpected(root string, wanted map[string]bool) ([]string, error) {
	var extra []string
	for _, dir := range managed {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("compare: %w", err)
		}
		for _, e := range entries {
			if path := dir + "/" + e.Name(); !wanted[path] {
				extra = append(extra, path)
			}
		}
	}
	return extra, nil
}

func write(root string, outputs []output) error {
	wanted := map[string]bool{}
	for _, o := range outputs {
		wanted[o.path] = true
		path := filepath.Join(root, o.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := os.WriteFile(path, o.content, 0o644); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	extra, err := unexpected(root, wanted)
	if err != nil {
		return err
	}
	for _, path := range extra {
		if err := os.Remove(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("remove a file that nothing generates any more: %w", err)
		}
	}
	return nil
}
