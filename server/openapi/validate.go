package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"kijko/worker/exactjson"
)

// Fault is one error of a request: the field (dotted, members[2].email) and a sentence for users.
type Fault struct {
	Field   string
	Message string
}

func (f *Fault) Error() string { return f.Message }

// maxDepth bounds the nesting of a body. Postgres would fail far later, Go later still.
const maxDepth = 64

// Postgres keeps numbers as decimals and writes every digit: 1e9000 in a body would be 9,000 digits in each answer. No client can hold a
// number beyond a double, and all numbers together may grow no larger than the largest body.
const (
	maxExponent = 400
	maxDigits   = DefaultMaxBody
)

// maxParts bounds the parts of a body, counted in brackets, commas and colons: for Postgres a mebibyte of empty lists costs as much as
// twenty of text. A mebibyte of usual program data has some forty thousand.
const maxParts = 100_000

// HasBody reports whether the operation takes a JSON body.
func (o *Operation) HasBody() bool { return o.body != nil }

// NeedsBody reports whether a call without a body is refused.
func (o *Operation) NeedsBody() bool { return o.needsBody }

// CheckBody validates a JSON body. An empty body counts as {} when the operation does not require one: the client sends its JSON content
// type also on bodiless requests. The result is the body to pass to Postgres.
func (o *Operation) CheckBody(raw []byte) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		if o.needsBody {
			return nil, &Fault{Message: "The request needs a JSON body."}
		}
		raw = []byte("{}")
	}
	if o.body == nil {
		return raw, nil
	}
	if err := CheckText(raw); err != nil {
		return nil, err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, &Fault{Message: "The request body is not valid JSON."}
	}
	if err := o.body.Validate(value); err != nil {
		return nil, explain(err, "")
	}
	// Of several members with one name the last was checked, and is the only one that Go and Postgres see.
	if raw, err = exactjson.Unique(raw); err != nil {
		return nil, &Fault{Message: "The request body is not valid JSON."}
	}
	return raw, nil
}

// CheckText refuses content that JSON allows but Postgres cannot store (NUL, lone surrogates, excessive nesting, numbers and counts), and
// invalid UTF-8, in one pass over the bytes. Everything else is left to the JSON parser. It is for JSON that does not come as a request's
// body.
func CheckText(raw []byte) error {
	if !utf8.Valid(raw) {
		return &Fault{Message: "The request body is not valid UTF-8."}
	}
	depth, parts, digits, run, inString := 0, 0, 0, 0, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if run++; inString || (c < '0' || c > '9') && c != '.' {
			run = 0
		}
		switch {
		case inString && c == '\\':
			i++
			if i < len(raw) && raw[i] == 'u' {
				skip, fault := checkEscape(raw[i-1:])
				if fault != nil {
					fault.Field = fieldAt(raw, i)
					return fault
				}
				i += skip - 2
			}
		case c == '"':
			inString = !inString
		case inString:
		case c == ',' || c == ':':
			parts++
		case c == '{' || c == '[':
			parts++
			if depth++; depth > maxDepth {
				return &Fault{Message: fmt.Sprintf("The request body is nested deeper than %d levels.", maxDepth)}
			}
		case c == '}' || c == ']':
			depth--
		case (c == 'e' || c == 'E') && i > 0 && raw[i-1] >= '0' && raw[i-1] <= '9':
			n := exponent(raw[i+1:])
			if digits += n; n > maxExponent || digits > maxDigits {
				return &Fault{Field: fieldAt(raw, i), Message: fmt.Sprintf("The request body holds too large numbers: exponents go to %d.", maxExponent)}
			}
		case run > maxExponent:
			return &Fault{Field: fieldAt(raw, i), Message: fmt.Sprintf("The request body holds too long numbers: they go to %d digits.", maxExponent)}
		}
	}
	if parts > maxParts {
		return &Fault{Message: "The request body holds too many values."}
	}
	return nil
}

