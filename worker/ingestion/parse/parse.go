package parse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The errors of single files.
var (
	ErrTooLarge = errors.New("file is too large to parse")
	ErrTimeout  = errors.New("parsing took too long")
)

const (
	// DefaultMaxBytes is the limit of contract 10, section 18.2; a retry with more memory sets LargeMaxBytes.
	DefaultMaxBytes = 1 << 20
	LargeMaxBytes   = 8 << 20
	// DefaultTimeout is a hundred times the time that an ordinary file of DefaultMaxBytes needs. A smaller file gets a proportional share,
	// but at least leastTimeout: the time of a grammar's error recovery grows with the square of the number of errors.
	DefaultTimeout = 20 * time.Second
	leastTimeout   = 2 * time.Second
)

// Options limits the parsing of one file. Zero values mean the defaults.
type Options struct {
	MaxBytes int
	Timeout  time.Duration
}

// of fills in the defaults for a text, and refuses one that is too large.
func (o Options) of(path, text string) (Options, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Timeout == 0 {
		o.Timeout = max(leastTimeout, min(DefaultTimeout, DefaultTimeout*time.Duration(len(text))/DefaultMaxBytes))
	}
	if len(text) > o.MaxBytes {
		return o, fmt.Errorf("parse %s: %w: %d bytes, %d are allowed", path, ErrTooLarge, len(text), o.MaxBytes)
	}
	return o, nil
}

// Parser keeps engines for reuse. The zero value is not usable.
type Parser struct {
	grammars *grammars

	mu     sync.Mutex
	idle   []*engine
	closed bool

	left atomic.Int32 // parses that go on without a caller
}

// New returns a Parser. It costs nothing until its first use.
func New() *Parser { return &Parser{grammars: newGrammars()} }

// Close releases idle engines. Parse still works afterwards, without reuse.
func (p *Parser) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, e := range p.idle {
		e.close()
	}
	p.idle = nil
}

func (p *Parser) borrow() *engine {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := len(p.idle); k > 0 {
		e := p.idle[k-1]
		p.idle = p.idle[:k-1]
		return e
	}
	return newEngine()
}

func (p *Parser) giveBack(e *engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		e.close()
		return
	}
	p.idle = append(p.idle, e)
}

// Parse returns the parsed File. path is relative, with slashes; text is UTF-8. The error is ErrTooLarge or ErrTimeout, which concern this
// file alone, or that of ctx.
func (p *Parser) Parse(ctx context.Context, path, text string, o Options) (*File, error) {
	o, err := o.of(path, text)
	if err != nil {
		return nil, err
	}
	f := &File{Language: Language(path, text)}
	f.Category = nature(path, f.Language)
	f.Generated = generated(text)
	ln := newLines(text)
	f.Lines = len(ln)
	if text == "" {
		f.Lines = 0
	}
	if g := p.grammars.get(f.Language); g != nil {
		t, err := p.tree(ctx, g, f.Language, text, o.Timeout)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		f.Structured = true
		extract(g, t, text, ln, f)
		if f.Language == "sql" && (f.HasError || ownTerminators(text)) {
			splitSQL(text, ln, f)
		}
		if f.Language == "javascript" || f.Language == "typescript" || f.Language == "tsx" {
			f.Walk(func(d *Decl) {
				at := min(max(d.NameByte, 0), len(text))
				d.Exports = strings.HasPrefix(strings.TrimSpace(text[strings.LastIndexByte(text[:at], '\n')+1:at])+" ", "export ")
			})
		}
		f.layout(path, g, t, text)
		f.dependencies(g, t, text)
		return f, ctx.Err()
	}
	f.layout(path, nil, tree{}, text)
	f.Structured = true
	switch f.Language {
	case "markdown":
		headings(text, f)
	case "json", "jsonc", "json5":
		jsonKeys(text, ln, f)
	case "yaml":
		yamlKeys(text, f)
	case "toml", "ini", "properties", "dotenv":
		assignments(text, f)
	default:
		f.Structured = false
	}
	return f, ctx.Err()
}

const (
	// A text of watched bytes costs half a second at worst. For larger ones the step of a grammar's runtime that ends a text full of errors
	// may take minutes, and it does not look at the time limit.
	watched = 32 << 10
	// grace is how long after its limit a parse may return by itself.
	grace = time.Second
	// maxLeft bounds the parses that go on after their callers left. Beyond it a caller waits.
	maxLeft = 4
)

// tree returns the syntax tree of a text within the limit, or ErrTimeout.
func (p *Parser) tree(ctx context.Context, g *grammar, language, text string, limit time.Duration) (tree, error) {
	work := func() (tree, error) {
		e := p.borrow()
		defer p.giveBack(e)
		return e.tree(ctx, g, language, text, limit)
	}
	if len(text) <= watched {
		return work()
	}
	return p.within(ctx, limit, work)
}

// within leaves work that does not return within the limit.
func (p *Parser) within(ctx context.Context, limit time.Duration, work func() (tree, error)) (tree, error) {
	type result struct {
		tree tree
		err  error
	}
	done := make(chan result, 1)
	go func() {
		t, err := work()
		done <- result{t, err}
	}()
	late, stopped := time.NewTimer(limit+grace), ctx.Done()
	defer late.Stop()
	for {
		select {
		case r := <-done:
			return r.tree, r.err
		case <-stopped:
			stopped = nil
			late.Reset(grace)
		case <-late.C:
			if p.left.Add(1) > maxLeft {
				p.left.Add(-1)
				r := <-done
				return r.tree, r.err
			}
			go func() {
				<-done
				p.left.Add(-1)
			}()
			return tree{}, cmp.Or(ctx.Err(), ErrTimeout)
		}
	}
}

// tree returns the syntax tree of a text. If the grammar fails on it, that of the repaired text is taken, where more of it was parsed.
func (e *engine) tree(ctx context.Context, g *grammar, language, text string, limit time.Duration) (tree, error) {
	began := time.Now()
	t, err := e.parse(ctx, g, text, limit)
	if errors.Is(err, errStopped) {
		return t, ErrTimeout
	}
	if err != nil || !t.hasError {
		return t, err
	}
	better, ok := repaired(language, text)
	if !ok {
		return t, nil
	}
	left := max(time.Millisecond, limit-time.Since(began)) // 0 would mean no limit
	if again, err := e.parse(ctx, g, better, left); err == nil && again.lost(g) < t.lost(g) {
		t = again
		for i := range t.nodes {
			t.nodes[i].end = min(t.nodes[i].end, uint32(len(text)))
		}
	}
	return t, nil
}

// generated reports whether one of the first five lines has a marker of generated code.
func generated(text string) bool {
	for range 5 {
		line, rest, _ := strings.Cut(text, "\n")
		if len(line) > 400 {
			line = line[:400]
		}
		l := strings.ToLower(line)
		if strings.Contains(l, "@generated") || strings.Contains(l, "do not edit") || strings.Contains(l, "code generated") ||
			strings.Contains(l, "auto-generated") || strings.Contains(l, "autogenerated") {
			return true
		}
		text = rest
	}
	return false
}
