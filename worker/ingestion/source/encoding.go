package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/editorconfig/editorconfig-core-go/v2"
	"github.com/gogs/chardet"
	"golang.org/x/net/html/charset"
	textencoding "golang.org/x/text/encoding"
)

// sampleBytes is the size of the sample of a text in an old encoding, from its first byte beyond ASCII on.
const sampleBytes = 64 << 10

// declarations match the encoding that a text declares in its first lines: PEP 263 and similar forms of Ruby and editors, XML, HTML, CSS,
// gettext, LaTeX, Perl.
var declarations = []*regexp.Regexp{
	regexp.MustCompile(`\A(?:[^\n]*\n)?[ \t\f]*(?:#|//|--|;|%|/?\*|"|'|<!--)[^\n]*?(?:file)?(?:en)?coding[:=][ \t]*([-\w.]+)`),
	regexp.MustCompile(`\A\s*<\?xml[^>]{0,200}?encoding[ \t]*=[ \t]*["']([-\w.]+)["']`),
	regexp.MustCompile(`(?i)<meta\s[^>]{0,300}?charset[ \t]*=[ \t]*["']?([-\w.]+)`),
	regexp.MustCompile(`\A@charset "([-\w.]+)"`),
	regexp.MustCompile(`(?i)"Content-Type: text/plain; charset=([-\w.]+)\\n"`),
	regexp.MustCompile(`\\usepackage\[([-\w]+)\]\{inputenc\}`),
	regexp.MustCompile(`(?m)^=encoding[ \t]+([-\w.]+)`),
}

// aliases are encoding names that WHATWG's list does not have.
var aliases = map[string]string{"latin1": "windows-1252", "latin-1": "windows-1252", "iso-latin-1": "windows-1252", "l1": "windows-1252", "latin2": "iso-8859-2", "latin-2": "iso-8859-2",
	"latin9": "iso-8859-15", "latin-9": "iso-8859-15", "latin5": "windows-1254", "ansinew": "windows-1252", "applemac": "macintosh", "mac-roman": "macintosh", "cp932": "shift_jis", "sjis": "shift_jis",
	"ms932": "shift_jis", "shift-jis": "shift_jis", "cp936": "gbk", "cp949": "euc-kr", "cp950": "big5", "eucjp": "euc-jp", "ujis": "euc-jp", "euckr": "euc-kr", "koi8r": "koi8-r", "cp1250": "windows-1250",
	"cp1251": "windows-1251", "cp1252": "windows-1252", "cp1253": "windows-1253", "cp1254": "windows-1254", "iso-latin-1-unix": "windows-1252", "iso-latin-1-dos": "windows-1252"}

// lookup returns the encoding of a name, and the name that is stored; nil for UTF-8 and for unknown names.
func lookup(name string) (textencoding.Encoding, string) {
	name = strings.ToLower(strings.TrimSpace(name))
	if a, ok := aliases[name]; ok {
		name = a
	} else if a, ok := aliases[strings.TrimSuffix(strings.TrimSuffix(name, "-unix"), "-dos")]; ok {
		name = a
	}
	e, canonical := charset.Lookup(name)
	if e == nil || canonical == "utf-8" || canonical == "replacement" || canonical == "x-user-defined" || strings.HasPrefix(canonical, "utf-16") {
		return nil, ""
	}
	return e, canonical
}

// declared returns the encoding that the first bytes of a text declare.
func declared(head []byte) string {
	head = head[:min(len(head), 4096)]
	for _, d := range declarations {
		if m := d.FindSubmatch(head); len(m) > 1 {
			if _, name := lookup(string(m[1])); name != "" {
				return name
			}
		}
	}
	return ""
}

// escaped reports whether an ASCII text is in an encoding that switches by escape sequences.
func escaped(head []byte, name string) bool {
	return name == "iso-2022-jp" && bytes.Contains(head, []byte("\x1b$"))
}

// fits reports whether bytes can be decoded in an encoding. The last character may be incomplete.
func fits(sample []byte, name string) bool {
	e, _ := lookup(name)
	if e == nil {
		return false
	}
	text, err := e.NewDecoder().Bytes(sample)
	if err != nil {
		return false
	}
	for len(text) > 0 && len(sample) == sampleBytes {
		r, n := utf8.DecodeLastRune(text)
		if r != utf8.RuneError {
			break
		}
		text = text[:len(text)-n]
	}
	return !bytes.ContainsRune(text, utf8.RuneError)
}

// guess returns the encoding of a text that is not UTF-8: the declared one, the one in .editorconfig, or one that the bytes clearly show.
// It returns "" if none fits: a wrong letter is worse than a file that is counted as left out.
func guess(head, sample []byte, hint func() string) string {
	if name := declared(head); name != "" && fits(sample, name) {
		return name
	}
	if hint != nil {
		if _, name := lookup(hint()); name != "" && fits(sample, name) {
			return name
		}
	}
	return plainly(sample)
}

