package ingestion

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/graph"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/lease"
)

// A run changes the index in place if what it rewrites is at most this much; the rows wait in memory. Beyond it a new index is cheaper.
const (
	deltaShare = 0.4
	deltaBytes = 24 << 20
)

// indexedFile is a file of the current index.
type indexedFile struct {
	id        uuid.UUID
	hash      []byte
	plan      []byte
	tokens    int64
	optimized int64
	removed   [4]int32
	lost      int32
	kept      int32
}

// delta is what an incremental run changes in the index of its predecessor.
type delta struct {
	index   uuid.UUID
	base    map[string]indexedFile // by path
	files   []int                  // numbers of the files to be rewritten, ascending
	removed [][16]byte             // files that leave
	batch   batch
	terms   []pgtype.TSVector
	old     [][16]byte // chunks that leave
}

// compare finds what differs from the current index. It returns nil if a new index is to be made.
func (r *run) compare(ctx context.Context, plans [][]byte) (*delta, error) {
	if r.t.Options.Force {
		return nil, nil
	}
	d := &delta{base: map[string]indexedFile{}}
	err := r.store.retry(ctx, "read the index", func(ctx context.Context) error {
		rows, err := r.store.pool.Query(ctx, "select index_id, id, path, hash, plan, tokens, optimized, removed, lost, kept from private.read_index($1, $2, $3)",
			r.store.run, r.store.owner, r.t.Checkpoint.Settings)
		if err != nil {
			return err
		}
		var f indexedFile
		var path string
		var removed []int32
		_, err = pgx.ForEachRow(rows, []any{&d.index, &f.id, &path, &f.hash, &f.plan, &f.tokens, &f.optimized, &removed, &f.lost, &f.kept}, func() error {
			if len(removed) != len(f.removed) {
				return fmt.Errorf("%s has no savings", path)
			}
			copy(f.removed[:], removed)
			d.base[path] = f
			return nil
		})
		return err
	})
	if err != nil || len(d.base) == 0 {
		return nil, err
	}
	var size int64
	present := map[string]bool{}
	for i, f := range r.files {
		text := r.parse.Texts[i]
		if text == nil {
			continue
		}
		present[f.Name] = true
		b, ok := d.base[f.Name]
		// A file that was read has new metadata, even if its text is as before.
		if ok && f.Stored != nil && string(b.hash) == string(text.Hash) && string(b.plan) == string(plans[i]) {
			continue
		}
		d.files = append(d.files, i)
		size += text.Bytes
	}
	for path, f := range d.base {
		if !present[path] {
			d.removed = append(d.removed, f.id)
		}
	}
	if size > deltaBytes || float64(len(d.files)+len(d.removed)) > max(deltaShare*float64(len(d.base)), 10) {
		return nil, nil
	}
	return d, nil
}

