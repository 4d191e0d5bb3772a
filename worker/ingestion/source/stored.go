package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Stored is an uploaded file in the storage.
type Stored struct {
	Path string // as CleanPath left it
	Size int64
	Key  string // in the storage; unique
}

// Open reads a stored file from its beginning.
type Open func(ctx context.Context, key string) (io.ReadCloser, error)

// FromStored makes a source of stored files. For kind Upload, archives are replaced by their content; for kind Text, archives are
// not expanded. One archive at a time is copied into tempDir ("" for the system's).
func FromStored(kind Kind, files []Stored, open Open, tempDir string, limits ArchiveLimits) Source {
	return stored{kind: kind, files: files, open: open, temp: tempDir, limits: limits}
}

type stored struct {
	kind   Kind
	files  []Stored
	open   Open
	temp   string
	limits ArchiveLimits
}

// memberMark separates an archive's key from the position of a member in Entry.Ref.
const memberMark = "!"

func (s stored) Kind() Kind { return s.kind }

func (s stored) expands(f Stored) bool { return s.kind == Upload && IsArchive(f.Path) }

func (s stored) List(ctx context.Context) ([]Entry, error) {
	var entries []Entry
	for _, file := range s.files {
		if !s.expands(file) {
			entries = append(entries, Entry{Path: file.Path, Size: file.Size, Ref: file.Key})
			continue
		}
		err := s.spool(ctx, file, func(a Source) error {
			members, err := a.List(ctx)
			for _, m := range members {
				m.Ref = file.Key + memberMark + m.Ref
				entries = append(entries, m)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sortEntries(entries), nil
}

func (s stored) Read(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error {
	plain, members := map[string]Entry{}, map[string][]Entry{}
	for _, entry := range entries {
		plain[entry.Ref] = entry
		if key, _, ok := cutLast(entry.Ref, memberMark); ok {
			members[key] = append(members[key], entry)
		}
	}
	for _, file := range s.files {
		var err error
		if entry, ok := plain[file.Key]; ok && !s.expands(file) {
			err = s.readPlain(ctx, entry, fn)
		} else if list := members[file.Key]; len(list) > 0 && s.expands(file) {
			err = s.readMembers(ctx, file, list, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s stored) readPlain(ctx context.Context, entry Entry, fn func(Entry, io.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := s.open(ctx, entry.Ref)
	if err != nil {
		return fmt.Errorf("open %s: %w", entry.Path, err)
	}
	defer func() { _ = r.Close() }()
	return fn(entry, r)
}

func (s stored) readMembers(ctx context.Context, file Stored, entries []Entry, fn func(Entry, io.Reader) error) error {
	byRef := make(map[string]Entry, len(entries))
	inside := make([]Entry, len(entries))
	for i, entry := range entries {
		_, place, _ := cutLast(entry.Ref, memberMark)
		inside[i] = Entry{Path: entry.Path, Size: entry.Size, Ref: place}
		byRef[place] = entry
	}
	return s.spool(ctx, file, func(a Source) error {
		return a.Read(ctx, inside, func(e Entry, r io.Reader) error { return fn(byRef[e.Ref], r) })
	})
}

// spool copies an archive to a temporary file for the time of use; a zip needs that, because its table of contents is at the end.
func (s stored) spool(ctx context.Context, file Stored, use func(Source) error) error {
	r, err := s.open(ctx, file.Key)
	if err != nil {
		return fmt.Errorf("open %s: %w", file.Path, err)
	}
	defer func() { _ = r.Close() }()
	temp, err := os.CreateTemp(s.temp, "kijko-archive-")
	if err != nil {
		return fmt.Errorf("spool %s: %w", file.Path, err)
	}
	defer func() {
		_ = temp.Close()
		_ = os.Remove(temp.Name())
	}()
	// The size was recorded when the file was stored; a longer file is not the stored one.
	size, err := io.Copy(temp, io.LimitReader(r, file.Size+1))
	if err == nil && size != file.Size {
		err = fmt.Errorf("has %d bytes, recorded are %d", size, file.Size)
	}
	if err != nil {
		return fmt.Errorf("spool %s: %w", file.Path, err)
	}
	return use(FromArchive(file.Path, temp, size, s.limits))
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	if _, err := strconv.Atoi(s[i+len(sep):]); err != nil {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