// runs holds figures about the bytes beyond ASCII in a sample.
type runs struct {
	high, count, single     int // bytes, runs of them, runs of one
	even                    bool
	upper, lower            int // C0-DF, E0-FF
	control                 int // 80-9F
	letters, marks, strange int // as windows-1252
}

func look(b []byte) (r runs) {
	r.even = true
	for i := 0; i < len(b); {
		if b[i] < 0x80 {
			i++
			continue
		}
		from := i
		for i < len(b) && b[i] >= 0x80 {
			c := b[i]
			switch {
			case c >= 0xE0:
				r.lower++
			case c >= 0xC0:
				r.upper++
			case c < 0xA0:
				r.control++
			}
			before := byte(' ')
			if i > 0 {
				before = b[i-1]
			}
			switch {
			case c == 0xFF || c == 0x81 || c == 0x8D || c == 0x8F || c == 0x90 || c == 0x9D || c == 0xD7 || c == 0xF7:
				r.strange++
			case c >= 0xE0 || c == 0xDF || c == 0x9A || c == 0x9C || c == 0x9E:
				r.letters++
			case c >= 0xC0 || c == 0x8A || c == 0x8C || c == 0x8E || c == 0x9F:
				if before >= 'a' && before <= 'z' { // a capital inside a word
					r.strange++
				} else {
					r.letters++
				}
			case c >= 0x91 && c <= 0x97 || c == 0x85 || c == 0x80 || c == 0x99 || c == 0x95 || c == 0xA0 || c == 0xA1 || c == 0xA3 || c == 0xA7 || c == 0xA9 || c == 0xAB || c == 0xAE ||
				c == 0xB0 || c == 0xB1 || c == 0xB2 || c == 0xB3 || c == 0xB4 || c == 0xB5 || c == 0xB7 || c == 0xBA || c == 0xAA || c == 0xBB || c >= 0xBC && c <= 0xBF:
				r.marks++
			default:
				r.strange++
			}
			i++
		}
		n := i - from
		r.high += n
		r.count++
		if n == 1 {
			r.single++
		}
		if n%2 == 1 && i < len(b) {
			r.even = false
		}
	}
	return r
}

// plainly returns the encoding that a sample clearly has. Several bytes that follow the rules of an East Asian encoding and are its common
// characters are hardly ever anything else. Single bytes between ASCII letters are Western. Long runs of single bytes are another alphabet,
// which the detector identifies by its trigrams.
func plainly(sample []byte) string {
	r := look(sample)
	if r.high == 0 {
		return ""
	}
	if name := eastAsian(sample, r); name != "" {
		return name
	}
	found, _ := chardet.NewTextDetector().DetectAll(foreign(sample))
	confidence := map[string]int{}
	for _, f := range found {
		confidence[strings.ToLower(f.Charset)] = max(confidence[strings.ToLower(f.Charset)], f.Confidence)
	}
	western := max(confidence["iso-8859-1"], confidence["windows-1252"])
	if 10*r.single >= 8*r.count && r.count > 0 {
		for _, name := range [...]string{"iso-8859-2", "windows-1250", "iso-8859-9", "windows-1254"} {
			if c := confidence[name]; c >= 40 && c > western+10 && r.high >= 12 && fits(sample, name) {
				return name
			}
		}
		if r.strange*10 <= r.high && r.letters+r.marks > 0 {
			return "windows-1252"
		}
		return ""
	}
	best, top := "", 0
	for name, c := range confidence {
		if _, kept := lookup(name); kept != "" && kept != "windows-1252" && (c > top || c == top && name < best) && fits(sample, name) {
			best, top = name, c
		}
	}
	alphabet := r.high >= 6 && 10*(r.upper+r.lower) >= 9*r.high
	switch {
	case top >= 40 && r.high >= 12 && (best == "windows-1251" || best == "koi8-r" || best == "iso-8859-5" || best == "iso-8859-7" || best == "windows-1253" || best == "iso-8859-8" ||
		best == "iso-8859-8-i" || best == "windows-1255" || best == "windows-1256" || best == "iso-8859-6"):
		_, kept := lookup(best)
		return kept
	case alphabet && 3*r.count <= r.high && r.lower >= 4*r.upper:
		return "windows-1251" // small letters
	case alphabet && 3*r.count <= r.high && r.upper >= 4*r.lower:
		return "koi8-r"
	case 10*r.strange <= r.high && 2*r.single >= r.count && 10*r.letters >= 5*r.high:
		return "windows-1252"
	}
	return ""
}

// foreign keeps the words with letters beyond ASCII: the code around them does not show their language.
func foreign(sample []byte) []byte {
	out := make([]byte, 0, len(sample)/2)
	for i := 0; i < len(sample); {
		from, high := i, false
		for i < len(sample) && (sample[i] >= 0x80 || sample[i]|0x20 >= 'a' && sample[i]|0x20 <= 'z') {
			high = high || sample[i] >= 0x80
			i++
		}
		if high {
			out = append(append(out, sample[from:i]...), ' ')
		}
		if i == from {
			i++
		}
	}
	return out
}

