package condition

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxPattern is the longest regular expression, in characters.
	maxPattern = 200
	// maxProgram bounds the size of the compiled pattern: 200 characters with repetitions could ask for millions of
	// instructions.
	maxProgram = 1000
	// keptPatterns is how many compiled patterns are cached, at some kilobytes each.
	keptPatterns = 2048
)

var (
	// These texts are shown to people, so they are sentences.
	errPatternLength = errors.New("Pattern must be 200 characters or less")
	errPatternSize   = errors.New("Regular expression repeats itself too often")
)

// pattern is a compiled regular expression with its cost per byte of text.
type pattern struct {
	re   *regexp.Regexp
	cost int
}

// compilePattern compiles RE2 syntax, ignoring case. The size is checked before anything of that size is allocated.
func compilePattern(source string) (*pattern, error) {
	if utf8.RuneCountInString(source) > maxPattern {
		return nil, errPatternLength
	}
	tree, err := syntax.Parse("(?i)"+source, syntax.Perl)
	if err != nil {
		var fault *syntax.Error
		if errors.As(err, &fault) {
			return nil, fmt.Errorf("Invalid regular expression: %s", fault.Code)
		}
		return nil, fmt.Errorf("Invalid regular expression: %w", err)
	}
	size, weight := program(tree)
	if size > maxProgram {
		return nil, errPatternSize
	}
	re, err := regexp.Compile("(?i)" + source)
	if err != nil {
		return nil, fmt.Errorf("Invalid regular expression: %w", err)
	}
	return &pattern{re: re, cost: 12 + weight}, nil
}

// program estimates the number of instructions of a pattern, and the cost of stepping through all of them.
func program(t *syntax.Regexp) (size, weight int) {
	switch t.Op {
	case syntax.OpLiteral:
		return len(t.Rune), stepCost * len(t.Rune)
	case syntax.OpCharClass:
		// A character class is found by binary search.
		w := stepCost
		for n := len(t.Rune); n > 8; n /= 2 {
			w += 2
		}
		return 1, w
	}
	for _, sub := range t.Sub {
		s, w := program(sub)
		size, weight = size+s, weight+w
	}
	if t.Op == syntax.OpRepeat {
		times := max(t.Min, t.Max, 1)
		if t.Max < 0 {
			times = t.Min + 1
		}
		size, weight = (size+1)*times, (weight+stepCost)*times
	}
	// The value is capped at every level, so that nested repetitions cannot overflow.
	return min(size+1, 1<<20), min(weight+stepCost, 1<<24)
}

// stepCost is the cost of one live instruction per byte of text, in steps.
const stepCost = 6

// compiled caches patterns by their source. Faulty patterns are cached too, as nil.
type compiled struct{ cache *lru.Cache[string, *pattern] }

func newCompiled() (*compiled, error) {
	cache, err := lru.New[string, *pattern](keptPatterns)
	return &compiled{cache}, err
}

func (c *compiled) get(source string) *pattern {
	if p, ok := c.cache.Get(source); ok {
		return p
	}
	p, err := compilePattern(source)
	if err != nil {
		p = nil
	}
	if len(source) <= 4*maxPattern {
		c.cache.Add(source, p)
	}
	return p
}

// search looks for a pattern anywhere in a text. A faulty pattern matches nothing.
func (j *Evaluator) search(p *Payload, source, in string) (bool, error) {
	re := j.patterns.get(source)
	if re == nil {
		return false, nil
	}
	if !p.spend(500 + re.cost*len(in)) {
		return false, ErrTooCostly
	}
	return re.re.MatchString(in), nil
}
