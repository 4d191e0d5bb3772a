package condition

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrTooCostly means that evaluation used up the budget of a payload.
var ErrTooCostly = errors.New("The conditions need too much work for a payload of this size")

// ErrPayload means that the text is no JSON object that can be stored.
var ErrPayload = errors.New("the payload is not a JSON object")

// steps is the budget for all evaluations of one payload, in nanoseconds of a slow core.
const steps = 30_000_000

// maxNesting bounds the depth of a payload, as the HTTP edge does for every body.
const maxNesting = 64

type kind uint8

const (
	missing kind = iota
	null
	boolFalse
	boolTrue
	number
	text
	array
	object
)

// node is one value of a payload. Nodes are in the order of the text; next is the index after the value with all its children. The
// members of an object are pairs of a text and a value.
type node struct {
	kind       kind
	start, end uint32 // of the raw text; of a text without its quotes
	next       uint32
	count      uint32 // elements of an array, members of an object
}

// Payload is the parsed data of an event, with the texts that evaluation has needed so far.
type Payload struct {
	raw   []byte
	nodes []node
	left  int
	found map[string]*subject
}

// subject is the value at a path, in the forms that operators need.
type subject struct {
	value            value
	text             string
	lower            string
	hasText, hasLow  bool
	numeral          numeral
	isNumber, hasNum bool
}

// value is a node, or a number that is not in the text (the length of an array).
type value struct {
	kind kind
	at   uint32
	size float64
}

// ParsePayload parses a JSON object. The text is at most some MiB: positions are 32 bits wide.
func ParsePayload(raw []byte) (*Payload, error) {
	p, err := parse(raw)
	if err != nil || p.nodes[0].kind != object {
		return nil, ErrPayload
	}
	return p, nil
}

func parse(raw []byte) (*Payload, error) {
	if len(raw) > math.MaxInt32 || !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, ErrPayload
	}
	p := &Payload{raw: raw, left: steps, found: map[string]*subject{}}
	// A value or a name stands before or after each of these characters, so the list never grows.
	n := 2
	for _, mark := range []string{",", ":", "[", "{"} {
		n += bytes.Count(raw, []byte(mark))
	}
	p.nodes = make([]node, 0, n)
	s := scanner{p: p}
	if !s.value(0) {
		return nil, ErrPayload
	}
	return p, nil
}

// scanner walks over text that is known to be valid JSON.
type scanner struct {
	p  *Payload
	at int
}

func (s *scanner) blanks() {
	for s.at < len(s.p.raw) && (s.p.raw[s.at] == ' ' || s.p.raw[s.at] == '\n' || s.p.raw[s.at] == '\t' || s.p.raw[s.at] == '\r') {
		s.at++
	}
}

// value appends the value that begins here; false means that it cannot be stored.
func (s *scanner) value(depth int) bool {
	s.blanks()
	at := len(s.p.nodes)
	s.p.nodes = append(s.p.nodes, node{start: uint32(s.at)})
	ok, count := true, uint32(0)
	var k kind
	switch c := s.p.raw[s.at]; c {
	case '{', '[':
		if depth == maxNesting {
			return false
		}
		k = array
		if c == '{' {
			k = object
		}
		count, ok = s.container(k, depth)
	case '"':
		s.text(at)
		return true
	case 't':
		k, s.at = boolTrue, s.at+4
	case 'f':
		k, s.at = boolFalse, s.at+5
	case 'n':
		k, s.at = null, s.at+4
	default:
		k, ok = number, s.number()
	}
	n := &s.p.nodes[at]
	n.kind, n.end, n.next, n.count = k, uint32(s.at), uint32(len(s.p.nodes)), count
	return ok
}

