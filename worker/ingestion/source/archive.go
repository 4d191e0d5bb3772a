package source

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"kijko/worker/gitfetch"
)

// ArchiveLimits bound the expansion of an archive; a zero field means the contract's value (10-projects 15.1).
type ArchiveLimits struct {
	Expanded int64 // bytes of all files together; 1 GiB
	Entries  int   // of any type; 20,000
	Ratio    int64 // expanded bytes for each stored one; 100
}

func (l ArchiveLimits) orDefault() ArchiveLimits {
	if l.Expanded <= 0 {
		l.Expanded = 1 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 20_000
	}
	if l.Ratio <= 0 {
		l.Ratio = 100
	}
	return l
}

// maxDirectory bounds the bytes of a zip's table of contents, which is held in memory as a whole. It has room for 20,000 entries with
// paths of 700 bytes.
const maxDirectory = 16 << 20

// tarOverhead bounds the bytes of a tar besides content: headers and padding.
const tarOverhead = 64 << 20

// IsArchive reports by its name whether a stored file is expanded: .zip, .tar, .tar.gz, .tgz.
func IsArchive(name string) bool { return format(name) != "" }

func format(name string) string {
	lower := strings.ToLower(name)
	for suffix, format := range map[string]string{".zip": "zip", ".tar": "tar", ".tar.gz": "tgz", ".tgz": "tgz"} {
		if strings.HasSuffix(lower, suffix) {
			return format
		}
	}
	return ""
}

// archive reads one archive. The paths of its entries begin with the archive's own path: code.zip/src/a.go.
type archive struct {
	name   string
	data   io.ReaderAt
	size   int64
	limits ArchiveLimits
}

// FromArchive makes a source of an archive. The extension of name selects the format. Every call reads data from the beginning.
func FromArchive(name string, data io.ReaderAt, size int64, limits ArchiveLimits) Source {
	return archive{name: name, data: data, size: size, limits: limits.orDefault()}
}

func (archive) Kind() Kind { return Upload }