// eastAsian identifies the encodings with two bytes per character by the code table rows of their common characters.
func eastAsian(b []byte, r runs) string {
	if fits(b, "shift_jis") {
		kana, half, pairs := 0, 0, 0
		for i := 0; i < len(b); i++ {
			switch c := b[i]; {
			case c >= 0x81 && c <= 0x9F || c >= 0xE0 && c <= 0xFC:
				pairs++
				if c == 0x82 || c == 0x83 || c == 0x81 {
					kana++
				}
				i++
			case c >= 0xA1 && c <= 0xDF:
				half++
			}
		}
		if pairs >= 3 && 4*kana >= pairs && 5*half <= pairs {
			return "shift_jis"
		}
	}
	pairs, kana, hangul, level1, low, big5 := 0, 0, 0, 0, 0, 0
	for i := 0; i+1 < len(b); i++ {
		c, t := b[i], b[i+1]
		if c < 0x81 {
			continue
		}
		if t < 0x40 || t == 0x7F {
			return ""
		}
		pairs++
		i++
		switch {
		case c == 0xA4 || c == 0xA5:
			kana++
		case c >= 0xB0 && c <= 0xC8 && t >= 0xA1:
			hangul++
		}
		if c >= 0xB0 && c <= 0xD7 && t >= 0xA1 || c >= 0xA1 && c <= 0xA3 && t >= 0xA1 {
			level1++
		}
		if t < 0xA1 {
			low++
		}
		if c >= 0xA1 && c <= 0xC6 {
			big5++
		}
	}
	switch {
	case pairs < 3:
	case 4*r.single > r.count: // a high byte and a low one, as in Big5; or a letter of the West and another
		if pairs >= 6 && low*10 >= pairs && big5*10 >= 9*pairs && fits(b, "big5") {
			return "big5"
		}
	case low == 0 && 4*kana >= pairs && fits(b, "euc-jp"):
		return "euc-jp"
	case low == 0 && pairs >= 6 && hangul*100 >= 95*pairs && fits(b, "euc-kr"):
		return "euc-kr"
	case low == 0 && level1*10 >= 7*pairs && fits(b, "gb18030"):
		return "gb18030"
	case low*10 >= pairs && big5*10 >= 9*pairs && fits(b, "big5"):
		return "big5"
	case level1*10 >= 8*pairs && fits(b, "gb18030"):
		return "gb18030"
	}
	return ""
}

// wide detects UTF-16 without a mark by its zeros: every other byte of ASCII text is zero.
func wide(head []byte) binary.ByteOrder {
	n := len(head) &^ 1
	if n < 8 {
		return nil
	}
	even, odd := 0, 0
	for i := 0; i < n; i += 2 {
		if head[i] == 0 {
			even++
		} else if isControl(head[i]) {
			return nil
		}
		if head[i+1] == 0 {
			odd++
		} else if isControl(head[i+1]) {
			return nil
		}
	}
	switch {
	case even == 0 && odd*10 >= 7*n/2:
		return binary.LittleEndian
	case odd == 0 && even*10 >= 7*n/2:
		return binary.BigEndian
	}
	return nil
}

// DecodeAs reads a whole file for which Discover found an encoding; for "" and the forms of Unicode use Decode.
func DecodeAs(r io.Reader, limit int64, name string) (string, error) {
	e, _ := lookup(name)
	if e == nil {
		return Decode(r, limit)
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", fmt.Errorf("read file: %w", err)
	}
	if int64(len(data)) > limit {
		return "", ErrTooLarge
	}
	text, err := e.NewDecoder().Bytes(data)
	if err != nil {
		return "", ErrBinary
	}
	return cleanNUL(string(text)), nil
}

// configs are the .editorconfig files of a source by their folder.
type configs map[string]*editorconfig.Editorconfig

const (
	configName  = ".editorconfig"
	configBytes = 64 << 10
	configFiles = 1000
)

// charset returns the encoding of a file by the nearest .editorconfig.
func (c configs) charset(p string) string {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if e := c[dir]; e != nil {
			relative := strings.TrimPrefix(p, dir+"/")
			if d, err := e.GetDefinitionForFilename(relative); err == nil && d.Charset != "" && d.Charset != editorconfig.UnsetValue {
				return d.Charset
			}
			if e.Root {
				return ""
			}
		}
		if dir == "." || dir == "/" {
			return ""
		}
	}
}

// texty reports whether bytes look like text of some encoding: they contain hardly a control character.
func texty(controls, seen int) bool { return controls*200 <= seen }

func isControl(c byte) bool {
	switch c {
	case '\t', '\n', '\r', '\f', '\v', '\b', 0x1a, 0x1b:
		return false
	}
	return c < ' ' || c == 0x7f
}
