package ingestion

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"kijko/db"
	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/source"
	"kijko/worker/ingestion/spill"
	"kijko/worker/token"
)

// parsedFile is the result of phase 2 for a file. Failed is the reason why a file is left out; then the rest is empty.
type parsedFile struct {
	Failed string
	// Text has its secrets masked. It is absent from a record of an earlier run, except for files that configure the graph.
	Text    string
	Absent  bool
	Tokens  int
	Bytes   int
	Hash    [32]byte
	Secrets int
	Author  string
	Changed string // date of the last change, RFC 3339
	File    parse.File
	Summary summary
}

// parseOutcome holds the figures of phase 2.
type parseOutcome struct {
	Files     int            `json:"files"` // parsed
	Failed    []string       `json:"failed,omitempty"`
	TooLarge  []string       `json:"tooLarge,omitempty"` // left out for their size, which is not a failure
	Tokens    int64          `json:"tokens"`
	Bytes     int64          `json:"bytes"`
	Languages map[string]int `json:"languages"`
	Insights  []string       `json:"insights,omitempty"`
	// Texts are the contents of the run's files, by their numbers; nil for a file that was left out.
	Texts []*content `json:"texts"`
	// Reused counts the files whose results an earlier run made.
	Reused int `json:"reused"`
	// Known is the quality of their chunks.
	Known chunk.Quality `json:"known"`
	// Binaries are the contents of the run's binary files.
	Binaries []*content `json:"binaries,omitempty"`
}

// parsedSchema changes when the record or the code that fills it changes.
var parsedSchema = "4 " + spill.Schema(&parsedFile{})

// runParse is phase 2.
func (r *run) runParse(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	return r.parseAll(ctx)
}

// prepareParsed makes sure that the parsed files are on disk, without showing progress.
func (r *run) prepareParsed(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	return r.progress.silently(func() error { return r.parseAll(ctx) })
}

func (r *run) parseAll(ctx context.Context) error {
	if r.parsed != nil {
		return nil
	}
	r.parseInput = fingerprint("parse 2", r.input, parsedSchema, factsSchema, r.t.Strategy, r.t.MetadataOptions.History, r.fileLimit())
	if r.dir.done("parse", r.parseInput, &r.parse) {
		parsed, err := spill.Open(r.dir.file("parsed"), len(r.files))
		if err == nil {
			if kept, err := spill.Open(r.dir.file("kept"), len(r.files)); err == nil {
				r.parsed, r.kept = parsed, kept
				r.showParsed(newParseStage(r), 100)
				return nil
			}
			_ = parsed.Close()
		}
	}
	if err := r.dir.forget("parse"); err != nil {
		return err
	}
	w, err := spill.Create(r.dir.file("parsed"), len(r.files))
	if err != nil {
		return err
	}
	kept, err := spill.Create(r.dir.file("kept"), len(r.files))
	if err != nil {
		w.Abort()
		return err
	}
	stage := newParseStage(r)
	cut, err := r.newCuts()
	if err == nil {
		err = r.parseInto(ctx, w, kept, stage, cut)
	}
	if err == nil {
		binaries := r.parse.Binaries
		r.parse = stage.outcome()
		r.parse.Binaries = binaries
		err = tooManyFailed(r.parse, len(r.files))
	}
	if err != nil {
		w.Abort()
		kept.Abort()
		cut.abort()
		return err
	}
	if r.parsed, err = w.Seal(); err != nil {
		return err
	}
	if r.kept, err = kept.Seal(); err != nil {
		return err
	}
	r.showParsed(stage, 100)
	if err := r.dir.finish("parse", r.parseInput, r.parse); err != nil || cut == nil {
		return err
	}
	cut.stage.keep(&r.parse)
	return r.finishCuts(ctx, cut)
}

func tooManyFailed(o parseOutcome, files int) error {
	switch {
	case o.Files == 0 && files > 0:
		return &Failure{Code: "PARSING_FAILED", Message: "None of the files could be parsed.", Items: append(slices.Clone(o.Failed), o.TooLarge...), Retryable: true}
	case len(o.Failed)*5 > files:
		return &Failure{Code: "PARSING_FAILED", Message: fmt.Sprintf("%d of %d files could not be parsed.", len(o.Failed), files), Items: o.Failed,
			Retryable: true}
	}
	return nil
}

