package chunk

import (
	"sort"
	"strings"

	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// unit is a stretch that ends at an offset; tokens is -1 until it is counted.
type unit struct{ end, tokens int }

// cutter collects the ends of chunks from the front to the back of one text.
type cutter struct {
	text  string
	tally *token.Tally // of the text; made when it is first needed
	cuts  []parse.Cut
	ends  []unit
	most  int // tokens of a piece of separate; 0 means GroupTokens

	counted      stretch // the last counted stretch: one without line ends is often counted twice
	countedUnits int
}

type stretch struct{ start, end int }

func (c *cutter) count(start, end int) int {
	if c.tally == nil {
		tally := token.NewTally(c.text)
		c.tally = &tally
	}
	if k := (stretch{start, end}); c.counted != k {
		c.counted, c.countedUnits = k, c.tally.Count(start, end)
	}
	return c.countedUnits
}

// fits reports whether a stretch has at most limit tokens. A token has at least one byte, so short stretches need no
// counting.
func (c *cutter) fits(start, end, limit int) bool {
	return end-start <= limit || c.count(start, end) <= limit
}

// between returns the cuts strictly inside a stretch.
func (c *cutter) between(start, end int) []parse.Cut {
	i := sort.Search(len(c.cuts), func(i int) bool { return c.cuts[i].Byte > start })
	j := sort.Search(len(c.cuts), func(i int) bool { return c.cuts[i].Byte >= end })
	if i >= j {
		return nil
	}
	return c.cuts[i:j]
}

// fixed cuts every FixedTokens tokens, at the last line end before that.
func (c *cutter) fixed() { c.fill(0, len(c.text), FixedTokens) }

// fill cuts a stretch into chunks of at most limit tokens that end at line ends; a longer line is cut inside.
func (c *cutter) fill(start, end, limit int) {
	for start < end {
		n, _ := token.Prefix(c.text[start:end], limit)
		at := start + n
		if at < end {
			for e := strings.LastIndexByte(c.text[start:at], '\n') + 1; e > 0; e = strings.LastIndexByte(c.text[start:start+e-1], '\n') + 1 {
				if c.fits(start, start+e, limit) {
					at = start + e
					break
				}
			}
		}
		c.ends = append(c.ends, unit{at, -1})
		start = at
	}
}

// semantic cuts between the declarations of the top level and groups small neighbors. Only a unit larger than UnitTokens
// is cut inside.
func (c *cutter) semantic() { c.open(0, len(c.text), -1) }

// open cuts a stretch at its best cuts below a level, and groups the units between them.
func (c *cutter) open(start, end, level int) {
	inner := c.between(start, end)
	best := -1
	for _, x := range inner {
		if x.Level > level && (best < 0 || x.Level < best) {
			best = x.Level
		}
	}
	if best < 0 {
		c.loose(start, end, UnitTokens, GroupTokens)
		return
	}
	g := group{c: c, start: start}
	from := start
	for i := 0; i <= len(inner); i++ {
		to := end
		if i < len(inner) {
			if inner[i].Level != best {
				continue
			}
			to = inner[i].Byte
		}
		if c.fits(from, to, UnitTokens) {
			g.add(to)
		} else {
			g.flush()
			c.open(from, to, best)
			g.start = to
		}
		from = to
	}
	g.flush()
}

// loose cuts a stretch without syntax of its own. A stretch of up to whole tokens stays whole. A larger one is cut at
// blank lines, then at line ends, then between characters, and the pieces are grouped up to limit.
func (c *cutter) loose(start, end, whole, limit int) {
	if c.fits(start, end, whole) {
		c.ends = append(c.ends, unit{end, -1})
		return
	}
	g := group{c: c, start: start, limit: limit}
	from := start
	for _, p := range append(paragraphs(c.text[start:end]), end-start) {
		to := start + p
		if c.fits(from, to, limit) {
			g.add(to)
		} else {
			g.flush()
			c.fill(from, to, limit)
			g.start = to
		}
		from = to
	}
	g.flush()
}

// recursive cuts by the first separator that makes pieces of at most c.most tokens.
func (c *cutter) recursive() {
	if c.most == 0 {
		c.most = GroupTokens
	}
	c.separate(0, len(c.text), -1)
}

func (c *cutter) separate(start, end, level int) {
	if c.fits(start, end, c.most) {
		c.ends = append(c.ends, unit{end, -1})
		return
	}
	best := -1
	inner := c.between(start, end)
	for _, x := range inner {
		if x.Decl && x.Level > level && (best < 0 || x.Level < best) {
			best = x.Level
		}
	}
	if best < 0 {
		c.loose(start, end, c.most, c.most)
		return
	}
	g := group{c: c, start: start, limit: c.most}
	from := start
	for i := 0; i <= len(inner); i++ {
		to := end
		if i < len(inner) {
			if !inner[i].Decl || inner[i].Level != best {
				continue
			}
			to = inner[i].Byte
		}
		if c.fits(from, to, c.most) {
			g.add(to)
		} else {
			g.flush()
			c.separate(from, to, best)
			g.start = to
		}
		from = to
	}
	g.flush()
}

// group joins neighboring units while they stay within its limit. The counts of the parts do not add up to the count of
// the whole, so a sum decides only if it is far from the limit.
type group struct {
	c          *cutter
	start, end int  // of the group; end is 0 while it is empty
	tokens     int  // sum over its units
	limit      int  // GroupTokens if 0
	exact      bool // tokens is the count of the whole, not a sum
}

// slack is how far the sum of the counts of a few hundred parts may differ from the count of the whole.
const slack = 200

func (g *group) add(to int) {
	limit := g.limit
	if limit == 0 {
		limit = GroupTokens
	}
	from := g.start
	if g.end > 0 {
		from = g.end
	}
	if from == to {
		return
	}
	n := g.c.count(from, to)
	if g.end == 0 {
		g.end, g.tokens, g.exact = to, n, true
		return
	}
	sum, exact := g.tokens+n, false
	fits := sum <= limit-slack
	if !fits && sum <= limit+slack {
		sum, exact = g.c.count(g.start, to), true
		fits = sum <= limit
	}
	if !fits {
		g.flush()
		g.end, g.tokens, g.exact = to, n, true
		return
	}
	g.end, g.tokens, g.exact = to, sum, exact
}

func (g *group) flush() {
	if g.end > g.start {
		n := -1
		if g.exact {
			n = g.tokens
		}
		g.c.ends = append(g.c.ends, unit{g.end, n})
		g.start = g.end
	}
	g.end, g.tokens = 0, 0
}
