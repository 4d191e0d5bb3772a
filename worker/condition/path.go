package condition

import "strings"

// at finds the value at a path (section 11.2). Results are cached, because conditions ask for the same path repeatedly.
func (p *Payload) at(path string) (*subject, error) {
	if s := p.found[path]; s != nil {
		return s, nil
	}
	v := p.root()
	for rest, more := path, true; more && v.kind != missing; {
		var segment string
		segment, rest, more = strings.Cut(rest, ".")
		var err error
		if v, err = p.step(v, segment); err != nil {
			return nil, err
		}
	}
	s := &subject{value: v}
	p.found[path] = s
	return s, nil
}

func (p *Payload) step(v value, segment string) (value, error) {
	name, index, ok := indexed(segment)
	if !ok {
		return p.child(v, segment)
	}
	list, err := p.child(v, name)
	if err != nil || list.kind != array {
		return value{}, err
	}
	return p.element(list.at, index)
}

// child goes one step by name.
func (p *Payload) child(v value, name string) (value, error) {
	switch v.kind {
	case object:
		return p.member(v.at, name)
	case array:
		if name == "length" {
			return value{kind: number, size: float64(p.nodes[v.at].count)}, nil
		}
		if name == "0" || !strings.HasPrefix(name, "0") {
			if index, ok := digits(name); ok {
				return p.element(v.at, index)
			}
		}
	}
	return value{}, nil
}

// indexed splits name[digits].
func indexed(segment string) (name string, index int, ok bool) {
	open := strings.IndexByte(segment, '[')
	if open < 1 || !strings.HasSuffix(segment, "]") {
		return "", 0, false
	}
	for i := range open {
		if !isWord(segment[i]) {
			return "", 0, false
		}
	}
	index, ok = digits(segment[open+1 : len(segment)-1])
	return segment[:open], index, ok
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// digits reads an index. An index beyond every array is treated as the largest.
func digits(s string) (int, bool) {
	const largest = 1 << 40
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n < largest {
			n = n*10 + int(s[i]-'0')
		}
	}
	return n, s != ""
}