func (s *scanner) container(k kind, depth int) (count uint32, ok bool) {
	s.at++
	for {
		s.blanks()
		switch s.p.raw[s.at] {
		case '}', ']':
			s.at++
			return count, true
		case ',':
			s.at++
			s.blanks()
		}
		if k == object {
			at := len(s.p.nodes)
			s.p.nodes = append(s.p.nodes, node{start: uint32(s.at)})
			s.text(at)
			s.blanks()
			s.at++ // the colon
		}
		if !s.value(depth + 1) {
			return 0, false
		}
		count++
	}
}

func (s *scanner) text(at int) {
	begin := s.at + 1
	i := begin
	for {
		i += bytes.IndexByte(s.p.raw[i:], '"')
		slashes := 0
		for s.p.raw[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			break
		}
		i++
	}
	s.at = i + 1
	s.p.nodes[at] = node{kind: text, start: uint32(begin), end: uint32(i), next: uint32(at + 1)}
}

// maxExponent keeps numbers within what Postgres' numeric can hold.
const maxExponent = 16000

func (s *scanner) number() bool {
	begin, e := s.at, -1
	for ; s.at < len(s.p.raw); s.at++ {
		switch c := s.p.raw[s.at]; {
		case c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+':
			continue
		case c == 'e' || c == 'E':
			e = s.at
			continue
		}
		break
	}
	if e < 0 {
		return s.at-begin <= maxExponent
	}
	size := e - begin
	n, err := strconv.Atoi(string(s.p.raw[e+1 : s.at]))
	return err == nil && n >= size-maxExponent && n <= maxExponent-size
}

// spend subtracts the cost of a piece of work from the budget; false means that the budget was too small.
func (p *Payload) spend(n int) bool {
	if n > p.left {
		p.left = 0
		return false
	}
	p.left -= n
	return true
}

func (p *Payload) root() value { return value{kind: p.nodes[0].kind} }

// member finds a member of an object by name. Among several of one name the last one counts, as for every JSON reader.
func (p *Payload) member(at uint32, name string) (value, error) {
	o := p.nodes[at]
	if !p.spend(8 * int(o.count)) {
		return value{}, ErrTooCostly
	}
	found := value{}
	for i, left := at+1, o.count; left > 0; left-- {
		if p.isText(i, name) {
			found = value{kind: p.nodes[i+1].kind, at: i + 1}
		}
		i = p.nodes[i+1].next
	}
	return found, nil
}

// isText compares a text with a name.
func (p *Payload) isText(at uint32, name string) bool {
	raw := p.raw[p.nodes[at].start:p.nodes[at].end]
	if len(raw) < len(name) || bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == name
	}
	return p.plain(at) == name
}

// element finds an element of an array.
func (p *Payload) element(at uint32, index int) (value, error) {
	a := p.nodes[at]
	if index < 0 || index >= int(a.count) {
		return value{}, nil
	}
	if !p.spend(8 * index) {
		return value{}, ErrTooCostly
	}
	i := at + 1
	for range index {
		i = p.nodes[i].next
	}
	return value{kind: p.nodes[i].kind, at: i}, nil
}

// plain returns a text with its escapes resolved.
func (p *Payload) plain(at uint32) string {
	raw := p.raw[p.nodes[at].start:p.nodes[at].end]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	return string(appendPlain(make([]byte, 0, len(raw)), raw))
}

// appendPlain resolves escapes, as encoding/json does: half a surrogate pair becomes U+FFFD.
func appendPlain(out, raw []byte) []byte {
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(out, raw...)
		}
		out = append(out, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := unit(raw)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					pair = utf16.DecodeRune(r, unit(raw[2:]))
				}
				if r = pair; r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return out
}