// fieldAt names the member whose value has the byte at this place; "" for one that is no member's. It is for faults: it reads the body
// again.
func fieldAt(raw []byte, at int) string {
	type level struct {
		name  string // of the member
		index int    // of the element, -1 in an object
		key   bool   // the next token is a name
	}
	var levels []level
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		token, err := d.Token()
		here := d.InputOffset() > int64(at)
		if err != nil {
			here = true // cut off, or no JSON: what is open is what has it
		}
		top := len(levels) - 1
		delim, isDelim := token.(json.Delim)
		isName := top >= 0 && levels[top].key && !isDelim
		if here {
			var field strings.Builder
			for k, l := range levels {
				switch {
				case k == top && isName:
				case l.index >= 0:
					fmt.Fprintf(&field, "[%d]", l.index)
				case field.Len() > 0:
					field.WriteString("." + l.name)
				default:
					field.WriteString(l.name)
				}
			}
			return field.String()
		}
		switch {
		case isDelim && (delim == '{' || delim == '['):
			if delim == '{' {
				levels = append(levels, level{index: -1, key: true})
			} else {
				levels = append(levels, level{})
			}
			continue
		case isDelim:
			levels = levels[:top]
			top--
		case isName:
			levels[top].name, levels[top].key = token.(string), false
			continue
		}
		// A value ended.
		if top < 0 {
			return ""
		}
		if levels[top].index >= 0 {
			levels[top].index++
		} else {
			levels[top].key = true
		}
	}
}

// exponent reads the digits after the e of a number, without its sign. A number beyond all bounds becomes some number beyond them.
func exponent(raw []byte) int {
	n := 0
	for i, c := range raw {
		switch {
		case i == 0 && (c == '+' || c == '-'):
		case c >= '0' && c <= '9' && n <= maxExponent:
			n = n*10 + int(c-'0')
		default:
			return n
		}
	}
	return n
}

// checkEscape checks one \uXXXX (or a surrogate pair of them) and returns its length.
func checkEscape(raw []byte) (int, *Fault) {
	unit := func(at int) (uint64, bool) {
		if len(raw) < at+6 || raw[at] != '\\' || raw[at+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(raw[at+2:at+6]), 16, 16)
		return n, err == nil
	}
	first, ok := unit(0)
	switch {
	case !ok:
		return 2, nil // the JSON parser reports it
	case first == 0:
		return 0, &Fault{Message: "Text must not contain NUL characters."}
	case first >= 0xD800 && first < 0xDC00:
		if second, ok := unit(6); ok && second >= 0xDC00 && second < 0xE000 {
			return 12, nil
		}
		return 0, &Fault{Message: "Text must not contain half a surrogate pair."}
	case first >= 0xDC00 && first < 0xE000:
		return 0, &Fault{Message: "Text must not contain half a surrogate pair."}
	}
	return 6, nil
}

// AppendParams validates path and query values and appends them as JSON members (`"name":value,`) to buf. path returns the raw path segment
// of a template name; query is the parsed query. Parameters are read only here.
func (o *Operation) AppendParams(buf []byte, path func(string) string, query url.Values) ([]byte, error) {
	for i := range o.Params {
		p := &o.Params[i]
		var values []string
		switch p.In {
		case "path":
			values = []string{path(p.Name)}
		case "query":
			values = query[p.Name]
			if p.Repeated && len(values) == 0 {
				values = query[p.Name+"[]"]
			}
		default:
			continue
		}
		if p.In == "query" {
			values = p.given(values)
		}
		if len(values) == 0 {
			if p.Required {
				return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s is required.", p.Name)}
			}
			continue
		}
		value, err := p.value(values)
		if err != nil {
			return nil, err
		}
		buf = appendString(buf, p.Name)
		buf = append(buf, ':')
		text, err := json.Marshal(value)
		if err != nil {
			return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s is not valid.", p.Name)}
		}
		buf = append(buf, text...)
		buf = append(buf, ',')
	}
	return buf, nil
}