// rewrite is the second pass of a run that changes the index in place.
func (r *run) rewrite(ctx context.Context, plan *optimize.Plan, plans [][]byte, stage *optimizeStage) error {
	d := r.delta
	changed := map[int]bool{}
	for _, i := range d.files {
		changed[i] = true
	}
	for i, f := range r.files {
		if r.parse.Texts[i] != nil && !changed[i] {
			stage.keep(d.base[f.Name])
		}
	}
	results := make([]*rewritten, len(d.files))
	err := ordered(ctx, len(d.files), r.workers(), func(ctx context.Context, k int) (*rewritten, error) {
		return r.rewriteOne(ctx, plan, d.files[k])
	}, func(k int, w *rewritten) error {
		results[k] = w
		stage.applied(len(r.files) - len(d.files) + k + 1)
		r.showOptimize(stage)
		return nil
	})
	if err != nil {
		return err
	}
	old, err := r.indexedChunks(ctx, results)
	if err != nil {
		return err
	}
	next := 0
	bodies := map[string]uuid.UUID{} // path and hash to the chunk with the body
	for path, id := range d.base {
		for _, c := range old[id.id] {
			if c.body && !c.leaves(path, d, r) {
				if _, ok := bodies[path+"\x00"+string(c.hash)]; !ok {
					bodies[path+"\x00"+string(c.hash)] = c.id
				}
			}
		}
	}
	for k, w := range results {
		if w == nil {
			continue
		}
		i := d.files[k]
		name := r.files[i].Name
		base, known := d.base[name]
		id := base.id
		if !known {
			id = r.t.id(kindFile, i)
		}
		if err := r.addFile(&d.batch, i, id, w, plans[i]); err != nil {
			return err
		}
		free := slices.Clone(old[base.id])
		if !known {
			free = nil
		}
		targets := map[int]string{}
		for _, ref := range w.result.References {
			if ref.Technique == optimize.Deduplication {
				targets[ref.Order] = ref.Path
			}
		}
		for position := range w.result.Chunks {
			c := &w.result.Chunks[position]
			hash, err := hex.DecodeString(c.Hash)
			if err != nil {
				return fmt.Errorf("chunk %d of %s: %w", position, name, err)
			}
			// A chunk at the same place with the same source keeps its id, because chunks of other files may refer to it.
			at := slices.IndexFunc(free, func(o indexedChunk) bool {
				return string(o.hash) == string(hash) && int(o.start) == max(c.StartLine, 1)
			})
			var chunk uuid.UUID
			if at >= 0 {
				chunk = free[at].id
				free = slices.Delete(free, at, at+1)
			} else {
				chunk = r.t.id(kindChunk, next)
				next++
			}
			reference := pgtype.UUID{}
			if c.Duplicate {
				if body, ok := bodies[targets[c.Order]+"\x00"+string(hash)]; ok {
					reference = pgtype.UUID{Bytes: body, Valid: true}
				}
			} else if _, ok := bodies[name+"\x00"+string(hash)]; !ok {
				bodies[name+"\x00"+string(hash)] = chunk
			}
			if err := d.batch.chunks.add(chunk, id, position, c, reference, r.chunkMetadata(c)); err != nil {
				return fmt.Errorf("chunk %d of %s: %w", position, name, err)
			}
			d.terms = append(d.terms, w.termsAt(name, position, reference.Valid))
		}
		for _, o := range free {
			d.old = append(d.old, o.id)
		}
		stage.add(&w.result)
	}
	stage.total(len(r.files))
	return nil
}

// indexedChunk is a chunk of the current index.
type indexedChunk struct {
	id    uuid.UUID
	hash  []byte
	start int32
	body  bool
}

// leaves reports whether the file of the chunk is rewritten, so that its chunks get their ids there.
func (c *indexedChunk) leaves(path string, d *delta, r *run) bool {
	_, found := slices.BinarySearchFunc(d.files, path, func(i int, path string) int { return strings.Compare(r.files[i].Name, path) })
	return found
}

// indexedChunks reads the chunks of the files that are rewritten, and of those that their duplicates lead to.
func (r *run) indexedChunks(ctx context.Context, results []*rewritten) (map[uuid.UUID][]indexedChunk, error) {
	d := r.delta
	wanted := map[uuid.UUID]bool{}
	for k, w := range results {
		if w == nil {
			continue
		}
		if b, ok := d.base[r.files[d.files[k]].Name]; ok {
			wanted[b.id] = true
		}
		for _, ref := range w.result.References {
			if b, ok := d.base[ref.Path]; ok && ref.Technique == optimize.Deduplication {
				wanted[b.id] = true
			}
		}
	}
	ids := make([][16]byte, 0, len(wanted))
	for id := range wanted {
		ids = append(ids, id)
	}
	found := map[uuid.UUID][]indexedChunk{}
	err := r.store.retry(ctx, "read indexed chunks", func(ctx context.Context) error {
		clear(found)
		rows, err := r.store.pool.Query(ctx, "select id, file_id, hash, start_line, has_body from private.read_indexed($1, $2, $3)", r.store.run, r.store.owner, ids)
		if err != nil {
			return err
		}
		var c indexedChunk
		var file uuid.UUID
		_, err = pgx.ForEachRow(rows, []any{&c.id, &file, &c.hash, &c.start, &c.body}, func() error {
			found[file] = append(found[file], c)
			return nil
		})
		return err
	})
	return found, err
}

// keep counts a file that stays as it is.
func (s *optimizeStage) keep(f indexedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Original += f.tokens
	s.out.Optimized += f.optimized
	s.out.Lost += int64(f.lost)
	for t, n := range f.removed {
		s.out.Removed[t] += int64(n)
	}
	s.out.Kept += int(f.kept)
	s.out.Stored += int(f.kept)
}

func (s *optimizeStage) total(files int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.stored = files, files
}

