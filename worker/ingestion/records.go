package ingestion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/graph"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/spill"
)

// factsRecord is what phases 2 to 4 keep of a file for the runs to come, beside its parse result.
type factsRecord struct {
	Summary summary
	Facts   optimize.Facts
	Quality chunk.Quality
	// Chunks are those of a webhook, which is not asked again for a text that it has cut; their contents are left out where they are a
	// stretch of the text.
	Chunks []chunk.Chunk
}

var factsSchema = "1 " + chunkedSchema + spill.Schema(&factsRecord{})

// schemaName is the form in which the database keeps a schema.
func schemaName(schema string) string {
	sum := sha256.Sum256([]byte(schema))
	return hex.EncodeToString(sum[:8])
}

// chunkSchema also names what decides where chunks end.
func (r *run) chunkSchema() string {
	return schemaName(fingerprint(factsSchema, r.t.Strategy, r.t.WebhookURL))
}

const (
	recordPage   = 500     // records read at once
	recordBatch  = 1 << 20 // bytes of records or contents written at once
	binaryLimit  = 50 << 20
	rereadAtOnce = 100
)

var (
	// The window is that of a large record; the default takes 8 MB for each of the two encoders.
	compressor, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(512<<10))
	decompressor, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(1<<30))
)

// reuse copies the records of files whose text is stored and that an earlier run parsed. It returns the numbers of those files.
func (r *run) reuse(ctx context.Context, parsed, kept *spill.Writer, stage *parseStage) (map[int]bool, error) {
	done, wanted := map[int]bool{}, map[string]int{}
	for i, f := range r.files {
		if f.Stored != nil {
			wanted[f.Name] = i
		}
	}
	if r.t.Options.Force || len(wanted) == 0 {
		return done, nil
	}
	parseSchema, chunkSchema := schemaName(parsedSchema), r.chunkSchema()
	type record struct {
		path, parseSchema, chunkSchema string
		hash, parsed, facts            []byte
	}
	pages := make(chan []record, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pages)
		for after, more := "", true; more; {
			var page []record
			err := r.store.retry(ctx, "read records", func(ctx context.Context) error {
				rows, err := r.store.pool.Query(ctx, "select path, hash, parse_schema, chunk_schema, parsed, facts from private.read_records($1, $2, $3, $4)",
					r.store.run, r.store.owner, after, recordPage)
				if err != nil {
					return err
				}
				page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x record, err error) {
					err = row.Scan(&x.path, &x.hash, &x.parseSchema, &x.chunkSchema, &x.parsed, &x.facts)
					return x, err
				})
				return err
			})
			if err != nil {
				return err
			}
			if more = len(page) == recordPage; more {
				after = page[len(page)-1].path
			}
			select {
			case pages <- page:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	group.Go(func() error {
		var raw, known []byte
		for page := range pages {
			for _, x := range page {
				i, ok := wanted[x.path]
				if !ok || x.parseSchema != parseSchema || x.chunkSchema != chunkSchema || string(x.hash) != string(r.files[i].Stored.Hash) {
					continue
				}
				var facts factsRecord
				var err error
				// A damaged record is as good as none.
				if known, err = decompressor.DecodeAll(x.facts, known[:0]); err != nil || spill.Decode(known, &facts) != nil {
					continue
				}
				if raw, err = decompressor.DecodeAll(x.parsed, raw[:0]); err != nil {
					continue
				}
				if err := kept.PutEncoded(i, known); err != nil {
					return err
				}
				if err := parsed.PutEncoded(i, raw); err != nil {
					return err
				}
				done[i] = true
				stage.add(i, x.path, &facts.Summary)
				stage.reused(&facts.Quality)
			}
			r.showParsed(stage, -1)
		}
		return nil
	})
	return done, group.Wait()
}

