package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Discovery is the outcome of looking at every file of a source.
type Discovery struct {
	Files    []Entry // what the run reads, in byte order of the paths
	Bytes    int64
	Excluded map[Reason]int
}

// Discover lists a source and applies the filter, looking inside the files that their paths don't rule out. progress, if set,
// gets files looked at and files to look at, from the calling goroutine, once a file.
func Discover(ctx context.Context, s Source, f *Filter, progress func(done, total int)) (Discovery, error) {
	entries, err := s.List(ctx)
	if err != nil {
		return Discovery{}, err
	}
	d := Discovery{Excluded: map[Reason]int{}}
	candidates := entries[:0:0]
	for _, entry := range entries {
		if reason := f.Path(entry.Path, entry.Size); reason != Kept {
			d.Excluded[reason]++
			continue
		}
		candidates = append(candidates, entry)
	}
	done, look := 0, new(inspector)
	err = s.Read(ctx, candidates, func(entry Entry, r io.Reader) error {
		content, err := look.inspect(r)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Path, err)
		}
		if reason := f.Content(content); reason != Kept {
			d.Excluded[reason]++
		} else {
			d.Files = append(d.Files, entry)
			d.Bytes += entry.Size
		}
		if done++; progress != nil {
			progress(done, len(candidates))
		}
		return ctx.Err()
	})
	if err != nil {
		return Discovery{}, err
	}
	if done != len(candidates) {
		return Discovery{}, errors.New("the source gave fewer files than it listed")
	}
	d.Files = sortEntries(d.Files)
	return d, nil
}
