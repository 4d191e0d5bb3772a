// Command retrieval measures how well passages are found for questions (docs/retrieval.md). Each argument is a Git repository. Questions are the
// first sentences of comments of functions, without the function's own name; the answer is the chunk with the function, whose comment is taken
// out before the repository is ingested. Printed are recall at 1, 5 and 12 and the mean reciprocal rank, beside plain full-text search of
// Postgres with the configuration english, and beside BM25 by bleve (see bm25), both over the same chunks with their paths. A last line has
// BM25 over names that are split as in our index.
//
//	go run ./tests/bench retrieval REPO...
//	go run ./tests/bench retrieval speed [chunks]
//
// speed measures the time of a question among 100,000 chunks, see speed.go.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/worker/ingestion"
)

// deep is how many results of each system are looked at for the mean reciprocal rank.
const deep = 50

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	args := os.Args[1:]
	var err error
	switch {
	case len(args) == 0:
		err = errors.New("arguments are Git repositories, or speed")
	case args[0] == "speed":
		err = speed(ctx, args[1:])
	default:
		for _, repository := range args {
			if err = errors.Join(err, quality(ctx, repository)); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench retrieval:", err)
		os.Exit(1)
	}
}

// chunk is a chunk of the index that has a body.
type chunk struct {
	Path       string
	Content    string
	Names      []string
	Start, End int
	Tokens     int
	Section    string
}

