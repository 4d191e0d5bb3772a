package condition

import (
	"strings"
	"unicode/utf8"

	"kijko/worker/exactjson"
)

// Event is the part of an event that triggers look at; the payload has the rest.
type Event struct {
	TriggerType string // event, email, file_change or api_call
	Source      string // of an event
	Name        string // of an event
	Payload     *Payload
}

// config is a triggerConfig of any type.
type config struct {
	EventName      string   `json:"eventName"`
	Source         string   `json:"source"`
	FromAddress    string   `json:"fromAddress"`
	SubjectPattern string   `json:"subjectPattern"`
	BodyPattern    string   `json:"bodyPattern"`
	Paths          []string `json:"paths"`
	Events         []string `json:"events"`
	Endpoint       string   `json:"endpoint"`
	Method         string   `json:"method"`
}

// Triggers reports whether a trigger waits for an event, before conditions are checked.
func (j *Evaluator) Triggers(stored []byte, e Event) (bool, error) {
	var c config
	if exactjson.Unmarshal(stored, &c) != nil {
		return false, nil //nolint:nilerr // a trigger whose configuration cannot be read waits for no event
	}
	switch e.TriggerType {
	case "event":
		return c.EventName == e.Name && (c.Source == "" || c.Source == e.Source), nil
	case "email":
		return j.mail(c, e.Payload)
	case "file_change":
		return fileChange(c, e.Payload)
	case "api_call":
		return apiCall(c, e.Payload)
	}
	return false, nil
}

func (j *Evaluator) mail(c config, p *Payload) (bool, error) {
	if c.FromAddress != "" {
		from, err := p.at("from")
		if err != nil {
			return false, err
		}
		got, err := p.subjectLower(from)
		if err != nil || !starGlob(lower(c.FromAddress), got) {
			return false, err
		}
	}
	for _, one := range []struct{ path, pattern string }{{"subject", c.SubjectPattern}, {"body", c.BodyPattern}} {
		if one.pattern == "" {
			continue
		}
		s, err := p.at(one.path)
		if err != nil {
			return false, err
		}
		if ok, err := j.textPattern(p, s, one.pattern); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// regexIn returns the expression between the slashes of a text pattern.
func regexIn(source string) (string, bool) {
	if len(source) < 2 || source[0] != '/' || source[len(source)-1] != '/' {
		return "", false
	}
	return source[1 : len(source)-1], true
}

func (j *Evaluator) textPattern(p *Payload, s *subject, source string) (bool, error) {
	if re, ok := regexIn(source); ok {
		got, err := p.subjectText(s)
		if err != nil {
			return false, err
		}
		return j.search(p, re, got)
	}
	got, err := p.subjectLower(s)
	if err != nil {
		return false, err
	}
	if !p.spend(3 * len(got)) {
		return false, ErrTooCostly
	}
	if strings.Contains(source, "*") {
		return starGlob(lower(source), got), nil
	}
	return strings.Contains(got, lower(source)), nil
}

func (p *Payload) textAt(path string) (string, error) {
	s, err := p.at(path)
	if err != nil {
		return "", err
	}
	return p.subjectText(s)
}

func fileChange(c config, p *Payload) (bool, error) {
	event, err := p.textAt("event")
	if err != nil {
		return false, err
	}
	path, err := p.textAt("file.path")
	if err != nil || path == "" {
		return false, err
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, "./"), "/")
	wanted := false
	for _, name := range c.Events {
		wanted = wanted || name == event
	}
	if !wanted || len(path) > maxPath {
		return false, nil
	}
	for _, source := range c.Paths {
		g := compileGlob(source)
		if !p.spend(2 * (len(g.tokens) + 1) * (len(path) + 1)) {
			return false, ErrTooCostly
		}
		if g.match(path) {
			return true, nil
		}
	}
	return false, nil
}

func apiCall(c config, p *Payload) (bool, error) {
	method, err := p.textAt("method")
	if err != nil || method != c.Method {
		return false, err
	}
	endpoint, err := p.textAt("endpoint")
	if err != nil {
		return false, err
	}
	return EndpointMatches(c.Endpoint, endpoint), nil
}

// BarePath is a path without the version prefix.
func BarePath(path string) string {
	for _, prefix := range []string{"/api/v1", "/api"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && strings.HasPrefix(rest, "/") {
			return rest
		}
	}
	return path
}

// EndpointMatches compares a path with the endpoint of an api_call trigger. They match if they are equal, or, for an endpoint that
// ends in *, if the path has that prefix. Both are compared with or without the version prefix.
func EndpointMatches(endpoint, path string) bool {
	path = BarePath(path)
	if !strings.HasPrefix(endpoint, "/") {
		endpoint = "/" + endpoint
	}
	if prefix, ok := strings.CutSuffix(endpoint, "*"); ok {
		return strings.HasPrefix(path, BarePath(prefix)) || prefix == "/api/v1/" || prefix == "/api/"
	}
	return path == BarePath(endpoint)
}

// CheckPatterns checks the regular expressions of an e-mail trigger; Postgres checks all other parts of a configuration.
func CheckPatterns(raw []byte) error {
	var c struct {
		SubjectPattern any `json:"subjectPattern"`
		BodyPattern    any `json:"bodyPattern"`
	}
	if exactjson.Unmarshal(raw, &c) != nil {
		return nil //nolint:nilerr // Postgres reports the fault
	}
	for _, one := range []struct {
		name  string
		value any
	}{{"subjectPattern", c.SubjectPattern}, {"bodyPattern", c.BodyPattern}} {
		source, ok := one.value.(string)
		if !ok || utf8.RuneCountInString(source) > maxPattern {
			continue
		}
		if re, ok := regexIn(source); ok {
			if _, err := compilePattern(re); err != nil {
				return &Fault{"triggerConfig", one.name + ": " + err.Error()}
			}
		}
	}
	return nil
}
