package llm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLocalModelProposesInTheFormItWasShown(t *testing.T) {
	t.Parallel()
	const asked = "Summarize my  commits <for> users: \"daily\""
	for name, c := range map[string]struct{ system, want string }{
		"JSON in tags": {
			"You build skills. When ready, answer with:\n<skill_config>\n{\"name\": \"kebab-case\", \"description\": \"...\", \"tags\": [\"a\"]}\n</skill_config>\nUse <b>plain</b> words.",
			"<skill_config>\n{\n  \"description\": \"Summarize my commits <for> users: \\\"daily\\\"\",\n  \"name\": \"summarize-my-commits-for-users-daily\",\n  \"tags\": [\n    \"a\"\n  ]\n}\n</skill_config>"},
		"JSON in a fence": {
			"Answer:\n```json\n{\"name\": \"x\", \"description\": \"y\"}\n```\n",
			"```json\n{\n  \"description\": \"Summarize my commits <for> users: \\\"daily\\\"\",\n  \"name\": \"summarize-my-commits-for-users-daily\"\n}\n```"},
		"YAML front matter": {
			"Answer:\n```markdown\n---\nname: example\ndescription: what it does\ntags: [a]\n---\n\n# Steps\n```\n",
			"```markdown\n---\nname: summarize-my-commits-for-users-daily\ndescription: \"Summarize my commits \\u003cfor\\u003e users: \\\"daily\\\"\"\ntags: [a]\n---\n\n# Steps\n```"},
		"a block of another kind": {"Answer in <b>bold</b>:\n```json\n{\"answer\": 7}\n```\n", ""},
		"no block":                {"You are helpful.", ""},
	} {
		require.Equal(t, c.want, proposal(c.system, asked), name)
	}
	require.Contains(t, proposal("<c>{\"name\": 1, \"description\": 2}</c>", "日本語"), `"name": "new-skill"`)
	require.Contains(t, proposal("<c>{\"name\": 1, \"description\": 2}</c>", ""), `"description": "A skill"`)
}