func (a archive) List(ctx context.Context) ([]Entry, error) {
	var entries []Entry
	count, expanded := 0, int64(0)
	err := a.walk(ctx, func(m member) error {
		if count++; count > a.limits.Entries {
			return a.invalid("has more than %d entries", a.limits.Entries)
		}
		if !m.file {
			return nil
		}
		expanded += m.size
		if m.size < 0 || expanded < 0 || expanded > a.limits.Expanded {
			return a.invalid("expands to more than %d MiB", a.limits.Expanded>>20)
		}
		if expanded > a.limits.Ratio*a.size {
			return a.invalid("expands to more than %d times its size", a.limits.Ratio)
		}
		if path, ok := memberPath(m.name); ok {
			entries = append(entries, Entry{Path: a.name + "/" + path, Size: m.size, Ref: strconv.Itoa(m.index)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sortEntries(entries), nil
}

func (a archive) Read(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error {
	wanted := make(map[int]Entry, len(entries))
	for _, entry := range entries {
		index, err := strconv.Atoi(entry.Ref)
		if err != nil {
			return fmt.Errorf("read %s: not from this archive", entry.Path)
		}
		wanted[index] = entry
	}
	err := a.walk(ctx, func(m member) error {
		entry, ok := wanted[m.index]
		if !ok {
			return nil
		}
		delete(wanted, m.index)
		if err := a.content(m, entry, fn); err != nil {
			return err
		}
		if len(wanted) == 0 {
			return errDone
		}
		return nil
	})
	if err == nil && len(wanted) > 0 {
		err = a.invalid("has changed")
	}
	return err
}

// content passes one file to fn. The readers of both formats return exactly the listed size or an error, also for a member with a false
// size. The result separates a fault of the archive from an error of fn.
func (a archive) content(m member, entry Entry, fn func(Entry, io.Reader) error) error {
	r, err := m.open()
	if err != nil {
		return a.corrupt(err)
	}
	defer func() { _ = r.Close() }()
	source := &faultReader{r: r}
	err = fn(entry, source)
	if source.err != nil {
		return a.corrupt(source.err)
	}
	return err
}

// faultReader records that reading failed.
type faultReader struct {
	r   io.Reader
	err error
}

func (f *faultReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// member is one entry as the archive format describes it.
type member struct {
	index int
	name  string
	size  int64
	file  bool // a regular file: no folder, link, device or pipe
	open  func() (io.ReadCloser, error)
}

// errDone ends a walk early.
var errDone = errors.New("done")

func (a archive) walk(ctx context.Context, fn func(member) error) error {
	var err error
	switch format(a.name) {
	case "zip":
		err = a.walkZip(ctx, fn)
	case "tar":
		err = a.walkTar(ctx, io.NewSectionReader(a.data, 0, a.size), fn)
	case "tgz":
		var unzipped *gzip.Reader
		if unzipped, err = gzip.NewReader(io.NewSectionReader(a.data, 0, a.size)); err != nil {
			return a.corrupt(err)
		}
		err = a.walkTar(ctx, unzipped, fn)
	default:
		err = a.invalid("is of an unknown format")
	}
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

func (a archive) walkZip(ctx context.Context, fn func(member) error) error {
	directory := &budgetReader{data: a.data, left: maxDirectory}
	z, err := zip.NewReader(directory, a.size)
	switch {
	case directory.left < 0:
		return a.invalid("has more than %d entries", a.limits.Entries)
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // memberPath checks the paths
		return a.corrupt(err)
	}
	directory.off = true // from here on content is read
	for index, file := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if file.Flags&1 != 0 {
			return a.invalid("is encrypted")
		}
		if file.Method != zip.Store && file.Method != zip.Deflate {
			return a.invalid("uses a compression that is not supported")
		}
		err := fn(member{index: index, name: zipName(file), size: clampSize(file.UncompressedSize64), file: file.Mode().IsRegular(),
			open: file.Open})
		if err != nil {
			return err
		}
	}
	return nil
}

// unicodePath is the extra field of Info-ZIP with a name in UTF-8.
const unicodePath = 0x7075

// zipName returns the name of an entry. Without the UTF-8 flag the format's own code page applies. But many writers omit the flag for
// names that are UTF-8, or add a UTF-8 name as an extra field.
func zipName(file *zip.File) string {
	for extra := file.Extra; len(extra) >= 4; {
		id, size := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		extra = extra[4:]
		if size > len(extra) {
			break
		}
		if id == unicodePath && size > 5 && extra[0] == 1 && binary.LittleEndian.Uint32(extra[1:]) == crc32.ChecksumIEEE([]byte(file.Name)) &&
			utf8.Valid(extra[5:size]) {
			return string(extra[5:size])
		}
		extra = extra[size:]
	}
	if utf8.ValidString(file.Name) {
		return file.Name
	}
	if name, err := charmap.CodePage437.NewDecoder().String(file.Name); err == nil {
		return name
	}
	return file.Name
}

func clampSize(n uint64) int64 {
	if n > 1<<62 {
		return -1
	}
	return int64(n)
}

// budgetReader fails when more bytes are read than its budget allows, until it is switched off.
type budgetReader struct {
	data io.ReaderAt
	left int64
	off  bool
}

var errBudget = errors.New("table of contents too large")

func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if !b.off {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, errBudget
		}
	}
	return b.data.ReadAt(p, off)
}

func (a archive) walkTar(ctx context.Context, r io.Reader, fn func(member) error) error {
	counted := &io.LimitedReader{R: r, N: a.limits.Expanded + tarOverhead}
	t := tar.NewReader(counted)
	for index := 0; ; index++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return a.checkEnd(counted)
		case counted.N <= 0:
			return a.invalid("expands to more than %d MiB", a.limits.Expanded>>20)
		case err != nil && !errors.Is(err, tar.ErrInsecurePath): // memberPath checks the paths
			return a.corrupt(err)
		}
		err = fn(member{index: index, name: header.Name, size: header.Size, file: header.Typeflag == tar.TypeReg,
			open: func() (io.ReadCloser, error) { return io.NopCloser(t), nil }})
		if err != nil {
			return err
		}
	}
}

// checkEnd reads the bytes after the last entry, so that the checksum of a compressed archive is verified. Padding of any kind is
// common there and is ignored.
func (a archive) checkEnd(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) {
		return a.corrupt(err)
	}
	return nil
}

// memberPath returns the path of an entry within its archive. It returns false for a path that would lead outside or cannot be stored.
// Names written by Windows may have backslashes; bytes that are not UTF-8 are shown escaped.
func memberPath(name string) (string, bool) {
	name = gitfetch.Shown(strings.ReplaceAll(name, `\`, "/"))
	absolute := strings.HasPrefix(name, "/") || len(name) > 1 && name[1] == ':' && isLetter(name[0])
	segments := strings.Split(name, "/")
	if absolute || strings.HasSuffix(name, "/") || slices.Contains(segments, "..") || strings.ContainsFunc(name, unicode.IsControl) {
		return "", false
	}
	segments = slices.DeleteFunc(segments, func(s string) bool { return s == "" || s == "." })
	path := strings.Join(segments, "/")
	return path, path != "" && utf8.RuneCountInString(path) <= MaxPath
}

func (a archive) invalid(format string, args ...any) error {
	return gitfetch.Invalid("The archive %q "+format+".", append([]any{a.name}, args...)...)
}

func (a archive) corrupt(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return gitfetch.Invalid("The archive %q is corrupt.", a.name).Because(err)
}
