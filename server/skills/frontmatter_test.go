package skills

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFault(t *testing.T) {
	t.Parallel()
	const good = "---\nname: Release notes\ndescription: \"\"\ndependencies: [git, gh]\ntrigger: pre-tool\nscope: global\ntags:\n  - documentation\nextra: {a: [1, 2]}\n---\n\n# Do it\n"
	for name, c := range map[string]struct{ content, fault string }{
		"AsTheClientWritesIt": {good, ""},
		"WindowsLines":        {strings.ReplaceAll(good, "\n", "\r\n"), ""},
		"WithoutAny":          {"# Only Markdown\n---\nname: x\n---\n", ""},
		"NeverClosed":         {"---\nname: [\n", ""},
		"OneLine":             {"---", ""},
		"EmptyContent":        {"", ""},
		"Numbers":             {"---\nname: x\nversion: 1.5\nday: 2026-01-01\nflag: yes\nnothing:\n---\n", ""},
		"Empty":               {"---\n---\n", "must be a YAML mapping"},
		"AList":               {"---\n- name\n---\n", "must be a YAML mapping"},
		"AText":               {"---\njust text\n---\n", "must be a YAML mapping"},
		"Broken":              {"---\nname: [\n---\n", "not valid YAML"},
		"ATab":                {"---\nname:\n\tx\n---\n", "not valid YAML"},
		"TwoDocuments":        {"---\nname: x\n...\n--- {a: 1}\n---\n", ""},
		"NoName":              {"---\ndescription: x\n---\n", "needs a name"},
		"ABlankName":          {"---\nname: \"  \"\n---\n", "needs a name"},
		"ANumberAsName":       {"---\nname: 7\n---\n", "needs a name"},
		"AListAsName":         {"---\nname: [x]\n---\n", "needs a name"},
		"ANameTwice":          {"---\nname: x\nname: y\n---\n", "twice"},
		"AnUnknownTrigger":    {"---\nname: x\ntrigger: sometimes\n---\n", "trigger in the front matter must be pre-tool or post-tool"},
		"AnUnknownScope":      {"---\nname: x\nscope: [global]\n---\n", "scope in the front matter must be global or local"},
		"TagsAsText":          {"---\nname: x\ntags: a, b\n---\n", "tags in the front matter must be a list"},
		"DependenciesAsMap":   {"---\nname: x\ndependencies: {a: 1}\n---\n", "dependencies in the front matter must be a list"},
		"ATagOfItsOwn":        {"---\nname: x\nrun: !!python/object/apply:os.system [ls]\n---\n", "tags of its own"},
		"ALocalTag":           {"---\nname: x\nrun: !env HOME\n---\n", "tags of its own"},
		"AnAnchor":            {"---\nname: &n x\nother: *n\n---\n", "anchors and aliases"},
		"AMergeKey":           {"---\nname: x\nbase: &b {a: 1}\n<<: *b\n---\n", "anchors and aliases"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fault := Fault(c.content)
			if c.fault == "" {
				require.Empty(t, fault)
			} else {
				require.Contains(t, fault, c.fault)
			}
		})
	}
	t.Run("NothingCostsMuch", func(t *testing.T) {
		bomb := "---\nname: x\na: &a [x,x,x,x,x,x,x,x,x]\n"
		for i := 'b'; i < 'k'; i++ {
			bomb += string(i) + ": &" + string(i) + " [" + strings.Repeat("*"+string(i-1)+",", 9) + "]\n"
		}
		for _, content := range []string{bomb + "---\n", "---\nname: " + strings.Repeat("[", 9000) + "\n---\n", "---\n" + strings.Repeat("a: {", 2000) + "\n---\n",
			"---\n" + strings.Repeat("? ", 4000) + "\n---\n", "---\n" + strings.Repeat("- ", 4000) + "\n---\n"} {
			began := time.Now()
			require.NotEmpty(t, Fault(content))
			require.Less(t, time.Since(began), 5*time.Second)
		}
		require.Empty(t, Fault("---\nname: [\n"+strings.Repeat("x", longest)+"\n---\n"), "what is too long is refused by its length")
	})
}
