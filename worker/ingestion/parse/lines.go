package parse

import (
	"sort"
	"strings"
)

// lines holds the offset of each line's first byte.
type lines []int32

func newLines(text string) lines {
	l := make(lines, 1, len(text)/24+1)
	for i := 0; ; {
		k := strings.IndexByte(text[i:], '\n')
		if k < 0 {
			return l
		}
		i += k + 1
		if i < len(text) {
			l = append(l, int32(i))
		}
	}
}

// at returns the line, counted from 1, of an offset.
func (l lines) at(offset int) int {
	return sort.Search(len(l), func(i int) bool { return int(l[i]) > offset })
}

// lineStart returns where the line of offset begins, and whether only blanks stand before the offset.
func (l lines) lineStart(text string, offset int) (int, bool) {
	i := offset
	for i > 0 && (text[i-1] == ' ' || text[i-1] == '\t') {
		i--
	}
	return i, i == 0 || text[i-1] == '\n'
}

func (l lines) startsLine(text string, offset int) bool {
	_, ok := l.lineStart(text, offset)
	return ok
}