// reread passes on the stored texts of files without a record.
func (r *run) reread(ctx context.Context, done map[int]bool, jobs chan<- job, flight *semaphore.Weighted, budget int64) error {
	var batch []int
	var size int64
	send := func() error {
		texts, err := r.store.blobs(ctx, r.files, batch)
		if err != nil {
			return err
		}
		for _, i := range batch {
			text, ok := texts[string(r.files[i].Stored.Hash)]
			if !ok {
				return fmt.Errorf("the stored text of %s is gone", r.files[i].Name)
			}
			weight := min(4*int64(len(text))+4096, budget)
			if err := flight.Acquire(ctx, weight); err != nil {
				return err
			}
			select {
			case jobs <- job{i, text, weight, true}:
			case <-ctx.Done():
				flight.Release(weight)
				return ctx.Err()
			}
		}
		batch, size = batch[:0], 0
		return nil
	}
	for i, f := range r.files {
		if f.Stored == nil || done[i] {
			continue
		}
		batch, size = append(batch, i), size+f.Stored.Bytes
		if len(batch) >= rereadAtOnce || size > recordBatch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return send()
}

// blobs reads the stored texts of files, by hash.
func (s *store) blobs(ctx context.Context, files []file, which []int) (map[string]string, error) {
	hashes := make([][]byte, len(which))
	for k, i := range which {
		hashes[k] = files[i].Stored.Hash
	}
	return s.texts(ctx, hashes)
}

func (s *store) texts(ctx context.Context, hashes [][]byte) (map[string]string, error) {
	found := map[string]string{}
	err := s.retry(ctx, "read contents", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select hash, content from private.read_blobs($1, $2, $3)", s.run, s.owner, hashes)
		if err != nil {
			return err
		}
		var hash, content []byte
		_, err = pgx.ForEachRow(rows, []any{&hash, &content}, func() error {
			found[string(hash)] = string(content)
			return nil
		})
		return err
	})
	return found, err
}

// blob is a content that is to be stored.
type blob struct {
	hash    [32]byte
	content []byte
	binary  bool
	tokens  int64
	lines   int32
}

// blobs stores contents in batches, while others are being made.
type blobs struct {
	s    *store
	next chan blob
	end  func()
}

func newBlobs(s *store) *blobs {
	b := &blobs{s: s, next: make(chan blob)}
	b.end = sync.OnceFunc(func() { close(b.next) })
	return b
}

