// Package spill keeps records of any struct type on the local disk between the phases of a run, so that a repository of a gigabyte is
// never held in memory.
//
// A Writer takes records in any order, each under its number, from any number of goroutines. Seal writes the index and makes the set
// final. Open does not find a set that was not sealed, so a killed process leaves no partial set behind. Every record carries a
// checksum. Records are written by reflection over the struct's fields. Schema describes their form, and a reader with another schema
// must not open the set.
//
// A Reader is safe for concurrent use.
package spill

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// ErrDamaged means that a record differs from the written one.
var ErrDamaged = errors.New("spilled record is damaged")

// place is the position of a record; length 0 means that there is none.
type place struct{ offset, length int64 }

// Writer writes a set.
type Writer struct {
	name string
	mu   sync.Mutex
	file *os.File
	out  *bufio.Writer
	at   int64
	idx  []place
}

// Create begins the set name (a path without ending) for records 0 to n-1, replacing an older one.
func Create(name string, n int) (*Writer, error) {
	if err := Remove(name); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(name+".data", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spill: %w", err)
	}
	return &Writer{name: name, file: file, out: bufio.NewWriterSize(file, 256<<10), idx: make([]place, n)}, nil
}

// Remove deletes a set, sealed or not.
func Remove(name string) error {
	for _, ending := range []string{".index", ".data"} {
		if err := os.Remove(name + ending); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("spill: %w", err)
		}
	}
	return nil
}

// Put writes record i; v points to a struct.
func (w *Writer) Put(i int, v any) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	data, err := Encode((*buf)[:0], v)
	*buf = data
	if err != nil {
		return fmt.Errorf("spill record %d: %w", i, err)
	}
	return w.PutEncoded(i, data)
}

// Encode appends the record of v, a pointer to a struct, with its checksum to b.
func Encode(b []byte, v any) ([]byte, error) {
	at := len(b)
	b, err := encode(append(b, 0, 0, 0, 0, 0, 0, 0, 0), v)
	if err == nil {
		binary.LittleEndian.PutUint64(b[at:], xxhash.Sum64(b[at+8:]))
	}
	return b, err
}

// PutEncoded writes record i as Encode made it.
func (w *Writer) PutEncoded(i int, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idx[i] = place{w.at, int64(len(data))}
	w.at += int64(len(data))
	if _, err := w.out.Write(data); err != nil {
		return fmt.Errorf("spill record %d: %w", i, err)
	}
	return nil
}

// Seal ends the set and opens it.
func (w *Writer) Seal() (*Reader, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := errors.Join(w.out.Flush(), w.file.Close()); err != nil {
		return nil, fmt.Errorf("seal spill: %w", err)
	}
	index := make([]byte, 0, 8+len(w.idx)*6)
	for _, p := range w.idx {
		index = binary.AppendUvarint(index, uint64(p.offset))
		index = binary.AppendUvarint(index, uint64(p.length))
	}
	index = binary.LittleEndian.AppendUint64(index, xxhash.Sum64(index))
	if err := os.WriteFile(w.name+".index.new", index, 0o600); err != nil {
		return nil, fmt.Errorf("seal spill: %w", err)
	}
	if err := os.Rename(w.name+".index.new", w.name+".index"); err != nil {
		return nil, fmt.Errorf("seal spill: %w", err)
	}
	return Open(w.name, len(w.idx))
}

// Abort discards the set.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.file.Close()
	_ = Remove(w.name)
}

// Reader reads a sealed set.
type Reader struct {
	file *os.File
	idx  []place
}

// Open opens a sealed set of n records; fs.ErrNotExist if there is none.
func Open(name string, n int) (*Reader, error) {
	index, err := os.ReadFile(name + ".index")
	if err != nil {
		return nil, fmt.Errorf("open spill: %w", err)
	}
	if len(index) < 8 || binary.LittleEndian.Uint64(index[len(index)-8:]) != xxhash.Sum64(index[:len(index)-8]) {
		return nil, fmt.Errorf("open spill: index: %w", ErrDamaged)
	}
	r := &Reader{idx: make([]place, 0, n)}
	for rest := index[:len(index)-8]; len(rest) > 0; {
		offset, a := binary.Uvarint(rest)
		length, b := binary.Uvarint(rest[max(a, 0):])
		if a <= 0 || b <= 0 {
			return nil, fmt.Errorf("open spill: index: %w", ErrDamaged)
		}
		r.idx = append(r.idx, place{int64(offset), int64(length)})
		rest = rest[a+b:]
	}
	if len(r.idx) != n {
		return nil, fmt.Errorf("open spill: %d records instead of %d: %w", len(r.idx), n, ErrDamaged)
	}
	if r.file, err = os.Open(name + ".data"); err != nil {
		return nil, fmt.Errorf("open spill: %w", err)
	}
	return r, nil
}

// Len is the number of records, written or not.
func (r *Reader) Len() int { return len(r.idx) }

// Has reports whether record i was written.
func (r *Reader) Has(i int) bool { return r.idx[i].length > 0 }

// Get reads record i into the struct that v points to; false if it was never written.
func (r *Reader) Get(i int, v any) (bool, error) {
	p := r.idx[i]
	if p.length == 0 {
		return false, nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if int64(cap(*buf)) < p.length {
		*buf = make([]byte, p.length)
	}
	data := (*buf)[:p.length]
	if _, err := r.file.ReadAt(data, p.offset); err != nil {
		return false, fmt.Errorf("spilled record %d: %w", i, err)
	}
	if err := Decode(data, v); err != nil {
		return false, fmt.Errorf("spilled record %d: %w", i, err)
	}
	return true, nil
}

// Decode reads a record as Encode made it into the struct that v points to.
func Decode(data []byte, v any) error {
	if len(data) < 8 || binary.LittleEndian.Uint64(data) != xxhash.Sum64(data[8:]) {
		return ErrDamaged
	}
	return decode(data[8:], v)
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