// job is a file that waits for a parser, with its share of the byte limit.
type job struct {
	index  int
	text   string
	weight int64
	masked bool // the text is as stored
}

// parseInto streams every origin through the parsers. One goroutine reads, because sources are streams. The amount that is read
// ahead is bounded by bytes, not by files.
func (r *run) parseInto(ctx context.Context, w, kept *spill.Writer, stage *parseStage, cut *cuts) error {
	changes, err := r.changes(ctx)
	if err != nil {
		return err
	}
	done, err := r.reuse(ctx, w, kept, stage)
	if err != nil {
		return err
	}
	budget := r.e.c.FlightBytes
	if r.t.Options.Memory == "large" {
		budget *= 4
	}
	flight := semaphore.NewWeighted(budget)
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	group.Go(func() error {
		defer close(jobs)
		if err := r.reread(ctx, done, jobs, flight, budget); err != nil {
			return err
		}
		return r.read(ctx, w, stage, jobs, flight, budget)
	})
	blobs := newBlobs(r.store)
	parsers, working := errgroup.WithContext(ctx)
	for range r.workers() {
		parsers.Go(func() error {
			for j := range jobs {
				err := r.parseOne(working, w, stage, cut, blobs, j, changes)
				flight.Release(j.weight)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error { return blobs.write(ctx) })
	group.Go(func() error {
		defer blobs.end()
		if err := parsers.Wait(); err != nil {
			return err
		}
		return r.storeBinaries(ctx, blobs)
	})
	return group.Wait()
}

// read streams the files of all origins to the parsers.
func (r *run) read(ctx context.Context, w *spill.Writer, stage *parseStage, jobs chan<- job, flight *semaphore.Weighted, budget int64) error {
	limit := r.fileLimit()
	for o, origin := range r.origins {
		index := map[string]int{}
		var entries []source.Entry
		for i, f := range r.files {
			if f.Origin != o || f.Stored != nil {
				continue
			}
			if f.Size > limit {
				if err := r.leaveOut(w, stage, i, source.ErrTooLarge); err != nil {
					return err
				}
				continue
			}
			index[f.Path] = i
			entries = append(entries, f.entry())
		}
		if len(entries) == 0 {
			continue
		}
		err := origin.src.Read(ctx, entries, func(e source.Entry, content io.Reader) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			i, ok := index[e.Path]
			if !ok {
				return nil
			}
			weight := min(4*e.Size+4096, budget)
			if err := flight.Acquire(ctx, weight); err != nil {
				return err
			}
			text, err := source.DecodeAs(content, limit, e.Encoding)
			if err != nil {
				flight.Release(weight)
				if errors.Is(err, source.ErrTooLarge) || errors.Is(err, source.ErrBinary) {
					return r.leaveOut(w, stage, i, err)
				}
				return err
			}
			select {
			case jobs <- job{i, text, weight, false}:
				return nil
			case <-ctx.Done():
				flight.Release(weight)
				return ctx.Err()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveOut records a file-level error: the file is not part of the run's result.
func (r *run) leaveOut(w *spill.Writer, stage *parseStage, i int, cause error) error {
	if err := w.Put(i, &parsedFile{Failed: cause.Error()}); err != nil {
		return err
	}
	stage.failed(r.name(r.files[i]), languageOf(r.files[i].Path), errors.Is(cause, source.ErrTooLarge) || errors.Is(cause, parse.ErrTooLarge))
	r.showParsed(stage, -1)
	return nil
}

// parseOne also cuts the file, unless a webhook does that: its tree and its text are at hand.
func (r *run) parseOne(ctx context.Context, w *spill.Writer, stage *parseStage, cut *cuts, blobs *blobs, j job, changes []map[string]gitfetch.Change) error {
	f := r.files[j.index]
	p := parsedFile{Text: j.text}
	if r.t.AnonymizeSecrets && !j.masked {
		text, found := r.e.redact.Redact(f.Path, j.text)
		p.Text, p.Secrets = text, len(found)
	}
	// Masking may lengthen a text, and decoding an old encoding may triple it. The size limit was checked against the file's own
	// bytes.
	parsed, err := r.e.parser.Parse(ctx, f.Name, p.Text, parse.Options{MaxBytes: 4 * int(max(r.fileLimit(), int64(len(p.Text))))})
	switch {
	case errors.Is(err, parse.ErrTooLarge), errors.Is(err, parse.ErrTimeout):
		return r.leaveOut(w, stage, j.index, err)
	case err != nil:
		return err
	}
	p.File, p.Bytes = *parsed, len(p.Text)
	tally := token.NewTally(p.Text)
	p.Tokens = tally.Total()
	if f.Stored != nil {
		p.Hash = [32]byte(f.Stored.Hash)
	} else {
		p.Hash = sha256.Sum256([]byte(p.Text))
	}
	if f.Change != nil {
		p.Author, p.Changed = f.Change.Author, f.Change.Date
	} else if f.Origin >= 0 {
		if c, ok := changes[f.Origin][f.Path]; ok {
			p.Author, p.Changed = db.Text(strings.ReplaceAll(c.Author, "\x00", "")), c.Date.UTC().Format("2006-01-02T15:04:05Z")
		}
	}
	p.Summary = summarize(&p)
	if err := w.Put(j.index, &p); err != nil {
		return err
	}
	if f.Stored == nil {
		if err := blobs.put(ctx, blob{hash: p.Hash, content: []byte(p.Text), tokens: int64(p.Tokens), lines: int32(p.File.Lines)}); err != nil {
			return err
		}
	}
	if cut != nil {
		chunks := chunk.SplitCounted(&p.File, r.name(f), p.Text, &tally, chunk.Strategy(r.t.Strategy))
		if err := r.keepChunks(ctx, cut, j.index, &p, chunks); err != nil {
			return err
		}
	}
	stage.add(j.index, f.Name, &p.Summary)
	r.showParsed(stage, -1)
	return nil
}

// changes returns the last changes of each origin's files, if they are wanted and known.
func (r *run) changes(ctx context.Context) ([]map[string]gitfetch.Change, error) {
	if r.lastEdits != nil {
		return r.lastEdits, nil
	}
	all := make([]map[string]gitfetch.Change, len(r.origins))
	if r.t.MetadataOptions.History {
		for i, o := range r.origins {
			if o.repo == nil {
				continue
			}
			var err error
			if all[i], err = r.trees[o.repo.ID].LastChanges(ctx); err != nil {
				return nil, err
			}
		}
	}
	r.lastEdits = all
	return all, nil
}

// record reads the result of phase 2 for a file; false for a file that was left out.
func (r *run) record(i int, p *parsedFile) (bool, error) {
	*p = parsedFile{}
	ok, err := r.parsed.Get(i, p)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, errNoRecord
	}
	return p.Failed == "", nil
}

// fileMetadata is the metadata in a file's row, by the project's options.
func (r *run) fileMetadata(f file, p *parsedFile) map[string]any {
	m := map[string]any{"lines": p.File.Lines}
	if p.File.Generated {
		m["generated"] = true
	}
	if p.Secrets > 0 {
		m["secretsMasked"] = p.Secrets
	}
	o := r.t.MetadataOptions
	if o.Signatures {
		if p.File.Doc != "" {
			m["doc"] = p.File.Doc
		}
	}
	if o.Imports {
		if paths := importPaths(&p.File); len(paths) > 0 {
			m["imports"] = paths
		}
	}
	if o.History && p.Changed != "" {
		m["lastChange"] = lastChange{p.Author, p.Changed}
	}
	if o.Structure {
		m["directory"] = path.Dir(r.name(f))
	}
	if o.Annotations && len(p.File.Markers) > 0 {
		markers := make([]map[string]any, 0, len(p.File.Markers))
		for _, k := range p.File.Markers[:min(len(p.File.Markers), 200)] {
			markers = append(markers, map[string]any{"kind": k.Kind, "text": k.Text, "line": k.Line})
		}
		m["annotations"] = markers
	}
	return m
}

func importPaths(f *parse.File) []string {
	var paths []string
	for _, imp := range f.Imports {
		if !slices.Contains(paths, imp.Path) && len(paths) < 500 {
			paths = append(paths, imp.Path)
		}
	}
	return paths
}