func (b *blobs) put(ctx context.Context, x blob) error {
	select {
	case b.next <- x:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *blobs) write(ctx context.Context) error {
	var batch []blob
	size := 0
	for {
		select {
		case x, ok := <-b.next:
			if !ok {
				return b.s.storeBlobs(ctx, batch)
			}
			batch, size = append(batch, x), size+len(x.content)
			if size >= recordBatch || len(batch) >= batchChunks {
				if err := b.s.storeBlobs(ctx, batch); err != nil {
					return err
				}
				batch, size = batch[:0], 0
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// storeBlobs sends the contents that the database does not have.
func (s *store) storeBlobs(ctx context.Context, batch []blob) error {
	hashes := make([][]byte, len(batch))
	for i := range batch {
		hashes[i] = batch[i].hash[:]
	}
	missing, err := s.missing(ctx, hashes)
	if err != nil || len(missing) == 0 {
		return err
	}
	var rows struct {
		hashes, contents [][]byte
		binary           []bool
		tokens           []int64
		lines            []int32
	}
	for i := range batch {
		x := &batch[i]
		if !missing[x.hash] {
			continue
		}
		missing[x.hash] = false
		rows.hashes, rows.contents, rows.binary = append(rows.hashes, x.hash[:]), append(rows.contents, x.content), append(rows.binary, x.binary)
		rows.tokens, rows.lines = append(rows.tokens, x.tokens), append(rows.lines, x.lines)
	}
	return s.exec(ctx, "store contents", "select private.store_blobs($1, $2, $3, $4, $5, $6, $7)", rows.hashes, rows.contents, rows.binary, rows.tokens, rows.lines)
}

func (s *store) missing(ctx context.Context, hashes [][]byte) (map[[32]byte]bool, error) {
	missing := map[[32]byte]bool{}
	if len(hashes) == 0 {
		return missing, nil
	}
	err := s.retry(ctx, "look for contents", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select * from private.missing_blobs($1, $2, $3)", s.run, s.owner, hashes)
		if err != nil {
			return err
		}
		var hash []byte
		_, err = pgx.ForEachRow(rows, []any{&hash}, func() error {
			missing[[32]byte(hash)] = true
			return nil
		})
		return err
	})
	return missing, err
}

// storeBinaries stores the files without text that a person picked.
func (r *run) storeBinaries(ctx context.Context, to *blobs) error {
	r.parse.Binaries = make([]*content, 0, len(r.found.Binaries))
	for _, f := range r.found.Binaries {
		data, err := r.readUpload(ctx, f.Ref)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		sum := sha256.Sum256(data)
		r.parse.Binaries = append(r.parse.Binaries, &content{Hash: sum[:], Bytes: int64(len(data)), Language: languageOf(f.Name)})
		if err := to.put(ctx, blob{hash: sum, content: data, binary: true}); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) readUpload(ctx context.Context, key string) ([]byte, error) {
	file, err := r.e.c.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, binaryLimit+1))
	err = errors.Join(err, file.Close())
	if err == nil && len(data) > binaryLimit {
		err = errors.New("it is larger than any upload may be")
	}
	return data, err
}

// textOf returns the text of a file that was parsed.
func (r *run) textOf(ctx context.Context, p *parsedFile) (string, error) {
	if !p.Absent {
		return p.Text, nil
	}
	texts, err := r.store.texts(ctx, [][]byte{p.Hash[:]})
	if err != nil {
		return "", err
	}
	text, ok := texts[string(p.Hash[:])]
	if !ok {
		return "", errors.New("a stored text is gone")
	}
	return text, nil
}

// factsOf reads what phases 2 and 3 found out about a file; false for a file that was left out.
func (r *run) factsOf(i int, f *factsRecord) (bool, error) {
	*f = factsRecord{}
	if r.kept.Has(i) {
		return r.kept.Get(i, f)
	}
	if !r.facts.Has(i) {
		return false, nil
	}
	return r.facts.Get(i, f)
}

// records stores parse results for the runs to come.
type records struct {
	r  *run
	mu sync.Mutex
	recordRows
}

type recordRows struct {
	paths  []string
	hashes [][]byte
	parsed [][]byte
	facts  [][]byte
	size   int
}

// put adds the record of a file, and stores a batch that is full.
func (s *records) put(ctx context.Context, name string, p *parsedFile, facts []byte) error {
	kept := *p
	if !graph.Configures(name) {
		kept.Text, kept.Absent = "", true
	}
	raw, err := spill.Encode(nil, &kept)
	if err != nil {
		return err
	}
	parsed := compressor.EncodeAll(raw, make([]byte, 0, len(raw)/3))
	facts = compressor.EncodeAll(facts, make([]byte, 0, len(facts)))
	s.mu.Lock()
	s.paths, s.hashes = append(s.paths, name), append(s.hashes, bytes.Clone(p.Hash[:]))
	s.parsed, s.facts = append(s.parsed, parsed), append(s.facts, facts)
	s.size += len(parsed) + len(facts)
	if s.size < recordBatch {
		s.mu.Unlock()
		return nil
	}
	full := s.recordRows
	s.recordRows = recordRows{}
	s.mu.Unlock()
	return s.send(ctx, &full)
}

func (s *records) send(ctx context.Context, b *recordRows) error {
	if len(b.paths) == 0 {
		return nil
	}
	return s.r.store.exec(ctx, "store records", "select private.store_records($1, $2, $3, $4, $5, $6, $7, $8)", schemaName(parsedSchema), s.r.chunkSchema(),
		b.paths, b.hashes, b.parsed, b.facts)
}
