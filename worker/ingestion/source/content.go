package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	sniffBytes = 8 << 10 // a NUL in here means binary
	// wholeBytes is how much of a file is inspected. The parser refuses larger files in any case.
	wholeBytes     = 8 << 20
	minifiedLine   = 500 // average characters per line
	generatedLines = 5   // a marker must be in the first five lines
	wideBytes      = 64  // smallest text that is checked for UTF-16 without a mark
)

// Errors of Decode.
var (
	ErrBinary   = errors.New("the file is not text")
	ErrTooLarge = errors.New("the file is too large")
)

// Content is the result of inspecting a file.
type Content struct {
	Binary     bool
	TextLike   bool   // of a binary file: it looks like text in an unknown encoding
	Encoding   string // of a text that is not Unicode; for DecodeAs
	Pointer    bool   // a pointer to a file that Git LFS keeps
	Generated  bool   // a marker in the first lines says so
	Characters int64
	Lines      int64 // at least 1
}

// Inspect reads up to 8 MiB of a file, holding no more than a few KiB of it.
func Inspect(r io.Reader) (Content, error) { return new(inspector).inspect(r, nil) }

// inspector reuses its buffers for the next file. It is not safe for concurrent use.
type inspector struct {
	read  [32 << 10]byte
	joint []byte
	in    inspection
}

// inspect inspects a file. hint, if set, returns the encoding that is known from elsewhere.
func (i *inspector) inspect(r io.Reader, hint func() string) (Content, error) {
	i.in = inspection{head: i.in.head[:0], carry: i.in.carry[:0], sample: i.in.sample[:0], hint: hint}
	limited := io.LimitReader(r, wholeBytes)
	total := 0
	for {
		n, err := limited.Read(i.read[:])
		total += n
		if n > 0 {
			i.joint = append(append(i.joint[:0], i.in.carry...), i.read[:n]...)
			if !i.in.feed(i.joint) {
				return i.in.binary(), nil
			}
		}
		if errors.Is(err, io.EOF) {
			return i.in.result(total < wholeBytes), nil
		} else if err != nil {
			return Content{}, fmt.Errorf("inspect file: %w", err)
		}
	}
}

type encoding int

const (
	unknown encoding = iota
	utf8Text
	utf16Text // NULs belong there
	utf32Text
	oldText // no Unicode
	notText
)

// detect returns the encoding by the first bytes (at least four, unless the file is shorter), and the length of the byte
// order mark.
func detect(head []byte) (encoding, int, binary.ByteOrder) {
	switch {
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE, 0, 0}):
		return utf32Text, 4, binary.LittleEndian
	case bytes.HasPrefix(head, []byte{0, 0, 0xFE, 0xFF}):
		return utf32Text, 4, binary.BigEndian
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}):
		return utf16Text, 2, binary.LittleEndian
	case bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		return utf16Text, 2, binary.BigEndian
	case bytes.HasPrefix(head, []byte{0xEF, 0xBB, 0xBF}):
		return utf8Text, 3, nil
	}
	if order := wide(head[:min(len(head), wideBytes)]); order != nil {
		return utf16Text, 0, order
	}
	return utf8Text, 0, nil
}

// inspection counts while it is fed. carry is the character or code unit that the end of the last piece cut in two.
type inspection struct {
	encoding   encoding
	order      binary.ByteOrder
	carry      []byte
	seen       int
	characters int64
	breaks     int64
	head       []byte // first lines, for the marker and the declaration
	sample     []byte // from the first byte beyond ASCII on
	tail       []byte // the byte before the next piece
	controls   int
	hint       func() string
}

// binary is the result for a file that is no text.
func (in *inspection) binary() Content { return Content{Binary: true, Lines: 1} }

// feed takes the carry and the next piece; false means binary.
func (in *inspection) feed(data []byte) bool {
	if in.encoding == unknown {
		if len(data) < wideBytes { // the form shows in so many bytes; a shorter file is checked at its end
			in.carry = append(in.carry[:0], data...)
			return true
		}
		data = in.begin(data)
	}
	return in.take(data)
}

func (in *inspection) begin(data []byte) []byte {
	var mark int
	in.encoding, mark, in.order = detect(data)
	return data[mark:]
}

func (in *inspection) take(data []byte) bool {
	switch in.encoding {
	case notText:
		return false
	case oldText:
		return in.old(data)
	case utf32Text:
		whole := len(data) &^ 3
		for i := 0; i < whole; i += 4 {
			r := in.order.Uint32(data[i:])
			in.characters++
			if r == '\n' {
				in.breaks++
			}
			in.keep(byte(min(r, 0x7f)))
		}
		in.carry = append(in.carry[:0], data[whole:]...)
		return true
	}
	if in.encoding == utf16Text {
		whole := len(data) &^ 1
		for i := 0; i < whole; i += 2 {
			unit := in.order.Uint16(data[i:])
			in.characters++
			if unit == '\n' {
				in.breaks++
			}
			in.keep(byte(min(unit, 0x7f)))
		}
		in.carry = append(in.carry[:0], data[whole:]...)
		return true
	}
	if in.seen < sniffBytes && bytes.IndexByte(data[:min(len(data), sniffBytes-in.seen)], 0) >= 0 {
		return false
	}
	whole := wholeRunes(data)
	if !utf8.Valid(data[:whole]) {
		in.encoding = oldText
		return in.old(data)
	}
	in.seen += len(data)
	in.collect(data[:whole])
	in.characters += int64(utf8.RuneCount(data[:whole]))
	in.breaks += int64(bytes.Count(data[:whole], []byte{'\n'}))
	if room := sniffBytes - len(in.head); room > 0 {
		in.head = append(in.head, data[:min(whole, room)]...)
	}
	in.seen -= len(data) - whole // comes again with the next piece
	in.carry = append(in.carry[:0], data[whole:]...)
	return true
}

