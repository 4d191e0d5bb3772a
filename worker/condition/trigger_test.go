package condition

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPathGlobs(t *testing.T) {
	t.Parallel()
	cases := []struct {
		pattern, path string
		want          bool
	}{
		{"*.ts", "index.ts", true}, {"*.ts", "src/deep/index.ts", true}, {"*.ts", "index.tsx", false}, {"index.ts", "src/index.ts", true}, {"index.ts", "src/xindex.ts", false},
		{"src/*.ts", "src/a.ts", true}, {"src/*.ts", "src/a/b.ts", false}, {"src/*.ts", "lib/src/a.ts", false}, {"/src/*.ts", "src/a.ts", true}, {"./src/*.ts", "src/a.ts", true},
		{"src/**", "src/a.ts", true}, {"src/**", "src/a/b/c.ts", true}, {"src/**", "lib/a.ts", false}, {"src/", "src/a/b.ts", true}, {"src/", "srcs/a.ts", false},
		{"src/**/*.ts", "src/a.ts", true}, {"src/**/*.ts", "src/a/b/c.ts", true}, {"src/**/*.ts", "src/a.js", false}, {"src/**/test/*.ts", "src/test/a.ts", true},
		{"src/**/test/*.ts", "src/a/b/test/a.ts", true}, {"src/**/test/*.ts", "src/atest/a.ts", false}, {"src/**.ts", "src/a/b.ts", true}, {"src/**.ts", "src/a.ts", true},
		{"**/*.md", "README.md", true}, {"**/*.md", "docs/a/README.md", true}, {"**/docs/**", "docs/a", true}, {"**/docs/**", "x/docs/a/b", true}, {"**/docs/**", "xdocs/a", false},
		{"**", "a/b/c", true}, {"*", "a/b/c", true}, {"*/*", "a/b", true}, {"*/*", "a/b/c", false}, {"?.go", "a.go", true}, {"?.go", "ab.go", false}, {"a/?/c", "a/b/c", true},
		{"a?c/x", "a/c/x", false}, {"a/?/c", "a//c", false}, {"*.{ts,js}", "a.ts", false}, {"*.{ts,js}", "a.{ts,js}", true}, {"[ab].ts", "a.ts", false}, {"[ab].ts", "[ab].ts", true},
		{"*.TS", "a.ts", false}, {"é*", "été", true}, {"è*", "été", false}, {"ét?", "été", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "abc", true}, {"a*b*c", "acb", false}, {"***", "x", true},
		{"src/***/a", "src/x/y/a", true}, {"src/a**b/c", "src/axyb/c", true}, {"src/a**b/c", "src/ax/yb/c", true}, {"a.b", "axb", false}, {"", "a", false}, {"", "", true},
		{"package.json", "a/b/package.json", true}, {".github/workflows/*.yml", ".github/workflows/ci.yml", true},
	}
	for _, c := range cases {
		require.Equal(t, c.want, compileGlob(c.pattern).match(c.path), "%q on %q", c.pattern, c.path)
	}
	require.False(t, compileGlob("**").match(strings.Repeat("a", maxPath+1)), "no file has such a path")
}

func TestStarGlobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*@kijko.nl", "ann@kijko.nl", true}, {"*@kijko.nl", "ann@kijko.nl.evil.com", false}, {"ann@*", "ann@x.nl", true}, {"*", "", true}, {"a*a", "a", false}, {"a*a", "aa", true},
		{"a*b*c", "a..b..c", true}, {"a*b*c", "a..c..b", false}, {"**x", "x", true}, {"ann", "ann", true}, {"ann", "anna", false}, {"*b*", "abc", true}, {"a*", "ba", false},
		{"*a\nb*", "x a\nb", true}, {"ab*ba", "aba", false},
	} {
		require.Equal(t, c.want, starGlob(c.pattern, c.text), "%q on %q", c.pattern, c.text)
	}
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	j := check(t)
	change := `{"event":"modify","file":{"path":"src/api/user.ts","name":"user.ts","extension":"ts","size":1},"projectId":"p","timestamp":"t"}`
	mail := `{"from":"Ann <Ann@Example.nl>","to":"b@x.nl","subject":"[Alert] Disk FULL on db1","body":"Line one\nusage: 97%"}`
	call := `{"method":"POST","endpoint":"/projects/123/ingestion","query":{},"body":{}}`
	cases := []struct {
		kind, config, source, name, payload string
		want                                bool
	}{
		{"event", `{"eventName":"push"}`, "", "push", `{}`, true},
		{"event", `{"eventName":"push"}`, "github", "push", `{}`, true},
		{"event", `{"eventName":"push","source":"github"}`, "github", "push", `{}`, true},
		{"event", `{"eventName":"push","source":"github"}`, "", "push", `{}`, false},
		{"event", `{"eventName":"push","source":"github"}`, "gitlab", "push", `{}`, false},
		{"event", `{"eventName":"push"}`, "", "Push", `{}`, false},
		{"event", `not json`, "", "push", `{}`, false},
		{"file_change", `{"paths":["*.ts"],"events":["create","modify"]}`, "", "", change, true},
		{"file_change", `{"paths":["*.ts"],"events":["create"]}`, "", "", change, false},
		{"file_change", `{"paths":["*.go","src/**"],"events":["modify"]}`, "", "", change, true},
		{"file_change", `{"paths":["*.go"],"events":["modify"]}`, "", "", change, false},
		{"file_change", `{"paths":["*"],"events":["modify"]}`, "", "", `{"event":"modify"}`, false},
		{"file_change", `{"paths":["*"],"events":["modify"]}`, "", "", `{"event":"modify","file":{"path":"` + strings.Repeat("a", 2000) + `"}}`, false},
		{"email", `{}`, "", "", mail, true},
		{"email", `{"fromAddress":"*@example.NL>"}`, "", "", mail, true},
		{"email", `{"fromAddress":"ann@example.nl"}`, "", "", mail, false},
		{"email", `{"fromAddress":"bob*"}`, "", "", mail, false},
		{"email", `{"subjectPattern":"disk full"}`, "", "", mail, true},
		{"email", `{"subjectPattern":"disk empty"}`, "", "", mail, false},
		{"email", `{"subjectPattern":"[alert]*db?"}`, "", "", mail, false},
		{"email", `{"subjectPattern":"[alert]*DB1"}`, "", "", mail, true},
		{"email", `{"subjectPattern":"alert*"}`, "", "", mail, false},
		{"email", `{"subjectPattern":"/^\\[alert\\].*DB\\d$/"}`, "", "", mail, true},
		{"email", `{"subjectPattern":"/^disk/"}`, "", "", mail, false},
		{"email", `{"subjectPattern":"/("}`, "", "", mail, false},
		{"email", `{"subjectPattern":"/(/"}`, "", "", mail, false},
		{"email", `{"bodyPattern":"/usage: \\d+%/","subjectPattern":"alert"}`, "", "", mail, true},
		{"email", `{"bodyPattern":"line*97%"}`, "", "", mail, true},
		{"email", `{"bodyPattern":"x","subjectPattern":"alert"}`, "", "", mail, false},
		{"email", `{"bodyPattern":"x"}`, "", "", `{}`, false},
		{"email", `{"bodyPattern":"*"}`, "", "", `{}`, true},
		{"api_call", `{"endpoint":"/projects/123/ingestion","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"/api/v1/projects/123/ingestion","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"/api/projects/*","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"projects/*","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"/api/v1/*","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"*","method":"POST"}`, "", "", call, true},
		{"api_call", `{"endpoint":"/projects","method":"POST"}`, "", "", call, false},
		{"api_call", `{"endpoint":"/projects/*","method":"GET"}`, "", "", call, false},
		{"webhook", `{}`, "", "", call, false},
	}
	for _, c := range cases {
		got, err := j.Triggers([]byte(c.config), Event{TriggerType: c.kind, Source: c.source, Name: c.name, Payload: payload(t, c.payload)})
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%s %s on %q %q %s", c.kind, c.config, c.source, c.name, c.payload)
	}
}

func TestCheckPatterns(t *testing.T) {
	t.Parallel()
	for _, fine := range []string{`{}`, `null`, `7`, `{"subjectPattern":7}`, `{"subjectPattern":"("}`, `{"subjectPattern":"/x/","bodyPattern":"/^a.*b$/"}`, `{"subjectPattern":"/"}`,
		`{"subjectPattern":"/` + strings.Repeat("(", 300) + `/"}`} {
		require.NoError(t, CheckPatterns([]byte(fine)), "%.60s", fine)
	}
	require.Equal(t, &Fault{"triggerConfig", "subjectPattern: Invalid regular expression: missing closing )"}, CheckPatterns([]byte(`{"subjectPattern":"/(/"}`)))
	require.Equal(t, &Fault{"triggerConfig", "bodyPattern: Invalid regular expression: invalid escape sequence"}, CheckPatterns([]byte(`{"bodyPattern":"/(a)\\1/"}`)))
}

func TestBarePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/api/v1/projects": "/projects", "/api/projects": "/projects", "/projects": "/projects", "/api/v1": "/v1", "/apix/y": "/apix/y"} {
		require.Equal(t, want, BarePath(path))
	}
	raw, err := json.Marshal("x")
	require.NoError(t, err)
	require.Equal(t, `"x"`, string(raw))
}
