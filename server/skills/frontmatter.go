package skills

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// longest is more than a playbook may hold. A longer one is refused by its length, without parsing.
const longest = 64 << 10

// Fault returns the fault of a playbook's front matter, or "". Content without a front matter is accepted.
//
// The YAML is only parsed to nodes: no values are built from it. Tags therefore have no effect, and an alias costs only its length. Aliases
// and custom tags are refused nevertheless, because a later reader of the playbook may be less careful.
func Fault(content string) string {
	matter, found := frontMatter(content)
	if !found || len(content) > longest {
		return ""
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(matter), &document); err != nil {
		return "The front matter is not valid YAML."
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return "The front matter must be a YAML mapping."
	}
	root := document.Content[0]
	if fault := unsafe(root); fault != "" {
		return fault
	}
	members := map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i].Value
		if members[key] != nil {
			return fmt.Sprintf("The front matter names %.50q twice.", key)
		}
		members[key] = root.Content[i+1]
	}
	if name := members["name"]; name == nil || name.Tag != "!!str" || strings.TrimSpace(name.Value) == "" {
		return "The front matter needs a name."
	}
	for _, choice := range []struct {
		key    string
		values []string
	}{{"trigger", []string{"pre-tool", "post-tool"}}, {"scope", []string{"global", "local"}}} {
		if v := members[choice.key]; v != nil && (v.Kind != yaml.ScalarNode || !slices.Contains(choice.values, v.Value)) {
			return fmt.Sprintf("%s in the front matter must be %s.", choice.key, strings.Join(choice.values, " or "))
		}
	}
	for _, key := range []string{"dependencies", "tags"} {
		if v := members[key]; v != nil && v.Kind != yaml.SequenceNode {
			return fmt.Sprintf("%s in the front matter must be a list.", key)
		}
	}
	return ""
}

// frontMatter returns the text between a first line of three hyphens and the next such line.
func frontMatter(content string) (string, bool) {
	first, rest, found := strings.Cut(strings.TrimPrefix(content, "\ufeff"), "\n")
	if !found || strings.TrimRight(first, " \t\r") != "---" {
		return "", false
	}
	at := 0
	for line := range strings.Lines(rest) {
		if strings.TrimRight(line, " \t\r\n") == "---" {
			return rest[:at], true
		}
		at += len(line)
	}
	return "", false
}

// unsafe returns a construct that would be dangerous for a careless loader.
func unsafe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "The front matter must not use anchors and aliases."
	case n.Tag != "" && !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map", "!!timestamp"}, n.Tag):
		return "The front matter must not use tags of its own."
	}
	for _, child := range n.Content {
		if fault := unsafe(child); fault != "" {
			return fault
		}
	}
	return ""
}
