// Command feature begins a feature: it writes a table, its functions, policies, two operations, their document, a row of both tenants and a
// test by actor. All of it passes every check of the suite. The output is the example "notes" in the folder beside this file, under another
// name.
//
//	go run ./tests/tools/feature notes
//	go run ./tests/tools/feature -one reply replies
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

//go:embed notes
var example embed.FS

func main() {
	root := flag.String("C", ".", "the repository's folder")
	one := flag.String("one", "", "the word for one of them; default: the name without its s")
	flag.Parse()
	files, err := run(*root, flag.Arg(0), *one)
	if err != nil {
		fmt.Fprintln(os.Stderr, "feature:", err)
		os.Exit(2)
	}
	for _, file := range files {
		fmt.Println("wrote", file)
	}
	fmt.Printf("next: make test-sql match=%s, make generate; docs/adding-a-feature.md explains each file\n", flag.Arg(0))
}

// words turns the example's words into the feature's.
type words struct{ many, one string }

var word = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func newWords(many, one string) (words, error) {
	if one == "" {
		one = strings.TrimSuffix(many, "s")
	}
	switch {
	case !word.MatchString(many) || !word.MatchString(one):
		return words{}, fmt.Errorf("give the feature a name of small letters, such as notes: make feature name=notes")
	case one == many:
		return words{}, fmt.Errorf("%s has no s at its end; say what one of them is called: make feature name=%[1]s one=...", many)
	}
	return words{many, one}, nil
}

// camel is a name as Go and JSON write it: api_key becomes ApiKey.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

func (w words) in(text string) string {
	one, many := camel(w.one), camel(w.many)
	return strings.NewReplacer("NOTE", strings.ToUpper(w.one), "noteId", strings.ToLower(one[:1])+one[1:]+"Id", "Notes", many, "Note", one,
		"notes", w.many, "note", w.one).Replace(text)
}

// run writes the files of a feature and gives their names.
func run(root, many, one string) (written []string, err error) {
	w, err := newWords(many, one)
	if err != nil {
		return nil, err
	}
	number, err := nextMigration(root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "db", "code", many)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("db/code/%s is there already", many)
	}
	for _, file := range []struct{ from, to string }{
		{"migration.sql", fmt.Sprintf("db/migrations/%03d_%s.sql", number, many)},
		{"functions.sql", "db/code/" + many + "/functions.sql"},
		{"api.sql", "db/code/" + many + "/api.sql"},
		{"access.sql", "db/code/" + many + "/access.sql"},
		{"openapi.yaml", "server/openapi/" + many + ".yaml"},
		{"seed.sql", "tests/pgtap/" + many + ".seed.sql"},
		{"pgtap.sql", "tests/pgtap/" + many + ".sql"},
	} {
		text, err := example.ReadFile("notes/" + file.from)
		if err != nil {
			return nil, fmt.Errorf("read the example: %w", err)
		}
		path := filepath.Join(root, filepath.FromSlash(file.to))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("write %s: %w", file.to, err)
		}
		if err := os.WriteFile(path, []byte(w.in(string(text))), 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", file.to, err)
		}
		written = append(written, file.to)
	}
	for _, addition := range []struct {
		path, text string
		at         *regexp.Regexp // the text goes before the match
	}{
		{"db/code/install.sql", "{{ template \"notes/functions.sql\" . }}\n{{ template \"notes/api.sql\" . }}\n{{ template \"notes/access.sql\" . }}\n",
			regexp.MustCompile(`\{\{ template "core/search_path.sql"`)},
		{"db/errors.md", "| `NOTE_NOT_FOUND` | 404 | Unknown, or of another organization. | Check the id. |\n", regexp.MustCompile("(?m)^\\| `[A-Z_]+` \\| 40[5-9] \\|")},
		{"db/code/gdpr/columns.sql", "public.notes erased\n", regexp.MustCompile(`(?m)^\$columns\$, E`)},
	} {
		path := filepath.Join(root, filepath.FromSlash(addition.path))
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", addition.path, err)
		}
		at := addition.at.FindIndex(raw)
		if at == nil {
			return nil, fmt.Errorf("%s has no place like %s", addition.path, addition.at)
		}
		text := string(raw[:at[0]]) + w.in(addition.text) + string(raw[at[0]:])
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", addition.path, err)
		}
		written = append(written, addition.path)
	}
	return written, nil
}

func nextMigration(root string) (int, error) {
	files, err := filepath.Glob(filepath.Join(root, "db", "migrations", "*.sql"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no migrations in %s: run this in the repository's folder", filepath.Join(root, "db", "migrations"))
	}
	// Glob sorts.
	number, err := strconv.Atoi(strings.SplitN(filepath.Base(files[len(files)-1]), "_", 2)[0])
	if err != nil {
		return 0, fmt.Errorf("the number of %s: %w", files[len(files)-1], err)
	}
	return number + 1, nil
}
