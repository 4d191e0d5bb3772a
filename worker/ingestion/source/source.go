package source

import (
	"context"
	"io"
	"slices"
	"strings"

	"kijko/worker/gitfetch"
)

// Kind is the kind of a source; the filters depend on it.
type Kind string

// The kinds of sources.
const (
	Repository Kind = "repository"
	Upload     Kind = "upload"
	// Text is text that a person typed or pasted: manual content and text sources. It was added on purpose, so only emptiness,
	// binary content and an exclusion by name keep it out.
	Text Kind = "text"
)

// Entry is one file of a source.
type Entry struct {
	Path string // slash-separated, unique within the source
	Size int64  // bytes
	// Ref locates the content: a blob id, a storage key, or a position in an archive. Only the source that returned it can read it.
	Ref string
	// Encoding is set by Discover for a text that is not Unicode.
	Encoding string
}

// Source is a set of files.
type Source interface {
	Kind() Kind
	// List returns all files in byte order of their paths. Entries that can never be read (symlinks, devices, paths that lead
	// outside) are left out.
	List(ctx context.Context) ([]Entry, error)
	// Read streams the content of entries of List, each once, in an order that the source chooses. The reader is valid during the
	// call of fn; bytes that fn leaves unread are skipped. An error of fn ends the reading and is returned unchanged.
	Read(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error
}

func byPath(a, b Entry) int { return strings.Compare(a.Path, b.Path) }

// FromTree makes a source of a fetched repository.
func FromTree(tree *gitfetch.Tree) Source { return repository{tree} }

type repository struct{ tree *gitfetch.Tree }

func (repository) Kind() Kind { return Repository }

func (r repository) List(context.Context) ([]Entry, error) {
	entries := make([]Entry, len(r.tree.Files))
	for i, f := range r.tree.Files {
		entries[i] = Entry{Path: f.Path, Size: f.Size, Ref: f.OID}
	}
	return entries, nil
}

func (r repository) Read(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error {
	files := make([]gitfetch.File, len(entries))
	for i, e := range entries {
		files[i] = gitfetch.File{Path: e.Path, Size: e.Size, OID: e.Ref}
	}
	next := 0 // Blobs keeps the order
	return r.tree.Blobs(ctx, files, func(_ gitfetch.File, content io.Reader) error {
		entry := entries[next]
		next++
		return fn(entry, content)
	})
}

// FromText makes a source of one pseudo-file, for manual and plain text.
func FromText(path, content string) Source { return text{path, content} }

type text struct{ path, content string }

func (text) Kind() Kind { return Text }

func (t text) List(context.Context) ([]Entry, error) {
	return []Entry{{Path: t.path, Size: int64(len(t.content))}}, nil
}

func (t text) Read(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error {
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(entry, strings.NewReader(t.content)); err != nil {
			return err
		}
	}
	return nil
}

// sortEntries sorts entries. Among entries with the same path it keeps the last one, as unpacking an archive would.
func sortEntries(entries []Entry) []Entry {
	slices.SortStableFunc(entries, byPath)
	kept := entries[:0]
	for i, entry := range entries {
		if i+1 < len(entries) && entries[i+1].Path == entry.Path {
			continue
		}
		kept = append(kept, entry)
	}
	return slices.Clip(kept)
}