// manifest stores what the run found in its sources.
func (r *run) manifest(ctx context.Context) error {
	type rows struct {
		paths, origins, languages []string
		hashes                    [][]byte
		repositories              []pgtype.UUID
		binary                    []bool
		bytes, tokens             []int64
	}
	first := true
	send := func(m *rows) error {
		err := r.store.exec(ctx, "store the manifest", "select private.store_manifest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", first, m.paths, m.hashes,
			m.origins, m.repositories, m.languages, m.binary, m.bytes, m.tokens)
		first = false
		return err
	}
	m := &rows{}
	add := func(f file, c *content, binary bool) error {
		kind, repository := r.kind(f)
		m.paths, m.origins, m.languages, m.hashes = append(m.paths, f.Name), append(m.origins, kind), append(m.languages, c.Language), append(m.hashes, c.Hash)
		m.repositories, m.binary = append(m.repositories, repository), append(m.binary, binary)
		m.bytes, m.tokens = append(m.bytes, c.Bytes), append(m.tokens, c.Tokens)
		if len(m.paths) < 5*batchChunks {
			return nil
		}
		full := m
		m = &rows{}
		return send(full)
	}
	var fresh []int
	for i, f := range r.files {
		c := r.parse.Texts[i]
		if c == nil || f.Origin < 0 {
			continue
		}
		if f.Stored == nil {
			fresh = append(fresh, i)
		}
		if err := add(f, c, false); err != nil {
			return err
		}
	}
	for k, f := range r.found.Binaries {
		if err := add(f, r.parse.Binaries[k], true); err != nil {
			return err
		}
	}
	if len(m.paths) > 0 || first {
		if err := send(m); err != nil {
			return err
		}
	}
	if err := r.assure(ctx, fresh); err != nil {
		return err
	}
	overflows := false
	err := r.store.retry(ctx, "count the files", func(ctx context.Context) error {
		return r.store.pool.QueryRow(ctx, "select private.run_overflows($1, $2)", r.store.run, r.store.owner).Scan(&overflows)
	})
	if err == nil && overflows {
		err = r.tooLarge()
	}
	return err
}

// assure stores again what is not there any more: a recovery may come a day after the run that stored the contents.
func (r *run) assure(ctx context.Context, fresh []int) error {
	hashes := make([][]byte, len(fresh))
	for k, i := range fresh {
		hashes[k] = r.parse.Texts[i].Hash
	}
	missing, err := r.store.missing(ctx, hashes)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, i := range fresh {
		var p parsedFile
		if ok, err := r.record(i, &p); err != nil {
			return err
		} else if !ok || !missing[p.Hash] || p.Absent {
			continue
		}
		if err := r.store.storeBlobs(ctx, []blob{{hash: p.Hash, content: []byte(p.Text), tokens: int64(p.Tokens), lines: int32(p.File.Lines)}}); err != nil {
			return err
		}
	}
	return nil
}

// finish ends the run: in one transaction it changes the index in place (or names the new one), turns the manifest into operations, and
// remembers the sources. A reader sees all of it or nothing.
func (r *run) finish(ctx context.Context, result map[string]any) error {
	err := r.store.retry(ctx, "finish", func(ctx context.Context) error {
		tx, err := r.store.pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		began := time.Now()
		if r.delta != nil {
			if err := r.merge(ctx, tx, result); err != nil {
				return err
			}
		}
		merged := time.Now()
		if err := r.remember(ctx, tx); err != nil {
			return err
		}
		remembered := time.Now()
		if _, err := graph.Apply(ctx, tx, r.t.ProjectID, r.graph, -1); err != nil {
			return err
		}
		drawn := time.Now()
		data, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("finish: %w", err)
		}
		held := false
		if err := tx.QueryRow(ctx, "select private.finish_run($1, $2, $3)", r.store.run, r.store.owner, data).Scan(&held); err != nil {
			return err
		}
		if !held {
			return lease.ErrLost
		}
		err = tx.Commit(ctx)
		r.log.Debug("finished", "merge", merged.Sub(began), "sources", remembered.Sub(merged), "graph", drawn.Sub(remembered), "commit", time.Since(drawn))
		return err
	})
	return err
}

// merge changes the index in place and measures it.
func (r *run) merge(ctx context.Context, tx pgx.Tx, result map[string]any) error {
	d := r.delta
	exec := func(sql string, args ...any) error {
		_, err := tx.Exec(ctx, sql, append([]any{r.store.run, r.store.owner}, args...)...)
		return err
	}
	if err := exec("select private.merge_removals($1, $2, $3, $4, $5)", d.removed, d.batch.files.ids, d.old); err != nil {
		return fmt.Errorf("merge removals: %w", err)
	}
	if len(d.batch.files.ids) > 0 {
		if err := exec("select private.merge_files($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)", d.batch.files.args()...); err != nil {
			return fmt.Errorf("merge files: %w", err)
		}
	}
	if len(d.batch.chunks.ids) > 0 {
		if err := exec("select private.merge_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)", append(d.batch.chunks.args(), d.terms)...); err != nil {
			return fmt.Errorf("merge chunks: %w", err)
		}
		if err := exec("select private.settle_terms($1, $2)"); err != nil {
			return fmt.Errorf("settle the index: %w", err)
		}
	}
	latency, relevance, err := r.sampleIndex(ctx, tx)
	if err != nil {
		return err
	}
	for key, v := range r.completion(latency, relevance) {
		result[key] = v
	}
	result["index"] = d.index
	return nil
}

