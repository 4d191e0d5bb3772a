package mcp

import (
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/worker/token"
)

// usualTokens and mostTokens bound an answer. Some clients refuse a result of more than 25,000 tokens.
const (
	usualTokens = 8_000
	mostTokens  = 20_000
)

// bound is the argument that every tool with long answers has.
type bound struct {
	MaxTokens int `json:"maxTokens,omitempty" jsonschema:"most tokens of the answer, 100 to 20000; 8000 by default. What is left out is said at the end"`
}

func (b bound) tokens() int {
	if b.MaxTokens == 0 {
		return usualTokens
	}
	return min(max(b.MaxTokens, 100), mostTokens)
}

// answer is text within a number of tokens.
type answer struct {
	text strings.Builder
	left int // tokens
}

func newAnswer(tokens int) *answer { return &answer{left: tokens} }

// add appends a part, if it fits. The first part always fits: a file of one long line is cut.
func (a *answer) add(part string) bool {
	cost := token.Count(part)
	if cost > a.left {
		if a.text.Len() > 0 {
			return false
		}
		part = cut(part, a.left)
		cost = a.left
	}
	a.text.WriteString(part)
	a.left -= cost
	return true
}

// addf appends a line whatever it costs: headings, and what was left out.
func (a *answer) addf(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	a.text.WriteString(line)
	a.left -= token.Count(line)
}

// list appends parts until one does not fit, and says how many there are.
func (a *answer) list(parts []string, total int, more string) {
	shown := 0
	for _, part := range parts {
		if !a.add(part + "\n") {
			break
		}
		shown++
	}
	if shown < total {
		a.addf("[%d of %d shown. %s]", shown, total, more)
	}
}

func (a *answer) result() *sdk.CallToolResult {
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: strings.TrimRight(a.text.String(), "\n")}}}
}

// cut returns a beginning of text with at most so many tokens. A token has 1 letter at least, and 4 or so on average.
func cut(text string, tokens int) string {
	const mark = " [cut]"
	limit := max(tokens-token.Count(mark), 1)
	low, high := 0, len(text)
	for low < high {
		at := (low + high + 1) / 2
		if token.Count(strings.ToValidUTF8(text[:at], "")) <= limit {
			low = at
		} else {
			high = at - 1
		}
	}
	return strings.ToValidUTF8(text[:low], "") + mark
}

// bounded is the text, or its beginning with a note.
func bounded(text string, tokens int, more string) string {
	if token.Count(text) <= tokens {
		return text
	}
	return cut(text, tokens) + "\n[The rest is left out. " + more + "]"
}
