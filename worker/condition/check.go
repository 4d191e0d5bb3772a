package condition

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is what is wrong with conditions or a configuration that somebody writes.
type Fault struct {
	Field   string
	Message string
}

func (f *Fault) Error() string { return f.Message }

func blank(s string) bool { return strings.TrimFunc(s, isSpace) == "" }

// stored is the form in which conditions are kept, in this order of members.
type stored struct {
	Expression string         `json:"expression,omitempty"`
	MatchAll   *bool          `json:"matchAll,omitempty"`
	Filters    []storedFilter `json:"filters,omitempty"`
}

type storedFilter struct {
	Field    string          `json:"field"`
	Operator string          `json:"operator"`
	Value    json.RawMessage `json:"value"`
}

// Check judges conditions that somebody writes (section 11.5). It gives the form to store, nil for none at all, or a *Fault.
func (j *Judge) Check(raw []byte) ([]byte, error) {
	if len(raw) > maxConditions {
		return nil, &Fault{"conditions", "Conditions must be 64 KiB or less"}
	}
	if len(raw) == 0 {
		return nil, nil
	}
	p, err := parse(raw)
	if err != nil {
		return nil, &Fault{"conditions", "Conditions must be an object"}
	}
	switch p.nodes[0].kind {
	case null:
		return nil, nil
	case object:
	default:
		return nil, &Fault{"conditions", "Conditions must be an object"}
	}
	var out stored
	if out.Expression, err = p.checkExpression(); err != nil {
		return nil, err
	}
	if out.Filters, err = j.checkFilters(p); err != nil {
		return nil, err
	}
	switch v, _ := p.member(0, "matchAll"); v.kind {
	case missing, null:
		// The editor shows "all" while nothing is chosen.
		if len(out.Filters) > 1 {
			out.MatchAll = new(bool)
			*out.MatchAll = true
		}
	case boolTrue, boolFalse:
		all := v.kind == boolTrue
		out.MatchAll = &all
	default:
		return nil, &Fault{"conditions.matchAll", "matchAll must be true or false"}
	}
	if out.Expression == "" && len(out.Filters) == 0 {
		return nil, nil
	}
	return marshal(out)
}

// marshal writes JSON without HTML's escapes.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

func (p *Payload) checkExpression() (string, error) {
	v, _ := p.member(0, "expression")
	switch v.kind {
	case missing, null:
		return "", nil
	case text:
	default:
		return "", &Fault{"conditions.expression", "Expression must be a text"}
	}
	source := strings.TrimFunc(p.plain(v.at), isSpace)
	if source == "" {
		return "", nil
	}
	if _, err := parseExpression(source); err != nil {
		return "", &Fault{"conditions.expression", err.Error()}
	}
	return source, nil
}

func (j *Judge) checkFilters(p *Payload) ([]storedFilter, error) {
	v, _ := p.member(0, "filters")
	switch v.kind {
	case missing, null:
		return nil, nil
	case array:
	default:
		return nil, &Fault{"conditions.filters", "Filters must be an array"}
	}
	n := int(p.nodes[v.at].count)
	if n > maxFilters {
		return nil, &Fault{"conditions.filters", fmt.Sprintf("Too many filters: %d (max: %d)", n, maxFilters)}
	}
	out := make([]storedFilter, n)
	at := v.at + 1
	for i := range out {
		var complaint string
		if out[i], complaint = j.checkFilter(p, at); complaint != "" {
			return nil, &Fault{"conditions.filters[" + strconv.Itoa(i) + "]", "Filter " + strconv.Itoa(i+1) + ": " + complaint}
		}
		at = p.nodes[at].next
	}
	return out, nil
}

// checkFilter gives the filter to store, or what is wrong with it.
func (j *Judge) checkFilter(p *Payload, at uint32) (f storedFilter, complaint string) {
	if p.nodes[at].kind != object {
		return f, "Filter must be an object"
	}
	v, _ := p.member(at, "field")
	if v.kind == text {
		f.Field = p.plain(v.at)
	}
	switch {
	case f.Field == "":
		return f, "Field name is required"
	case utf8.RuneCountInString(f.Field) > maxField:
		return f, "Field name must be 200 characters or less"
	}
	v, _ = p.member(at, "operator")
	name, _ := p.textOf(v)
	if f.Operator = name; v.kind != text || !operators[name] {
		return f, "Invalid operator: " + shortened(name)
	}
	v, _ = p.member(at, "value")
	f.Value, complaint = j.checkValue(p, v, name)
	return f, complaint
}

// shortened keeps a message readable.
func shortened(s string) string {
	if utf8.RuneCountInString(s) <= 100 {
		return s
	}
	return string([]rune(s)[:100]) + "…"
}

func (j *Judge) checkValue(p *Payload, v value, operator string) (json.RawMessage, string) {
	isList := operator == "in" || operator == "not_in"
	switch {
	case v.kind <= null:
		if operator == "exists" || operator == "not_exists" {
			return json.RawMessage(`""`), ""
		}
		return nil, "Value is required for this operator"
	case isList && v.kind != array:
		return nil, "Value must be an array for this operator"
	case !isList && v.kind == array:
		return nil, "Value must not be an array for this operator"
	case v.kind == object:
		return nil, "Value must be a text, a number or true or false"
	case isList && p.nodes[v.at].count > maxItems:
		return nil, fmt.Sprintf("Value must have at most %d entries", maxItems)
	}
	if isList {
		at := v.at + 1
		for range p.nodes[v.at].count {
			if k := p.nodes[at].kind; k == null || k == array || k == object {
				return nil, "Value must hold texts, numbers, true and false only"
			}
			at = p.nodes[at].next
		}
	}
	if operator == "regex" {
		source, _ := p.textOf(v)
		if _, err := compilePattern(source); err != nil {
			return nil, err.Error()
		}
	}
	// A text begins behind its quote.
	start, end := p.nodes[v.at].start, p.nodes[v.at].end
	if v.kind == text {
		start, end = start-1, end+1
	}
	return json.RawMessage(p.raw[start:end]), ""
}
