package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// claims is the payload of a token. It is a map and not a struct because
// encoding/json matches struct fields without regard to case: a claim "SUB"
// would overwrite "sub".
type claims map[string]any

const (
	maxDepth = 32
	// lastSecond is the end of the year 9999: later dates have no ISO form.
	lastSecond = 253402300799
)

// decodeClaims reads a payload and removes what Postgres could not store:
// NUL characters and numbers beyond double precision.
func decodeClaims(payload []byte) (claims, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var c map[string]any
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if c == nil || dec.More() {
		return nil, fmt.Errorf("%w: payload is not one JSON object", ErrMalformed)
	}
	clean, ok := storable(c, 0)
	if !ok {
		return nil, fmt.Errorf("%w: payload nested deeper than %d", ErrMalformed, maxDepth)
	}
	return clean.(map[string]any), nil
}

// storable replaces values in v that jsonb refuses; false means that v is nested too deep.
func storable(v any, depth int) (any, bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "\uFFFD"), true
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return nil, true
		}
		return v, true
	case []any:
		for i := range v {
			item, ok := storable(v[i], depth+1)
			if !ok {
				return nil, false
			}
			v[i] = item
		}
		return v, true
	case map[string]any:
		for name, value := range v {
			item, ok := storable(value, depth+1)
			if !ok {
				return nil, false
			}
			if strings.Contains(name, "\x00") {
				delete(v, name)
				continue
			}
			v[name] = item
		}
		return v, true
	default:
		return v, true
	}
}

// compact renders v as JSON without whitespace and without HTML escapes.
func compact(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// text returns a string claim, "" when it is absent or of another type.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// child returns an object claim, nil when it is absent or of another type. The
// accessors work on nil.
func (c claims) child(name string) claims {
	m, _ := c[name].(map[string]any)
	return m
}

// list returns the strings of a claim that is a string or an array of strings.
func (c claims) list(name string) []string {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	default:
		return nil
	}
}

// date returns a NumericDate claim; ok is false when it is absent, not a number
// or outside the years 1970 to 9999.
func (c claims) date(name string) (at time.Time, ok bool) {
	n, isNumber := c[name].(json.Number)
	if !isNumber {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > lastSecond {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0).UTC(), true
}

// tidy makes a name fit for the database columns: no control characters, no
// surrounding blanks, at most limit characters.
func tidy(s string, limit int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s))
	if runes := []rune(s); len(runes) > limit {
		s = strings.TrimSpace(string(runes[:limit]))
	}
	return s
}
