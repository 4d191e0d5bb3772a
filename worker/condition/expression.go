package condition

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxExpression = 500

var errExpressionLength = errors.New("Expression too long")

// expression is one comparison or one truth test (section 11.4).
type expression struct {
	path     string
	operator string // "" for a truth test
	negated  bool
	operand  operand
}

var comparisons = map[string]string{"==": "equals", "!=": "not_equals", ">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}

// parseExpression reads the whole grammar. The caller handles blank text.
func parseExpression(source string) (expression, error) {
	s := strings.TrimFunc(source, isSpace)
	if utf8.RuneCountInString(s) > maxExpression {
		return expression{}, errExpressionLength
	}
	unsupported := fmt.Errorf("Unsupported expression format: %s", s)
	if rest, negated := strings.CutPrefix(s, "!"); negated {
		if path := rest[:pathEnd(rest)]; path == "" || path != rest {
			return expression{}, unsupported
		}
		return expression{path: rest, negated: true}, nil
	}
	end := pathEnd(s)
	if end == 0 {
		return expression{}, unsupported
	}
	e := expression{path: s[:end]}
	rest := strings.TrimLeftFunc(s[end:], isSpace)
	if rest == "" {
		return e, nil
	}
	for _, op := range []string{"==", "!=", ">=", "<=", ">", "<"} {
		if after, ok := strings.CutPrefix(rest, op); ok {
			e.operator = comparisons[op]
			if e.operand, ok = literal(strings.TrimLeftFunc(after, isSpace)); ok {
				return e, nil
			}
			break
		}
	}
	return expression{}, unsupported
}

// pathEnd returns the end of the path at the beginning of a text.
func pathEnd(s string) int {
	if s == "" || !isWord(s[0]) || s[0] >= '0' && s[0] <= '9' {
		return 0
	}
	i := 1
	for i < len(s) && (isWord(s[i]) || s[i] == '.' || s[i] == '[' || s[i] == ']') {
		i++
	}
	return i
}

func literal(s string) (operand, bool) {
	if s == "" || strings.ContainsAny(s, "\n\r\u2028\u2029") {
		return operand{}, false
	}
	switch s {
	case "true", "false":
		return boolOperand(s == "true"), true
	case "null":
		return operand{isNull: true}, true
	}
	if q := s[0]; q == '\'' || q == '"' {
		if len(s) < 2 || strings.IndexByte(s[1:], q) != len(s)-2 {
			return operand{}, false
		}
		return textOperand(s[1 : len(s)-1]), true
	}
	if isDecimal(s) {
		return numberOperand(parseNumeral(s)), true
	}
	if strings.ContainsRune("=!<>", rune(s[0])) || strings.Contains(s, "&&") || strings.Contains(s, "||") {
		return operand{}, false
	}
	return textOperand(s), true
}

// isDecimal tells [ "-" ] digits [ "." digits ].
func isDecimal(s string) bool {
	whole, fraction, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	_, ok := digits(whole)
	if point {
		_, fine := digits(fraction)
		ok = ok && fine
	}
	return ok
}

// check reports whether the expression holds.
func (e expression) check(j *Evaluator, p *Payload) (bool, error) {
	s, err := p.at(e.path)
	if err != nil {
		return false, err
	}
	if e.operator != "" {
		return j.apply(p, s, e.operator, e.operand)
	}
	truth := s.value.kind > null && s.value.kind != boolFalse
	if truth && s.value.kind == text {
		truth = p.nodes[s.value.at].end > p.nodes[s.value.at].start
	}
	return truth != e.negated, nil
}
