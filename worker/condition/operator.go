package condition

import (
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// lower is Unicode's lower case, independent of the language, including the final sigma and the dotted capital I.
func lower(s string) string {
	if ascii(s) {
		return strings.ToLower(s)
	}
	return cases.Lower(language.Und).String(s)
}

func (p *Payload) lowered(s string) (string, error) {
	cost := 2
	if !ascii(s) {
		cost = 10
	}
	if !p.spend(cost * len(s)) {
		return "", ErrTooCostly
	}
	return lower(s), nil
}

func (p *Payload) subjectText(s *subject) (_ string, err error) {
	if !s.hasText {
		if s.text, err = p.textOf(s.value); err != nil {
			return "", err
		}
		s.hasText = true
	}
	return s.text, nil
}

func (p *Payload) subjectLower(s *subject) (_ string, err error) {
	if !s.hasLow {
		plain, err := p.subjectText(s)
		if err != nil {
			return "", err
		}
		if s.lower, err = p.lowered(plain); err != nil {
			return "", err
		}
		s.hasLow = true
	}
	return s.lower, nil
}

// subjectNumber returns the number form N.
func (p *Payload) subjectNumber(s *subject) (numeral, bool, error) {
	if !s.hasNum {
		switch s.value.kind {
		case number:
			s.numeral, s.isNumber = p.numeral(s.value), true
		case text:
			plain, err := p.subjectText(s)
			if err != nil || !p.spend(len(plain)) {
				return numeral{}, false, ErrTooCostly
			}
			s.numeral, s.isNumber = leadingNumber(plain)
		}
		s.hasNum = true
	}
	return s.numeral, s.isNumber, nil
}

// operand is the value that a filter or an expression compares with.
type operand struct {
	isNull   bool
	text     string // T
	lower    string
	numeral  numeral
	isNumber bool
	list     []string // lower-cased texts of an array's items
	isList   bool
}

func textOperand(s string) operand {
	o := operand{text: s, lower: lower(s)}
	o.numeral, o.isNumber = leadingNumber(s)
	return o
}

func numberOperand(n numeral) operand {
	s := n.String()
	return operand{text: s, lower: lower(s), numeral: n, isNumber: true}
}

// boolOperand has a text and no number.
func boolOperand(b bool) operand {
	if b {
		return operand{text: "true", lower: "true"}
	}
	return operand{text: "false", lower: "false"}
}

// searchCost is the cost of searching for a text in another one. Short texts are found by vector instructions.
func searchCost(in, what string) int {
	if len(what) < 64 {
		return len(in) / 2
	}
	return 3 * len(in)
}

// apply evaluates one operator on the value at a path.
func (j *Evaluator) apply(p *Payload, s *subject, operator string, o operand) (bool, error) {
	switch operator {
	case "equals", "not_equals":
		got, err := p.subjectLower(s)
		return (got == o.lower) == (operator == "equals"), err
	case "contains", "not_contains":
		got, err := p.subjectLower(s)
		if err == nil && !p.spend(searchCost(got, o.lower)) {
			err = ErrTooCostly
		}
		if err != nil {
			return false, err
		}
		return strings.Contains(got, o.lower) == (operator == "contains"), nil
	case "startsWith":
		got, err := p.subjectText(s)
		return strings.HasPrefix(got, o.text), err
	case "endsWith":
		got, err := p.subjectText(s)
		return strings.HasSuffix(got, o.text), err
	case "regex":
		got, err := p.subjectText(s)
		if err != nil {
			return false, err
		}
		return j.search(p, o.text, got)
	case "gt", "gte", "lt", "lte":
		got, ok, err := p.subjectNumber(s)
		return ok && o.isNumber && ordered(got.compare(o.numeral), operator), err
	case "exists":
		return s.value.kind > null, nil
	case "not_exists":
		return s.value.kind <= null, nil
	case "in", "not_in":
		return p.in(s, operator == "in", o)
	}
	return false, nil
}

func (p *Payload) in(s *subject, wanted bool, o operand) (bool, error) {
	if !o.isList {
		return !wanted, nil
	}
	got, err := p.subjectLower(s)
	if err != nil {
		return false, err
	}
	for _, item := range o.list {
		if item == got {
			return wanted, nil
		}
	}
	return !wanted, nil
}

// ordered turns the result of a comparison into the result of an operator.
func ordered(compared int, operator string) bool {
	switch operator {
	case "gt":
		return compared > 0
	case "gte":
		return compared >= 0
	case "lt":
		return compared < 0
	}
	return compared <= 0
}
