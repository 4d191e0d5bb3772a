package condition

import (
	"strconv"
	"strings"
)

// Fault is a fault in conditions or in a configuration that a caller wrote.
type Fault struct {
	Field   string
	Message string
}

func (f *Fault) Error() string { return f.Message }

func blank(s string) bool { return strings.TrimFunc(s, isSpace) == "" }

// Check checks the parts that Postgres cannot: whether the expression parses, whether the patterns compile, and their cost. It returns the
// first *Fault. Shape, bounds and the stored form of conditions belong to private.tidy_conditions, which refuses the faults that Check
// ignores.
func (j *Evaluator) Check(raw []byte) error {
	if len(raw) > maxConditions {
		return nil
	}
	p, err := parse(raw)
	if err != nil || p.nodes[0].kind != object {
		return nil
	}
	if v, _ := p.member(0, "expression"); v.kind == text {
		if source := strings.TrimFunc(p.plain(v.at), isSpace); source != "" {
			if _, err := parseExpression(source); err != nil {
				return &Fault{"conditions.expression", err.Error()}
			}
		}
	}
	filters, _ := p.member(0, "filters")
	if filters.kind != array || p.nodes[filters.at].count > maxFilters {
		return nil
	}
	at := filters.at + 1
	for i := range int(p.nodes[filters.at].count) {
		if complaint := p.patternFault(at); complaint != "" {
			return &Fault{"conditions.filters[" + strconv.Itoa(i) + "]", "Filter " + strconv.Itoa(i+1) + ": " + complaint}
		}
		at = p.nodes[at].next
	}
	return nil
}

// patternFault returns the fault of the regular expression of the filter at a node; "" if it has none.
func (p *Payload) patternFault(at uint32) string {
	if p.nodes[at].kind != object {
		return ""
	}
	if v, _ := p.member(at, "operator"); v.kind != text || p.plain(v.at) != "regex" {
		return ""
	}
	v, _ := p.member(at, "value")
	if v.kind <= null || v.kind == array || v.kind == object {
		return ""
	}
	source, _ := p.textOf(v)
	if _, err := compilePattern(source); err != nil {
		return err.Error()
	}
	return ""
}
