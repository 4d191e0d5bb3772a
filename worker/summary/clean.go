package summary

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"kijko/db"
	"kijko/worker/exactjson"
)

// The contract's numbers, and bounds of what is stored.
const (
	leastSentences, mostSentences   = 3, 4
	leastComponents, mostComponents = 4, 5
	maxSentence                     = 500
	maxName, maxPurpose             = 100, 200
)

var errUseless = errors.New("summary: the model's answer is no summary")

// read makes a summary of the model's answer. What it has too much of is cut; what it lacks is filled from the extractive summary.
func (t *task) read(answer string) (*text, error) {
	var said struct {
		Description   string `json:"description"`
		KeyComponents []struct {
			Name    string `json:"name"`
			Purpose string `json:"purpose"`
		} `json:"keyComponents"`
	}
	from, to := strings.IndexByte(answer, '{'), strings.LastIndexByte(answer, '}')
	if from < 0 || to < from || exactjson.Unmarshal([]byte(answer[from:to+1]), &said) != nil {
		return nil, errUseless
	}
	found := sentences(plain(said.Description))
	if len(found) == 0 {
		return nil, errUseless
	}
	found = found[:min(len(found), mostSentences)]
	for _, s := range sentences(t.Extractive.Description) {
		if len(found) >= leastSentences {
			break
		}
		found = append(found, s)
	}
	components := make([]string, 0, mostComponents)
	taken := map[string]bool{}
	add := func(component string) {
		name, _, _ := strings.Cut(component, " - ")
		if key := strings.ToLower(name); len(components) < mostComponents && !taken[key] {
			taken[key] = true
			components = append(components, component)
		}
	}
	for _, c := range said.KeyComponents {
		// The first " - " ends the name for the reader.
		name, purpose := cut(strings.ReplaceAll(plain(c.Name), " - ", ", "), maxName), cut(plain(c.Purpose), maxPurpose)
		if name != "" && purpose != "" {
			add(name + " - " + purpose)
		}
	}
	for _, c := range t.Extractive.KeyComponents {
		if len(components) >= leastComponents {
			break
		}
		add(c)
	}
	return &text{Description: strings.Join(found, " "), KeyComponents: components, Model: t.Route.Model}, nil
}

var (
	image   = regexp.MustCompile(`!\[[^\]]*\]\([^)]*\)`)
	link    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	tag     = regexp.MustCompile(`<[^>]*>`)
	address = regexp.MustCompile(`(?i)\b(?:[a-z][a-z0-9+.-]*://|www\.|mailto:|javascript:|data:)\S*`)
	marks   = regexp.MustCompile("[*`#]+|__+")
)

// plain is text without markup and addresses, on one line. An address in a summary could only come from a file of the context, and a page
// would make a link of it.
func plain(s string) string {
	s = db.Text(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.C, r): // control and format characters, such as those that turn the direction of writing
			return -1
		}
		return r
	}, s))
	s = image.ReplaceAllString(s, "")
	s = link.ReplaceAllString(s, "$1")
	s = tag.ReplaceAllString(s, " ")
	s = address.ReplaceAllString(s, "")
	return line(marks.ReplaceAllString(s, ""))
}

var end = regexp.MustCompile(`[.!?]["')]*\s+`)

// sentences returns the sentences of a text. A dot before a small letter ends none: "e.g. this", "Node.js is".
func sentences(s string) []string {
	var all []string
	start := 0
	take := func(to int) {
		if one := strings.TrimSpace(s[start:to]); one != "" {
			all = append(all, finish(cut(one, maxSentence)))
		}
		start = to
	}
	for _, at := range end.FindAllStringIndex(s, -1) {
		if next, _ := utf8.DecodeRuneInString(s[at[1]:]); at[1] < len(s) && !unicode.IsLower(next) {
			take(at[1])
		}
	}
	take(len(s))
	return all
}

// finish gives a sentence its full stop.
func finish(s string) string {
	if last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(s, `"')`)); strings.ContainsRune(".!?…", last) {
		return s
	}
	return s + "."
}

// cut shortens a text between words, to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = strings.ToValidUTF8(s[:n-3], "")
	if k := strings.LastIndexByte(s, ' '); k > n/2 {
		s = s[:k]
	}
	return strings.TrimRight(s, " ,;:") + "…"
}
