package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/embed"
)

const (
	perFile   = 20
	textWords = 160 // words of a chunk, with repetitions
	words     = 60_000
	rounds    = 120 // questions
)

// speed measures questions among many chunks with embeddings: through the operation's function as the owner of the context, under row-level
// security; the same by a superuser, for whom no policy holds; and beside an exact scan, which ranks every chunk that has any of the words. Words
// are distributed as in texts (Zipf), a question has common and rare ones.
func speed(ctx context.Context, args []string) error {
	n := 100_000
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < perFile {
			return errors.New("speed takes the number of chunks")
		}
	}
	b, err := newBed(ctx)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	if err := b.fill(ctx, n); err != nil {
		return err
	}
	chance := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same questions each time
	draw := zipf(chance)
	var asked []string
	for range rounds {
		var q []string
		for range 4 + chance.IntN(6) {
			q = append(q, name(draw()))
		}
		asked = append(asked, strings.Join(q, " "))
	}
	var caller, free, exact []time.Duration
	for i, q := range asked {
		_, took, err := b.retrieve(ctx, q, 12)
		if err != nil {
			return err
		}
		_, without, err := b.unrestricted(ctx, q, 12)
		if err != nil {
			return err
		}
		if i < 10 {
			continue // the first ones read from disk
		}
		caller, free = append(caller, took), append(free, without)
		if i%12 == 0 {
			took, err := b.scan(ctx, q)
			if err != nil {
				return err
			}
			exact = append(exact, took)
		}
	}
	fmt.Printf("speed: %d chunks with embeddings: p50 %.1f ms, p99 %.1f ms; without policies p50 %.1f ms (ratio of speeds %.2f); exact scan p50 %.0f ms (%.0f times as long)\n",
		n, ms(percentile(caller, 50)), ms(percentile(caller, 99)), ms(percentile(free, 50)), ms(percentile(free, 50))/ms(percentile(caller, 50)),
		ms(percentile(exact, 50)), ms(percentile(exact, 50))/ms(percentile(caller, 50)))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// zipf draws numbers of words: the first is the most common.
func zipf(chance *rand.Rand) func() int {
	z := rand.NewZipf(chance, 1.07, 2, words-1)
	return func() int { return int(z.Uint64()) }
}

// name makes a word of letters from its number.
func name(n int) string {
	const consonants, vowels = "bdfgklmnprstvz", "aeiou"
	var b strings.Builder
	for n += 7; n > 0 || b.Len() < 4; n /= 70 {
		b.WriteByte(consonants[n%14])
		b.WriteByte(vowels[n/14%5])
	}
	return b.String() + "x"
}