// given returns the values that count as given. A form sends all of its fields: an empty optional parameter of any type counts as absent,
// and so does an empty entry of a list. Only a required text may be empty.
func (p *Param) given(values []string) []string {
	switch {
	case p.Repeated:
		return slices.DeleteFunc(slices.Clone(values), func(text string) bool { return text == "" })
	case len(values) == 1 && values[0] == "" && !(p.Required && p.Type == "string"):
		return nil
	}
	return values
}

func appendString(buf []byte, s string) []byte { return strconv.AppendQuote(buf, s) }

func (p *Param) value(values []string) (any, error) {
	if !p.Repeated && len(values) > 1 {
		return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s is given more than once.", p.Name)}
	}
	typed := make([]any, len(values))
	for i, text := range values {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s is not valid text.", p.Name)}
		}
		value, err := p.scalar(text)
		if err != nil {
			return nil, err
		}
		typed[i] = value
	}
	var value any = typed
	if !p.Repeated {
		value = typed[0]
		if p.free {
			return value, nil
		}
	}
	if err := p.schema.Validate(value); err != nil {
		return nil, explain(err, p.Name)
	}
	return value, nil
}

func (p *Param) scalar(text string) (any, error) {
	switch p.Type {
	case "integer", "number":
		if _, ok := new(big.Rat).SetString(text); !ok || len(text) > 32 || strings.ContainsAny(text, "/_xXbBoOpP") {
			return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s must be a number.", p.Name)}
		}
		if p.Type == "integer" {
			n, err := strconv.ParseInt(text, 10, 64)
			if errors.Is(err, strconv.ErrRange) {
				return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s is out of range.", p.Name)}
			}
			if err != nil {
				return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s must be a whole number.", p.Name)}
			}
			return n, nil
		}
		return json.Number(text), nil
	case "boolean":
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, &Fault{Field: p.Name, Message: fmt.Sprintf("%s must be true or false.", p.Name)}
	}
	return text, nil
}

// CheckAnswer checks an answer against the document. Tests run it on every response of the suite.
func (o *Operation) CheckAnswer(status int, body []byte) error {
	schema, known := o.responses[status]
	if !known {
		if status >= 400 {
			return checkProblem(body)
		}
		return fmt.Errorf("%s answers %d, which the document does not name", o.ID, status)
	}
	if schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s answers no JSON: %w", o.ID, err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("%s %d: %w in %s", o.ID, status, err, body)
	}
	return nil
}

// CheckEvent checks one event of a streamed answer against the document, as CheckAnswer does with whole answers.
func (o *Operation) CheckEvent(name string, data []byte) error {
	if o.events == nil {
		return fmt.Errorf("%s streams events that the document does not describe", o.ID)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s streams no JSON: %w", o.ID, err)
	}
	if err := o.events.Validate(map[string]any{"event": name, "data": value}); err != nil {
		return fmt.Errorf("%s, event %s: %w in %s", o.ID, name, err, data)
	}
	return nil
}

// HasHeader reports whether the document names the header for answers of this status.
func (o *Operation) HasHeader(status int, name string) bool {
	headers, known := o.headers[status]
	if !known {
		headers = o.headers[0]
	}
	return slices.ContainsFunc(headers, func(h string) bool { return strings.EqualFold(h, name) })
}

func checkProblem(body []byte) error {
	var p struct {
		Status                       int
		Title, Detail, Code, Message string
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("not a problem document: %w", err)
	}
	if p.Status == 0 || p.Title == "" || p.Code == "" || p.Detail == "" || p.Detail != p.Message {
		return fmt.Errorf("an incomplete problem document: %s", body)
	}
	return nil
}