func quality(ctx context.Context, repository string) (err error) {
	files, err := read(ctx, repository)
	if err != nil {
		return err
	}
	asked, err := questions(ctx, files)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kijko-bench-retrieval-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBed(ctx)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	if err := b.ingest(ctx, dir, files); err != nil {
		return err
	}
	chunks, err := b.chunks(ctx)
	if err != nil {
		return err
	}
	// A question counts if its answer is in the index.
	asked = slices.DeleteFunc(asked, func(q question) bool {
		return !slices.ContainsFunc(chunks, func(c chunk) bool { return holds(q, c.Path, c.Start, c.End) })
	})
	fmt.Printf("%s: %d files, %d chunks, %d questions\n", strings.TrimSuffix(filepath.Base(filepath.Dir(repository+"/")), "/"), len(files), len(chunks), len(asked))
	if path := os.Getenv("BENCH_DUMP"); path != "" {
		data, err := json.Marshal(map[string]any{"chunks": chunks, "questions": asked})
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	var ours [][]bool
	for _, q := range asked {
		list, _, err := b.retrieve(ctx, q.Text, deep)
		if err != nil {
			return err
		}
		var hits []bool
		for _, p := range list {
			hits = append(hits, holds(q, p.Path, p.StartLine, p.EndLine))
		}
		ours = append(ours, hits)
		if os.Getenv("BENCH_VERBOSE") != "" && !slices.Contains(hits[:min(12, len(hits))], true) {
			fmt.Printf("    missed %s\n", q)
		}
	}
	report("Kijko", ours)
	plain, err := b.plain(ctx, chunks, asked)
	if err != nil {
		return err
	}
	report("Postgres, english", plain)
	for _, yardstick := range []struct {
		name string
		text func(chunk) string
		ask  func(string) string
	}{
		{"BM25 (bleve, en)", func(c chunk) string { return c.Path + "\n" + c.Content }, func(q string) string { return q }},
		{"BM25, split names", func(c chunk) string { return split(c.Path + "\n" + c.Content) }, split},
	} {
		hits, err := bm25(ctx, chunks, asked, yardstick.text, yardstick.ask)
		if err != nil {
			return err
		}
		report(yardstick.name, hits)
	}
	return nil
}

// holds reports whether a stretch of a file is the answer.
func holds(q question, path string, start, end int) bool {
	return q.Path == path && start <= q.Line && q.Line <= end
}

func report(name string, hits [][]bool) {
	at := func(n int) float64 {
		found := 0
		for _, h := range hits {
			if slices.Contains(h[:min(n, len(h))], true) {
				found++
			}
		}
		return float64(found) / float64(max(1, len(hits)))
	}
	reciprocal := 0.
	for _, h := range hits {
		if i := slices.Index(h, true); i >= 0 {
			reciprocal += 1 / float64(i+1)
		}
	}
	fmt.Printf("  %-20s recall at 1 %.2f, at 5 %.2f, at 12 %.2f; mean reciprocal rank %.2f\n", name, at(1), at(5), at(12), reciprocal/float64(max(1, len(hits))))
}

func (b *bed) chunks(ctx context.Context) ([]chunk, error) {
	rows, err := b.conn.Query(ctx, `select r.path, c.content, array(select jsonb_array_elements_text(coalesce(c.metadata -> 'names', '[]'))), c.start_line, c.end_line, c.tokens,
			coalesce(c.metadata ->> 'section', '')
		from public.project_indexes i join public.chunks c on c.organization_id = i.organization_id and c.run_id = i.run_id
		join public.run_files r on r.organization_id = i.organization_id and r.run_id = i.run_id and r.id = c.file_id
		where i.project_id = $1 and c.reference_of is null order by r.path, c.position`, b.project)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []chunk
	for rows.Next() {
		var c chunk
		if err := rows.Scan(&c.Path, &c.Content, &c.Names, &c.Start, &c.End, &c.Tokens, &c.Section); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// plain is Postgres's own full-text search: any of the words, the best rank that it has for chunks of different length.
func (b *bed) plain(ctx context.Context, chunks []chunk, asked []question) ([][]bool, error) {
	if _, err := b.conn.Exec(ctx, "create temporary table plain (n integer, terms tsvector)"); err != nil {
		return nil, err
	}
	for i, c := range chunks {
		if _, err := b.conn.Exec(ctx, "insert into plain select $1, to_tsvector('english', $2)", i, c.Path+"\n"+c.Content); err != nil {
			return nil, err
		}
	}
	var all [][]bool
	for _, q := range asked {
		rows, err := b.conn.Query(ctx, `select p.n from plain p, (select replace(plainto_tsquery('english', $1)::text, '&', '|')::tsquery as q) q
			where p.terms @@ q.q order by ts_rank(p.terms, q.q, 1) desc, p.n limit $2`, q.Text, deep)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return nil, err
		}
		all = append(all, hitsOf(q, chunks, found))
	}
	return all, nil
}

func hitsOf(q question, chunks []chunk, found []int) []bool {
	var hits []bool
	for _, n := range found {
		hits = append(hits, holds(q, chunks[n].Path, chunks[n].Start, chunks[n].End))
	}
	return hits
}

// split writes names as their words, so that bleve's analyzer sees them: parseURL is parse url.
func split(text string) string {
	var b strings.Builder
	for _, name := range ingestion.Names(text) {
		for _, w := range name {
			b.WriteString(w)
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// bm25 asks the program bm25.
func bm25(ctx context.Context, chunks []chunk, asked []question, text func(chunk) string, ask func(string) string) ([][]bool, error) {
	in := struct {
		Documents []string `json:"documents"`
		Questions []string `json:"questions"`
		Limit     int      `json:"limit"`
	}{Limit: deep}
	for _, c := range chunks {
		in.Documents = append(in.Documents, text(c))
	}
	for _, q := range asked {
		in.Questions = append(in.Questions, ask(q.Text))
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "run", ".")
	cmd.Dir, cmd.Stdin, cmd.Stderr = "tests/bench/retrieval/bm25", bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bm25: %w", err)
	}
	var places [][]int
	if err := json.Unmarshal(out, &places); err != nil {
		return nil, fmt.Errorf("bm25: %w", err)
	}
	var all [][]bool
	for i, q := range asked {
		all = append(all, hitsOf(q, chunks, places[i]))
	}
	return all, nil
}