// unit reads four hexadecimal digits.
func unit(raw []byte) (r rune) {
	for _, c := range raw[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

func (p *Payload) numeral(v value) numeral {
	if v.at == 0 {
		return numeral{float: v.size}
	}
	return parseNumeral(string(p.raw[p.nodes[v.at].start:p.nodes[v.at].end]))
}

// textOf is the text form T of a value (section 11.3).
func (p *Payload) textOf(v value) (string, error) {
	switch v.kind {
	case boolFalse:
		return "false", nil
	case boolTrue:
		return "true", nil
	case number:
		return p.numeral(v).String(), nil
	case text:
		if !p.spend(int(p.nodes[v.at].end-p.nodes[v.at].start) / 4) {
			return "", ErrTooCostly
		}
		return p.plain(v.at), nil
	case array, object:
		n := p.nodes[v.at]
		if !p.spend(10 * int(n.end-n.start)) {
			return "", ErrTooCostly
		}
		return string(p.appendCompact(make([]byte, 0, n.end-n.start), v.at)), nil
	}
	return "", nil
}

// appendCompact writes a value as JSON.stringify does.
func (p *Payload) appendCompact(out []byte, at uint32) []byte {
	n := p.nodes[at]
	switch n.kind {
	case number:
		// Most numbers are short whole numbers, which are copied unchanged.
		raw := p.raw[n.start:n.end]
		if len(raw) <= 15 && bytes.IndexByte(raw, '.') < 0 && !bytes.ContainsAny(raw, "eE") && string(raw) != "-0" {
			return append(out, raw...)
		}
		n := p.numeral(value{kind: number, at: at})
		if math.IsInf(n.float, 0) {
			return append(out, "null"...)
		}
		return append(out, n.String()...)
	case text:
		return appendQuoted(out, p.raw[n.start:n.end], p, at)
	case array:
		out = append(out, '[')
		for i, left := at+1, n.count; left > 0; left-- {
			out = p.appendCompact(out, i)
			if i = p.nodes[i].next; left > 1 {
				out = append(out, ',')
			}
		}
		return append(out, ']')
	case object:
		return p.appendObject(out, at)
	default:
		return append(out, p.raw[n.start:n.end]...)
	}
}

// appendObject leaves out members that a later member of the same name replaces.
func (p *Payload) appendObject(out []byte, at uint32) []byte {
	n := p.nodes[at]
	var last map[string]uint32
	if n.count > 8 {
		last = make(map[string]uint32, n.count)
		for i, left := at+1, n.count; left > 0; left-- {
			last[p.plain(i)] = i
			i = p.nodes[i+1].next
		}
	}
	out = append(out, '{')
	first := true
	for i, left := at+1, n.count; left > 0; left-- {
		if !p.isReplaced(i, left-1, last) {
			if !first {
				out = append(out, ',')
			}
			first = false
			out = append(appendQuoted(out, p.raw[p.nodes[i].start:p.nodes[i].end], p, i), ':')
			out = p.appendCompact(out, i+1)
		}
		i = p.nodes[i+1].next
	}
	return append(out, '}')
}

// isReplaced reports whether a later member has the same name. last has the answer for objects with many members.
func (p *Payload) isReplaced(at, behind uint32, last map[string]uint32) bool {
	if behind == 0 {
		return false
	}
	name := p.plain(at)
	if last != nil {
		return last[name] != at
	}
	for i := p.nodes[at+1].next; behind > 0; behind-- {
		if p.isText(i, name) {
			return true
		}
		i = p.nodes[i+1].next
	}
	return false
}

// appendQuoted writes a text as JSON and escapes only the characters that need it.
func appendQuoted(out, raw []byte, p *Payload, at uint32) []byte {
	out = append(out, '"')
	if bytes.IndexByte(raw, '\\') < 0 {
		return append(append(out, raw...), '"')
	}
	const hex = "0123456789abcdef"
	for _, r := range p.plain(at) {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, '\\', 'n')
		case r == '\r':
			out = append(out, '\\', 'r')
		case r == '\t':
			out = append(out, '\\', 't')
		case r == '\b':
			out = append(out, '\\', 'b')
		case r == '\f':
			out = append(out, '\\', 'f')
		case r < ' ':
			out = append(out, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return append(out, '"')
}
