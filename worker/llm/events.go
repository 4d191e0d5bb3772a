package llm

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"

	"kijko/worker/exactjson"
)

// events rewrites a stream of server-sent events into the form that the SDK reads: the event name if it has a meaning, the data on one
// line, a blank line. The standard (HTML, "Parsing an event stream") allows more, and gateways use it: comments that keep a connection
// alive, data over several lines, other line endings, a byte order mark, unknown fields. Google's SDK fails at each of them.
//
// An error that comes instead of an event, framed or not, ends the stream and is stored in the exchange.
type events struct {
	source io.ReadCloser
	x      *exchange
	raw    []byte // a piece of the source
	out    bytes.Buffer
	line   []byte
	name   string
	data   []byte
	// body is the data that comes in place of events; nil while events come.
	body []byte
	// hasData: the event has a data field. afterCR: the last line ended with CR, so a line feed may follow. begun: the first line has been
	// read.
	hasData, afterCR, begun bool
	err                     error
}

func newEvents(source io.ReadCloser, x *exchange) *events {
	return &events{source: source, x: x, raw: make([]byte, 4<<10)}
}

func (e *events) Close() error { return e.source.Close() }

func (e *events) Read(p []byte) (int, error) {
	for e.out.Len() == 0 {
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.source.Read(e.raw)
		for _, c := range e.raw[:n] {
			if e.take(c); e.err != nil {
				break
			}
		}
		if err != nil && e.err == nil {
			e.end(err)
		}
	}
	return e.out.Read(p)
}

func (e *events) take(c byte) {
	switch {
	case c == '\n' && e.afterCR:
		e.afterCR = false
	case c == '\n' || c == '\r':
		e.afterCR = c == '\r'
		e.field()
		e.line = e.line[:0]
	default:
		e.afterCR = false
		e.line = append(e.line, c)
	}
}

// field processes a whole line.
func (e *events) field() {
	line := e.line
	if !e.begun {
		e.begun, line = true, bytes.TrimPrefix(line, []byte("\uFEFF"))
	}
	if e.body != nil || isWhole(line) {
		e.collect(line)
		return
	}
	if len(line) == 0 {
		e.dispatch()
		return
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		e.name = string(value)
	case "data":
		if e.hasData {
			// Between the tokens of JSON a blank is equivalent to a line ending.
			e.data = append(e.data, ' ')
		}
		e.data, e.hasData = append(e.data, value...), true
	}
}

// dispatch passes an event on, unless the event is empty.
func (e *events) dispatch() {
	data, name := bytes.TrimSpace(e.data), e.name
	e.data, e.name, e.hasData = e.data[:0], "", false
	switch {
	case len(data) == 0, string(data) == "[DONE]":
	case bytes.Contains(data, []byte(`"error"`)) && errorIn(data, false) != nil:
		e.instead(bytes.Clone(data))
	default:
		if e.x.named && name != "" {
			e.out.WriteString("event: " + name + "\n")
		}
		e.out.WriteString("data: ")
		e.out.Write(data)
		e.out.WriteString("\n\n")
	}
}

// end processes the data after the last line ending. An event that was cut short is dropped.
func (e *events) end(err error) {
	if err == io.EOF {
		if len(e.line) > 0 {
			e.field()
		}
		switch {
		case e.err != nil:
		case e.body != nil:
			e.instead(e.body)
		case json.Valid(e.data):
			e.dispatch()
		}
	}
	if e.err == nil {
		e.err = err
	}
}

// isWhole reports whether a line begins JSON or a page, and not a field of an event.
func isWhole(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && (line[0] == '{' || line[0] == '[' || line[0] == '<')
}

// collect gathers the data that comes in place of events, until it is complete or too long for an error.
func (e *events) collect(line []byte) {
	e.body = append(append(e.body, line...), '\n')
	if len(e.body) > maxRefusal || json.Valid(e.body) {
		e.instead(e.body)
	}
}

// instead ends the stream with the data that came in place of an event.
func (e *events) instead(body []byte) { e.x.within, e.err = body, io.EOF }

// refusal is the common form of an error in the bodies of Google, Anthropic and the gateways in front of them.
type refusal struct {
	status  int // 0: not said
	message string
	details []map[string]any
}

// errorIn reads an error, or returns nil if the JSON is none. With bare, because the status is an error status, a message alone counts as
// an error.
func errorIn(body []byte, bare bool) *refusal {
	body = bytes.TrimSpace(body)
	if list := []json.RawMessage{}; len(body) > 0 && body[0] == '[' && exactjson.Unmarshal(body, &list) == nil && len(list) > 0 {
		body = list[0]
	}
	var outer struct {
		Error   json.RawMessage `json:"error"`
		Message any             `json:"message"`
		Detail  any             `json:"detail"`
	}
	if exactjson.Unmarshal(body, &outer) != nil {
		return nil
	}
	var inner struct {
		Code    any             `json:"code"`
		Status  any             `json:"status"`
		Type    any             `json:"type"`
		Message any             `json:"message"`
		Details json.RawMessage `json:"details"`
	}
	var text string
	r := &refusal{}
	switch {
	case len(outer.Error) == 0 || string(outer.Error) == "null":
		if r.message = or(asText(outer.Message), asText(outer.Detail)); !bare || r.message == "" {
			return nil
		}
		return r
	case exactjson.Unmarshal(outer.Error, &text) == nil:
		r.message = or(asText(outer.Message), text)
		r.status = namedStatus[text]
		return r
	case exactjson.Unmarshal(outer.Error, &inner) != nil:
		return r
	}
	r.message = asText(inner.Message)
	_ = exactjson.Unmarshal(inner.Details, &r.details) // in another form there are none
	for _, said := range []any{inner.Code, inner.Status, inner.Type} {
		if r.status == 0 {
			r.status = statusOf(said)
		}
	}
	// Google answers 400 to an unknown key.
	for _, detail := range r.details {
		if detail["reason"] == "API_KEY_INVALID" {
			r.status = 401
		}
	}
	return r
}

// statusOf reads a status: a number, its text, or a provider's name for it. 0 means no status.
func statusOf(said any) int {
	n, _ := said.(float64)
	if text := asText(said); text != "" {
		if known := namedStatus[text]; known != 0 {
			return known
		}
		n, _ = strconv.ParseFloat(text, 64)
	}
	if n >= 400 && n < 600 {
		return int(n)
	}
	return 0
}

func asText(value any) string {
	text, _ := value.(string)
	return text
}

// namedStatus maps the name of an error within a stream to the status that it would have had as an answer; the stream itself began with
// 200. The names are Anthropic's and Google's.
var namedStatus = map[string]int{"invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
	"request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504, "overloaded_error": 529,
	"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
	"RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}