// sampleIndex is sample for an index that is changed in place. It asks only as often as the latency needs: most of the index was measured before.
func (r *run) sampleIndex(ctx context.Context, tx pgx.Tx) (latency, relevance int, err error) {
	rows, err := tx.Query(ctx, "select id, path, content, names from private.sample_index($1, $2, $3)", r.store.run, r.store.owner, searchProbe)
	if err != nil {
		return 0, 0, fmt.Errorf("sample: %w", err)
	}
	samples, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c storedChunk, err error) {
		err = row.Scan(&c.ID, &c.Path, &c.Content, &c.Names)
		return c, err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("sample: %w", err)
	}
	var times []time.Duration
	asked, hit := 0, 0
	for _, c := range samples {
		query := sampleQuery(&c)
		if query == "" {
			continue
		}
		began := time.Now()
		rows, err := tx.Query(ctx, "select private.search_index($1, $2, $3::text::tsquery)", r.store.run, r.store.owner, query)
		if err != nil {
			return 0, 0, fmt.Errorf("sample search: %w", err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return 0, 0, fmt.Errorf("sample search: %w", err)
		}
		times = append(times, time.Since(began))
		asked++
		if slices.Contains(found, c.ID) {
			hit++
		}
	}
	if asked == 0 {
		return predictedLatency(r.optimized.Stored), 100, nil
	}
	return p95(times), hit * 100 / asked, nil
}

// p95 is a percentile in whole milliseconds, at least 1.
func p95(times []time.Duration) int {
	slices.Sort(times)
	at := times[min(len(times)-1, int(math.Ceil(0.95*float64(len(times))))-1)]
	return max(1, int(math.Ceil(float64(at)/float64(time.Millisecond))))
}

// remember stores what the run found in its sources for the next one, and forgets what is gone.
func (r *run) remember(ctx context.Context, tx pgx.Tx) error {
	var m struct {
		sources, paths, verdicts, encodings, languages []string
		keys, hashes                                   [][]byte
		bytes, tokens                                  []int64
	}
	add := func(source, path string, key []byte, verdict, encoding string, c content) {
		m.sources, m.paths, m.verdicts, m.encodings = append(m.sources, source), append(m.paths, path), append(m.verdicts, verdict), append(m.encodings, encoding)
		m.languages, m.keys, m.hashes = append(m.languages, c.Language), append(m.keys, key), append(m.hashes, c.Hash)
		m.bytes, m.tokens = append(m.bytes, c.Bytes), append(m.tokens, c.Tokens)
	}
	for i, f := range r.files {
		if c := r.parse.Texts[i]; c != nil && f.Origin >= 0 && f.Stored == nil {
			add(r.origins[f.Origin].memory, f.Path, f.Key, "", f.Code, *c)
		}
	}
	for _, j := range r.found.Checked {
		add(j.Source, j.Path, j.Key, j.Reason, "", content{})
	}
	for at := 0; at < len(m.paths); at += 5 * batchChunks {
		to := min(at+5*batchChunks, len(m.paths))
		_, err := tx.Exec(ctx, "select private.store_sources($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", r.store.run, r.store.owner, m.sources[at:to], m.paths[at:to],
			m.keys[at:to], m.verdicts[at:to], m.encodings[at:to], m.hashes[at:to], m.bytes[at:to], m.tokens[at:to], m.languages[at:to])
		if err != nil {
			return fmt.Errorf("store sources: %w", err)
		}
	}
	if len(r.found.Gone) > 0 {
		var sources, paths []string
		for _, g := range r.found.Gone {
			sources, paths = append(sources, g[0]), append(paths, g[1])
		}
		if _, err := tx.Exec(ctx, "select private.drop_sources($1, $2, $3, $4)", r.store.run, r.store.owner, sources, paths); err != nil {
			return fmt.Errorf("forget sources: %w", err)
		}
	}
	return nil
}
