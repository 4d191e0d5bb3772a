package enrichments

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	pageFiles = 200
	// flightBytes bounds the content that is read at once; one larger file is read alone.
	flightBytes = 4 << 20
	// maxBytes is the largest file that is parsed: the settings choose no larger one.
	maxBytes = 10 << 20
	// reportEvery is the contract's limit of two messages a second.
	reportEvery = 500 * time.Millisecond
)

// run is one run in work. It belongs to one goroutine.
type run struct {
	e     *Engine
	t     task
	store *store
	log   *slog.Logger

	seen     int // files that were looked at
	reported time.Time
	percent  int
}

// execute does the work, up to the end in the row.
func (r *run) execute(ctx context.Context) error {
	switch r.t.Kind {
	case knowledgeGraph:
		return r.buildGraph(ctx)
	case languageServer:
		return r.indexSymbols(ctx)
	case chromaCode:
		return r.embedFiles(ctx)
	}
	return fmt.Errorf("enrichments: no worker of this version knows the kind %q", r.t.Kind)
}

// report shows how much of the files is done, at most twice a second.
func (r *run) report(ctx context.Context, done int, verb string) error {
	percent := 0
	if r.t.Files > 0 {
		percent = min(99, 100*done/r.t.Files)
	}
	if percent == r.percent || time.Since(r.reported) < reportEvery {
		return nil
	}
	r.percent, r.reported = percent, time.Now()
	return r.store.report(ctx, percent, fmt.Sprintf("%s %d%% of the files", verb, percent))
}

// pages visits the text files that the settings do not leave out, a page at a time.
func (r *run) pages(ctx context.Context, verb string, visit func(files []file) error) error {
	takes, err := r.t.Settings.Compile()
	if err != nil {
		return err
	}
	var after *string
	for {
		page, err := r.store.files(ctx, after, pageFiles)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		after = &page[len(page)-1].Path
		kept := make([]file, 0, len(page))
		for _, f := range page {
			if takes(f.Path, f.Bytes) {
				kept = append(kept, f)
			}
		}
		if err := visit(kept); err != nil {
			return err
		}
		r.seen += len(page)
		if err := r.report(ctx, r.seen, verb); err != nil {
			return err
		}
	}
}

// texts visits the contents of files, at most flightBytes at once. A file whose content was deleted meanwhile is passed over.
func (r *run) texts(ctx context.Context, files []file, visit func(files []file, texts map[string]string) error) error {
	for len(files) > 0 {
		n, bytes := 0, int64(0)
		var hashes [][]byte
		for n < len(files) && (n == 0 || bytes+files[n].Bytes <= flightBytes) {
			bytes += files[n].Bytes
			hashes = append(hashes, files[n].Hash)
			n++
		}
		texts, err := r.store.contents(ctx, hashes)
		if err != nil {
			return err
		}
		if err := visit(files[:n], texts); err != nil {
			return err
		}
		files = files[n:]
	}
	return nil
}