// explain turns the validator's tree into one fault: the first leaf, in the order of the document.
func explain(err error, prefix string) *Fault {
	var tree *jsonschema.ValidationError
	if !errors.As(err, &tree) {
		return &Fault{Field: prefix, Message: "The value is not valid."}
	}
	leaf := firstLeaf(tree)
	field := fieldName(prefix, leaf.InstanceLocation)
	switch k := leaf.ErrorKind.(type) {
	case *kind.Required:
		field = join(field, k.Missing[0])
		return &Fault{Field: field, Message: field + " is required."}
	case *kind.AdditionalProperties:
		field = join(field, slices.Min(k.Properties))
		return &Fault{Field: field, Message: fmt.Sprintf("%s is not a known field.", field)}
	}
	return &Fault{Field: field, Message: sentence(subject(field), leaf.ErrorKind)}
}

func subject(field string) string {
	if field == "" {
		return "The request body"
	}
	return field
}

func sentence(field string, k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("%s must be %s.", field, wanted(k.Want))
	case *kind.Enum:
		names := make([]string, len(k.Want))
		for i, w := range k.Want {
			if names[i] = fmt.Sprint(w); w == nil {
				names[i] = "null"
			}
		}
		return fmt.Sprintf("%s must be one of %s.", field, strings.Join(names, ", "))
	case *kind.Const:
		return fmt.Sprintf("%s must be %v.", field, k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("%s must have at least %s.", field, count(k.Want, "character"))
	case *kind.MaxLength:
		return fmt.Sprintf("%s must have at most %s.", field, count(k.Want, "character"))
	case *kind.MinItems:
		return fmt.Sprintf("%s must have at least %s.", field, count(k.Want, "entry"))
	case *kind.MaxItems:
		return fmt.Sprintf("%s must have at most %s.", field, count(k.Want, "entry"))
	case *kind.MinProperties:
		return fmt.Sprintf("%s must have at least %s.", field, count(k.Want, "member"))
	case *kind.UniqueItems:
		return fmt.Sprintf("%s must not hold the same entry twice.", field)
	case *kind.Minimum:
		return fmt.Sprintf("%s must be at least %s.", field, k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("%s must be at most %s.", field, k.Want.RatString())
	case *kind.Format:
		return fmt.Sprintf("%s must be a valid %s.", field, formatName(k.Want))
	case *kind.Pattern:
		return fmt.Sprintf("%s does not have the right form.", field)
	}
	return fmt.Sprintf("%s is not valid.", field)
}

func formatName(format string) string {
	names := map[string]string{"uuid": "UUID", "email": "e-mail address", "date-time": "timestamp", "date": "date", "uri": "URL"}
	if name := names[format]; name != "" {
		return name
	}
	return format
}

func wanted(types []string) string {
	names := map[string]string{"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
		"object": "an object", "array": "a list", "null": "null"}
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = names[t]
	}
	return strings.Join(words, " or ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "y") {
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// firstLeaf prefers faults of given values over alternatives that merely did not match. It is deterministic.
func firstLeaf(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return e
	}
	leaves := make([]*jsonschema.ValidationError, len(e.Causes))
	for i, cause := range e.Causes {
		leaves[i] = firstLeaf(cause)
	}
	return slices.MinFunc(leaves, func(a, b *jsonschema.ValidationError) int {
		return strings.Compare(weight(a), weight(b))
	})
}

func weight(e *jsonschema.ValidationError) string {
	class := "1"
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		class = "0"
	case *kind.Type:
		// `null` as the wanted type comes from "text or null": it is never the helpful fault.
		if slices.Equal(k.Want, []string{"null"}) {
			class = "9"
		}
	}
	return class + strings.Join(e.InstanceLocation, "/")
}

func fieldName(prefix string, location []string) string {
	name := prefix
	for _, token := range location {
		if _, err := strconv.Atoi(token); err == nil && name != "" {
			name += "[" + token + "]"
			continue
		}
		name = join(name, token)
	}
	return name
}

func join(name, token string) string {
	if name == "" {
		return token
	}
	return name + "." + token
}