// old processes a piece of a text that is not Unicode. Its characters are counted as bytes.
func (in *inspection) old(data []byte) bool {
	if in.seen < sniffBytes && bytes.IndexByte(data[:min(len(data), sniffBytes-in.seen)], 0) >= 0 {
		return false
	}
	in.seen += len(data)
	in.characters += int64(len(data))
	in.breaks += int64(bytes.Count(data, []byte{'\n'}))
	for _, c := range data {
		if isControl(c) {
			in.controls++
		}
	}
	if room := sniffBytes - len(in.head); room > 0 {
		in.head = append(in.head, data[:min(len(data), room)]...)
	}
	in.collect(data)
	in.carry = in.carry[:0]
	return true
}

// collect keeps a sample from the first byte beyond ASCII on.
func (in *inspection) collect(data []byte) {
	if len(in.sample) == 0 {
		k := slices.IndexFunc(data, func(c byte) bool { return c >= utf8.RuneSelf })
		if k < 0 {
			in.tail = append(in.tail[:0], data[max(0, len(data)-1):]...)
			return
		}
		// The letter before it shows whether it is inside a word.
		if k > 0 {
			k--
		} else {
			in.sample = append(in.sample, in.tail...)
		}
		data = data[k:]
	}
	if room := sampleBytes - len(in.sample); room > 0 {
		in.sample = append(in.sample, data[:min(len(data), room)]...)
	}
}

func (in *inspection) keep(b byte) {
	if len(in.head) < sniffBytes {
		in.head = append(in.head, b)
	}
}

// wholeRunes returns the length of data without an incomplete character at its end.
func wholeRunes(data []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
		if b := data[len(data)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(data[len(data)-i:]) {
				return len(data) - i
			}
			break
		}
	}
	return len(data)
}

// result ends the inspection. complete means that the whole file was read, so no incomplete character may be left.
func (in *inspection) result(complete bool) Content {
	if in.encoding == unknown && !in.take(in.begin(slices.Clone(in.carry))) {
		return in.binary()
	}
	if complete && in.encoding == utf8Text && len(in.carry) > 0 {
		in.encoding = oldText
		if !in.old(slices.Clone(in.carry)) {
			return in.binary()
		}
	}
	c := Content{Characters: in.characters, Lines: in.breaks + 1, Generated: generated(string(in.head))}
	switch in.encoding {
	case oldText:
		if c.Encoding = guess(in.head, in.sample, in.hint); c.Encoding == "" || !texty(in.controls, in.seen) {
			return Content{Binary: true, TextLike: texty(in.controls, in.seen), Lines: 1}
		}
	case utf8Text:
		if len(in.sample) == 0 && bytes.IndexByte(in.head, 0x1b) >= 0 {
			if name := declared(in.head); escaped(in.head, name) {
				c.Encoding = name
			}
		}
		c.Pointer = complete && in.seen < 1024 && bytes.HasPrefix(in.head, []byte("version https://git-lfs.github.com/spec/v1\n")) &&
			bytes.Contains(in.head, []byte("\noid sha256:"))
	}
	return c
}

// generatedMarkers are the markers that generators write, in lower case.
var generatedMarkers = []string{"code generated", "@generated", "do not edit", "autogenerated", "auto-generated", "automatically generated",
	"generated by", "this file was generated", "this file is generated"}

func generated(head string) bool {
	lines := strings.SplitN(head, "\n", generatedLines+1)
	return containsAny(strings.ToLower(strings.Join(lines[:min(len(lines), generatedLines)], "\n")), generatedMarkers...)
}

// Decode reads a whole file as text: without byte order mark, from UTF-8, UTF-16 or UTF-32, with line ends as they are.
// More than limit bytes give ErrTooLarge, other content than text ErrBinary. NULs, which the database cannot store,
// become U+FFFD where they don't make a file binary; so do broken pairs in UTF-16.
func Decode(r io.Reader, limit int64) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", fmt.Errorf("read file: %w", err)
	}
	if int64(len(data)) > limit {
		return "", ErrTooLarge
	}
	kind, mark, order := detect(data)
	data = data[mark:]
	switch {
	case kind == utf32Text:
		runes := make([]rune, len(data)/4)
		for i := range runes {
			runes[i] = rune(order.Uint32(data[4*i:]))
		}
		return cleanNUL(string(runes)), nil
	case kind == utf16Text:
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = order.Uint16(data[2*i:])
		}
		return cleanNUL(string(utf16.Decode(units))), nil
	case kind == notText, bytes.IndexByte(data[:min(len(data), sniffBytes)], 0) >= 0, !utf8.Valid(data):
		return "", ErrBinary
	}
	return cleanNUL(string(data)), nil
}

func cleanNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
