package llm

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// proposal answers a system prompt that shows the form of its answer by an example, as the skill builder's does. The example is a block in
// tags or in a fence, with a JSON object or YAML that has a name and a description. proposal returns the last such block in the same tags
// or fence, with name and description taken from the user's text. Without an example it returns an empty text. So a skill can be built in
// development without a provider.
func proposal(system, asked string) string {
	var last string
	for _, block := range exampleBlocks(system) {
		if filled, ok := block.fill(asked); ok {
			last = filled
		}
	}
	return last
}

// exampleBlock is a text between two marks.
type exampleBlock struct{ begin, body, end string }

var (
	openingTag = regexp.MustCompile(`<([A-Za-z][\w-]*)>`)
	fence      = regexp.MustCompile("(?m)^```[a-z]*\\n")
)

func exampleBlocks(text string) (all []exampleBlock) {
	for _, at := range fence.FindAllStringIndex(text, -1) {
		if body, _, found := strings.Cut(text[at[1]:], "\n```"); found {
			all = append(all, exampleBlock{text[at[0]:at[1]], body, "\n```"})
		}
	}
	for _, at := range openingTag.FindAllStringSubmatchIndex(text, -1) {
		end := "</" + text[at[2]:at[3]] + ">"
		if body, _, found := strings.Cut(text[at[1]:], end); found {
			all = append(all, exampleBlock{text[at[0]:at[1]], body, end})
		}
	}
	return all
}

var (
	yamlName        = regexp.MustCompile(`(?m)^name:.*$`)
	yamlDescription = regexp.MustCompile(`(?m)^description:.*$`)
	notSlug         = regexp.MustCompile(`[^a-z0-9]+`)
)

func (b exampleBlock) fill(asked string) (string, bool) {
	asked = strings.Join(strings.Fields(asked), " ")
	description := "A skill"
	if asked != "" {
		description = string([]rune(asked)[:min(200, len([]rune(asked)))])
	}
	name := strings.Trim(notSlug.ReplaceAllString(strings.ToLower(description), "-"), "-")
	name = strings.Trim(name[:min(40, len(name))], "-")
	if name == "" {
		name = "new-skill"
	}
	var object map[string]any
	if json.Unmarshal([]byte(b.body), &object) == nil {
		if object["name"] == nil || object["description"] == nil {
			return "", false
		}
		object["name"], object["description"] = name, description
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if encoder.Encode(object) != nil {
			return "", false
		}
		return strings.TrimSuffix(b.begin, "\n") + "\n" + text.String() + strings.TrimPrefix(b.end, "\n"), true
	}
	if !yamlName.MatchString(b.body) || !yamlDescription.MatchString(b.body) {
		return "", false
	}
	quoted, _ := json.Marshal(description) // a JSON string is also a YAML string
	body := yamlName.ReplaceAllLiteralString(b.body, "name: "+name)
	return b.begin + yamlDescription.ReplaceAllLiteralString(body, "description: "+string(quoted)) + b.end, true
}