// fill makes the index of a context: what an ingestion of such texts leaves behind.
func (b *bed) fill(ctx context.Context, n int) error {
	run := uuid.New()
	for _, sql := range []string{
		"insert into public.ingestion_runs (id, organization_id, project_id, started_by) values ($1, $2, $3, $4)",
		"insert into public.project_indexes (project_id, organization_id, run_id) select $3, $2, $1 where $4::uuid is not null on conflict (project_id) do update set run_id = excluded.run_id",
		`insert into public.enrichment_states (organization_id, project_id, kind, is_active, last_run_at, result)
			select $2, $3, 'chromaCode', true, now(), '{"model": "kijko-hash-256", "dimensions": 256, "embedder": "bench"}' where $1::uuid is not null and $4::uuid is not null
			on conflict (project_id, kind) do update set is_active = true, result = excluded.result`,
	} {
		if _, err := b.conn.Exec(ctx, sql, run, b.org, b.project, b.user); err != nil {
			return err
		}
	}
	if _, err := b.conn.Exec(ctx, "set session_replication_role = replica"); err != nil { // no triggers: the rows are all there is
		return err
	}
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same texts each time
	draw := zipf(chance)
	counts := map[string]int32{"": int32(n)}
	const page = 2000
	for from := 0; from < n; from += page {
		var files, current, chunks, terms, vectors [][]any
		for i := from; i < min(from+page, n); i++ {
			file := number(1, i/perFile)
			path := fmt.Sprintf("src/%s/%s_%d.go", name(i/perFile%97), name(i/perFile%1009), i/perFile)
			hash := sha256.Sum256([]byte(path))
			if i%perFile == 0 {
				files = append(files, []any{b.org, run, file, i / perFile, "repository", path, "go", "code", 9, 9, 9, hash[:]})
				current = append(current, []any{b.org, b.project, file, path, 1, hash[:], "repository", "go", 9, 9})
			}
			var text strings.Builder
			places := map[string][]pgtype.TSVectorPosition{}
			for at := range textWords {
				w := name(draw())
				text.WriteString(w)
				text.WriteByte(" \n"[at%12/11])
				weight := pgtype.TSVectorWeightD
				if at < 3 {
					weight = pgtype.TSVectorWeightB
				}
				places[w] = append(places[w], pgtype.TSVectorPosition{Position: uint16(at + 1), Weight: weight})
			}
			var v pgtype.TSVector
			for w, p := range places {
				counts[w]++
				v.Lexemes = append(v.Lexemes, pgtype.TSVectorLexeme{Word: w, Positions: p})
			}
			v.Valid = true
			id, first := number(2, i), int32(i%perFile*14+1)
			chunks = append(chunks, []any{b.org, run, id, file, i % perFile, first, first + 13, "function_groupings", 300, text.String(), hash[:]})
			terms = append(terms, []any{b.org, run, id, v})
			vector, err := embed.Hash{}.Embed(ctx, []string{text.String()})
			if err != nil {
				return err
			}
			vectors = append(vectors, []any{b.org, b.project, file, "bench", i % perFile, hash[:], 0, 1, first, first + 13, 300, embed.HashModel, embed.HashDimensions, vector[0]})
		}
		for _, t := range []struct {
			table, columns string
			rows           [][]any
		}{
			{"run_files", "organization_id run_id id position source path language category bytes tokens optimized_tokens hash", files},
			{"context_files", "organization_id project_id id path number hash origin language bytes tokens", current},
			{"chunks", "organization_id run_id id file_id position start_line end_line type tokens content hash", chunks},
			{"chunk_terms", "organization_id run_id chunk_id terms", terms},
			{"file_embeddings", "organization_id project_id file_id embedder chunk_no hash start_byte end_byte start_line end_line tokens model dimensions embedding", vectors},
		} {
			if _, err := b.conn.CopyFrom(ctx, pgx.Identifier{"public", t.table}, strings.Fields(t.columns), pgx.CopyFromRows(t.rows)); err != nil {
				return fmt.Errorf("%s: %w", t.table, err)
			}
		}
	}
	var rows [][]any
	for w, c := range counts {
		if c > 1 {
			rows = append(rows, []any{b.org, run, w, c})
		}
	}
	if _, err := b.conn.CopyFrom(ctx, pgx.Identifier{"private", "index_words"}, []string{"organization_id", "run_id", "word", "chunks"}, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	for _, sql := range []string{"set session_replication_role = default", "select gin_clean_pending_list('public.chunk_terms_run_id_terms_idx')", "vacuum analyze"} {
		if _, err := b.conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// scan ranks every chunk that has one of the words.
func (b *bed) scan(ctx context.Context, question string) (time.Duration, error) {
	var quoted []string
	for _, w := range strings.Fields(question) {
		quoted = append(quoted, "'"+w+"'")
	}
	vector, err := embed.Hash{}.Embed(ctx, []string{question})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for _, scan := range []struct {
		sql  string
		args []any
	}{
		{"select t.chunk_id from public.chunk_terms t where t.terms @@ $1::text::tsquery order by ts_rank(t.terms, $1::text::tsquery, 1) desc limit 12", []any{strings.Join(quoted, " | ")}},
		{`select e.file_id, e.chunk_no from public.file_embeddings e where e.project_id = $1
			order by (select sum(u.a * u.b) from unnest(e.embedding, $2::real[]) u (a, b)) desc limit 12`, []any{b.project, vector[0]}},
	} {
		rows, err := b.conn.Query(ctx, scan.sql, scan.args...)
		if err != nil {
			return 0, err
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// number makes ids that ascend, as those of a run do.
func number(kind byte, n int) uuid.UUID {
	var id uuid.UUID
	id[0], id[6], id[8] = kind, 0x80, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(min(n, math.MaxInt32)))
	return id
}
