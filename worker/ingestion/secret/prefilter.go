package secret

import (
	"regexp/syntax"
	"strings"
)

// set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }
func (s *set) has(c byte) bool { return s[c>>6]>>(c&63)&1 == 1 }

func setOf(s string) (of set) {
	for i := range len(s) {
		of.add(s[i])
	}
	return of
}

// need is a run of at least n bytes of a set.
type need struct {
	of set
	n  int
}

// met reports whether the text contains such a run. It checks only every nth byte until one fits.
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

// demands returns runs of which every match of a pattern contains at least one. The result is empty if no such condition is known.
func demands(pattern string) []need {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	return demand(re)
}

// shortest is the minimum run length: a shorter run would exclude little text.
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

// connection reports whether a line looks like a connection string: members separated by semicolons, one of them a server, or the
// form of libpq.
func connection(s string, at, end int) bool {
	from := strings.LastIndexByte(s[max(0, at-512):at], '\n') + 1 + max(0, at-512)
	to := min(len(s), end+512)
	if e := strings.IndexByte(s[end:to], '\n'); e >= 0 {
		to = end + e
	}
	line := strings.ToLower(s[from:to])
	if strings.Contains(line, "host=") && (strings.Contains(line, "user=") || strings.Contains(line, "dbname=")) {
		return true
	}
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
