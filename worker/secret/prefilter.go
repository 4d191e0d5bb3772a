package secret

import (
	"regexp/syntax"
	"strings"
)

// set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *set) has(c byte) bool { return s[c>>6]>>(c&63)&1 == 1 }

// need is a run of at least n bytes of a set.
type need struct {
	of set
	n  int
}

// met says whether the text holds such a run. It looks only at every nth byte until one fits.
func (d *need) met(s string) bool {
	for i := d.n - 1; i < len(s); i += d.n {
		if !d.of.has(s[i]) {
			continue
		}
		from, to := i, i+1
		for from > 0 && to-from < d.n && d.of.has(s[from-1]) {
			from--
		}
		for to < len(s) && to-from < d.n && d.of.has(s[to]) {
			to++
		}
		if to-from >= d.n {
			return true
		}
	}
	return false
}

// demands returns runs of which every match of a pattern contains at least one; none if no such condition is known.
func demands(pattern string) []need {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	return demand(re)
}

// shortest is the run below which a condition would not spare a pattern much.
const shortest = 8

func demand(re *syntax.Regexp) []need {
	switch re.Op {
	case syntax.OpCapture, syntax.OpPlus:
		return demand(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min == 0 {
			return nil
		}
		if of, ok := class(re.Sub[0]); ok && re.Min >= shortest {
			return []need{{of, re.Min}}
		}
		return demand(re.Sub[0])
	case syntax.OpConcat:
		var best []need
		for _, sub := range re.Sub {
			if d := demand(sub); len(d) > 0 && (best == nil || least(d) > least(best)) {
				best = d
			}
		}
		return best
	case syntax.OpAlternate:
		var all []need
		for _, sub := range re.Sub {
			d := demand(sub)
			if d == nil {
				return nil
			}
			all = append(all, d...)
		}
		return all
	}
	return nil
}

func least(d []need) int {
	n := d[0].n
	for _, x := range d[1:] {
		n = min(n, x.n)
	}
	return n
}

// class returns the bytes of a class of characters; characters beyond ASCII count as all bytes beyond it.
func class(re *syntax.Regexp) (of set, ok bool) {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	if re.Op != syntax.OpCharClass {
		return of, false
	}
	for i := 0; i+1 < len(re.Rune); i += 2 {
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			if r >= 0x80 {
				for c := 0x80; c < 0x100; c++ {
					of.add(byte(c))
				}
				break
			}
			of.add(byte(r))
		}
	}
	return of, true
}

const (
	inName  = 1 << iota // [ \t\w.-]
	inGap               // [\s'"]
	inSign              // = > : | , ?
	inOpen              // [`'"\s=]
	inValue             // [\w.=+/-]
	inWord              // [a-zA-Z_.-], what a value must not consist of alone
)

// roles says where in an assignment a byte may stand.
var roles = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		word := letter || b == '_' || b >= '0' && b <= '9'
		if word || b == '.' || b == '-' {
			t[c] |= inName | inValue
		}
		if letter || b == '_' || b == '.' || b == '-' {
			t[c] |= inWord
		}
		if b == ' ' || b == '\t' {
			t[c] |= inName
		}
		if strings.IndexByte(" \t\n\r\f'\"", b) >= 0 {
			t[c] |= inGap | inOpen
		}
		if strings.IndexByte("`=", b) >= 0 {
			t[c] |= inOpen
		}
		if strings.IndexByte("=>:|,?", b) >= 0 {
			t[c] |= inSign
		}
		if strings.IndexByte("=+/", b) >= 0 {
			t[c] |= inValue
		}
	}
	return t
}()

// skip returns the end of a run of at most n bytes in a role.
func skip(s string, i, n int, role uint8) int {
	for i < len(s) && n > 0 && roles[s[i]]&role != 0 {
		i++
		n--
	}
	return i
}

// assigned says whether something like a secret may be assigned to the name around a keyword: what the pattern of
// gitleaks' generic rule demands after it, without its backtracking.
func assigned(s string, _, end int) bool {
	i := skip(s, end, 23, inName|inGap)
	j := skip(s, i, 4, inSign)
	if i == j {
		return false
	}
	i = skip(s, j, 5, inOpen)
	e := skip(s, i, 150, inValue)
	if e-i < 10 {
		// The equals signs before the value may have been taken for its opening, or the value for the opening.
		return false
	}
	return skip(s, i, e-i, inWord) < e
}

// credentials says whether user and password may stand after ://.
func credentials(s string, _, end int) bool {
	colon := false
	for i := end; i < len(s) && i < end+400; i++ {
		switch s[i] {
		case ' ', '\t', '\n', '\r', '/', '"', '\'', '<', '>', '`':
			return false
		case ':':
			colon = true
		case '@':
			return colon
		}
	}
	return false
}

// connection says whether a line looks like a connection string: members separated by semicolons, one of them a server.
func connection(s string, at, end int) bool {
	from := strings.LastIndexByte(s[max(0, at-512):at], '\n') + 1 + max(0, at-512)
	to := min(len(s), end+512)
	if e := strings.IndexByte(s[end:to], '\n'); e >= 0 {
		to = end + e
	}
	line := strings.ToLower(s[from:to])
	if !strings.Contains(line, ";") {
		return false
	}
	for _, w := range [...]string{"server=", "host=", "data source=", "user id=", "uid=", "database=", "initial catalog=", "addr=", "endpoint="} {
		if strings.Contains(strings.ReplaceAll(line, " =", "="), w) {
			return true
		}
	}
	return false
}
