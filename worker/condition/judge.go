package condition

import (
	"fmt"
)

const (
	maxFilters = 50
	// maxConditions is the largest size of conditions as JSON.
	maxConditions = 64 << 10
)

// Evaluator evaluates conditions and patterns. It caches compiled patterns.
type Evaluator struct{ patterns *compiled }

// NewEvaluator makes a Evaluator.
func NewEvaluator() (*Evaluator, error) {
	patterns, err := newCompiled()
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	return &Evaluator{patterns: patterns}, nil
}

// conditions are stored conditions in parsed form.
type conditions struct {
	expression string
	matchAll   bool
	filters    []filter
}

type filter struct {
	field    string
	operator string
	operand  operand
}

// Match reports whether stored conditions hold for a payload. Empty conditions always hold. An error means that the conditions could
// not be evaluated; its text is meant for the owner, and the result is false.
func (j *Evaluator) Match(stored []byte, p *Payload) (bool, error) {
	if len(stored) == 0 || string(stored) == "null" {
		return true, nil
	}
	c, err := readConditions(stored)
	if err != nil {
		return false, err
	}
	if len(c.filters) > maxFilters {
		return false, fmt.Errorf("Too many conditions: %d (max: %d)", len(c.filters), maxFilters)
	}
	if c.expression != "" {
		e, err := parseExpression(c.expression)
		if err != nil {
			return false, fmt.Errorf("Expression error: %w", err)
		}
		if holds, err := e.check(j, p); !holds || err != nil {
			return false, err
		}
	}
	return j.filters(c, p)
}

func (j *Evaluator) filters(c conditions, p *Payload) (bool, error) {
	for _, f := range c.filters {
		s, err := p.at(f.field)
		if err != nil {
			return false, err
		}
		holds, err := j.apply(p, s, f.operator, f.operand)
		if err != nil {
			return false, err
		}
		if holds != c.matchAll {
			return holds, nil
		}
	}
	return c.matchAll || len(c.filters) == 0, nil
}

// readConditions reads stored conditions and ignores faulty details: a row may be older than a rule.
func readConditions(stored []byte) (c conditions, err error) {
	p, err := ParsePayload(stored)
	if err != nil {
		return c, fmt.Errorf("Conditions cannot be read")
	}
	if v, _ := p.member(0, "expression"); v.kind == text {
		c.expression = p.plain(v.at)
		if blank(c.expression) {
			c.expression = ""
		}
	}
	v, _ := p.member(0, "matchAll")
	c.matchAll = v.kind == boolTrue
	list, _ := p.member(0, "filters")
	if list.kind != array {
		return c, nil
	}
	c.filters = make([]filter, 0, min(p.nodes[list.at].count, 2*maxFilters))
	at := list.at + 1
	for range p.nodes[list.at].count {
		var f filter
		if p.nodes[at].kind == object {
			f = p.readFilter(at)
		}
		c.filters = append(c.filters, f)
		at = p.nodes[at].next
	}
	return c, nil
}

func (p *Payload) readFilter(at uint32) (f filter) {
	if v, _ := p.member(at, "field"); v.kind == text {
		f.field = p.plain(v.at)
	}
	if v, _ := p.member(at, "operator"); v.kind == text {
		f.operator = p.plain(v.at)
	}
	v, _ := p.member(at, "value")
	f.operand = p.operandOf(v)
	return f
}

// operandOf prepares the value that a filter compares with.
func (p *Payload) operandOf(v value) operand {
	switch v.kind {
	case missing, null:
		return operand{isNull: true}
	case boolFalse, boolTrue:
		return boolOperand(v.kind == boolTrue)
	case number:
		return numberOperand(p.numeral(v))
	case text:
		return textOperand(p.plain(v.at))
	}
	s, _ := p.textOf(v)
	o := operand{text: s, lower: lower(s)}
	if v.kind == array {
		o.isList = true
		at := v.at + 1
		for range p.nodes[v.at].count {
			item, _ := p.textOf(value{kind: p.nodes[at].kind, at: at})
			o.list = append(o.list, lower(item))
			at = p.nodes[at].next
		}
	}
	return o
}
