package gitfetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxPath is the longest path, in characters, that the application stores (contract 10, 15.1).
const maxPath = 1_000

// Mode is a file's mode in git's tree: plain or executable.
type Mode uint32

// The modes that a File can have. Symlinks and submodules are not Files.
const (
	Plain      Mode = 0o100644
	Executable Mode = 0o100755
)

// File is one file of a tree.
type File struct {
	Path string // slash-separated, valid UTF-8, without control characters, "." or ".."
	Size int64  // bytes
	Mode Mode
	OID  string // id of the content: equal content, equal id
}

// Skipped counts the entries of a tree that are not Files.
type Skipped struct {
	Symlinks   int
	Submodules int
	BadPaths   int // names that are no UTF-8, hold control characters, are too long, or lead outside
}

// Tree is a fetched commit. Its methods start git processes of their own and are safe for concurrent use.
type Tree struct {
	Commit string
	Branch string
	// FellBack reports that "main" was requested and does not exist, and Branch is the repository's default branch instead.
	FellBack bool
	// Moved reports that the requested commit is no longer served, and Commit is the branch's head instead.
	Moved bool
	// Files are in byte order of their paths.
	Files   []File
	Bytes   int64 // sum of the files' sizes
	Skipped Skipped

	fetcher *Fetcher
	dir     string
	history bool
}

// list reads the commit's tree. It stops as soon as a limit is exceeded, so that a tree that repeats itself without end (a few
// bytes can describe billions of files) costs no more than an honest one.
func (t *Tree) list(ctx context.Context, limits Limits) error {
	c := t.call("ls-tree", "-r", "-l", "-z", "--full-tree", t.Commit)
	c.stdout = func(r io.Reader) error {
		entries := bufio.NewReaderSize(r, 64<<10)
		for count := 0; ; count++ {
			entry, err := entries.ReadBytes(0)
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read tree: %w", err)
			}
			if err := t.add(entry[:len(entry)-1]); err != nil {
				return err
			}
			// Symlinks and the like count too; otherwise a tree that has only those would have no limit.
			if len(t.Files) > limits.Files || count >= 2*limits.Files {
				return refused("The repository has more than %d files.", limits.Files)
			}
			if t.Bytes > limits.Bytes {
				return refused("The files of the repository are larger than %s together.", sizeText(limits.Bytes))
			}
		}
	}
	if err := t.fetcher.run(ctx, c); err != nil {
		return err
	}
	byPath := func(a, b File) int { return strings.Compare(a.Path, b.Path) }
	if !slices.IsSortedFunc(t.Files, byPath) {
		slices.SortFunc(t.Files, byPath)
	}
	t.Files = slices.Clip(t.Files)
	return nil
}

// add reads one entry: "<mode> <type> <oid> <size>\t<path>".
func (t *Tree) add(entry []byte) error {
	meta, path, ok := bytes.Cut(entry, []byte{'\t'})
	fields := strings.Fields(string(meta))
	if !ok || len(fields) != 4 {
		return fmt.Errorf("read tree: unexpected entry %q", entry)
	}
	mode, err := strconv.ParseUint(fields[0], 8, 32)
	if err != nil {
		return fmt.Errorf("read tree: mode: %w", err)
	}
	switch {
	case mode == 0o120000:
		t.Skipped.Symlinks++
		return nil
	case mode == 0o160000:
		t.Skipped.Submodules++
		return nil
	}
	path = []byte(Shown(string(path)))
	switch {
	case mode&0o170000 != 0o100000 || !storable(path):
		t.Skipped.BadPaths++
		return nil
	}
	size, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil {
		return fmt.Errorf("read tree: size: %w", err)
	}
	file := File{Path: string(path), Size: size, Mode: Plain, OID: strings.Clone(fields[2])}
	if mode&0o111 != 0 { // very old repositories have 100664 and the like
		file.Mode = Executable
	}
	t.Files = append(t.Files, file)
	t.Bytes += size
	return nil
}

// Shown returns a name in the form that is stored and shown: bytes that are not UTF-8 become \xNN. Content is found by its id, so
// the original name is not needed.
func Shown(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, name[0])
		} else {
			b.WriteString(name[:n])
		}
		name = name[n:]
	}
	return b.String()
}

// storable reports whether a path can be stored, shown and joined safely.
func storable(path []byte) bool {
	if !utf8.Valid(path) || utf8.RuneCount(path) > maxPath || bytes.ContainsFunc(path, unicode.IsControl) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(string(path), "/"), func(s string) bool { return s == "" || s == "." || s == ".." })
}

// Committed is when the fetched commit was made.
func (t *Tree) Committed(ctx context.Context) (time.Time, error) {
	c := t.call("log", "-1", "--format=%ct", t.Commit, "--")
	out, err := t.fetcher.output(ctx, c)
	if err != nil {
		return time.Time{}, explain(ctx, "read the commit", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil || n <= 0 || n >= 1<<40 {
		return time.Time{}, fmt.Errorf("the commit has no time: %q", out)
	}
	return time.Unix(n, 0).UTC(), nil
}

func (t *Tree) call(args ...string) call { return call{dir: t.dir, repo: t.dir, args: args} }

// Blobs streams the content of the given files, in their order, through one git process. The reader passed to fn is valid during
// the call only; the bytes that fn leaves unread are skipped. An error of fn ends the stream and is returned unchanged. Leave an
// unwanted file, because of its Size for instance, out of files: then its content is not even unpacked.
func (t *Tree) Blobs(ctx context.Context, files []File, fn func(File, io.Reader) error) error {
	if len(files) == 0 {
		return nil
	}
	c := t.call("cat-file", "--batch", "--buffer")
	c.stdin = &oids{files: files}
	c.stdout = func(r io.Reader) error {
		buffered := bufio.NewReaderSize(r, 64<<10)
		for _, file := range files {
			if err := blob(buffered, file, fn); err != nil {
				return err
			}
		}
		return nil
	}
	return t.fetcher.run(ctx, c)
}

// blob reads one answer of cat-file: "<oid> blob <size>\n", the content, "\n".
func blob(r *bufio.Reader, file File, fn func(File, io.Reader) error) error {
	header, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Path, noEOF(err))
	}
	if want := file.OID + " blob " + strconv.FormatInt(file.Size, 10) + "\n"; header != want {
		return fmt.Errorf("read %s: git answers %q", file.Path, strings.TrimSpace(header))
	}
	content := &exact{r: r, left: file.Size}
	if err := fn(file, content); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, content.left+1); err != nil {
		return fmt.Errorf("read %s: %w", file.Path, noEOF(err))
	}
	return nil
}

// exact reads the given number of bytes and then ends. If git dies before that, it returns an error: half a file must not pass for
// a whole one.
type exact struct {
	r    io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	return n, noEOF(err)
}

// noEOF turns an early EOF into an error, so that a truncated stream does not look complete.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// oids writes the ids of files, one per line, as git expects them.
type oids struct {
	files []File
	rest  string
}

func (o *oids) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if o.rest == "" {
			if len(o.files) == 0 {
				break
			}
			o.rest, o.files = o.files[0].OID+"\n", o.files[1:]
		}
		k := copy(p[n:], o.rest)
		n, o.rest = n+k, o.rest[k:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func sizeText(bytes int64) string {
	if bytes >= 1<<30 {
		return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', -1, 64) + " GiB"
	}
	return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', -1, 64) + " MiB"
}
