package exactjson_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/exactjson"
)

type inner struct {
	A int             `json:"a"`
	B *string         `json:"b"`
	C json.RawMessage `json:"c"`
}

type outer struct {
	Name  string  `json:"name"`
	Inner inner   `json:"inner"`
	List  []inner `json:"list"`
	Plain string
}

func TestNamesAreComparedExactly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]outer{
		`{"name": "a", "Name": "b", "NAME": 7}`:                             {Name: "a"},
		`{"Name": "b"}`:                                                     {},
		`{"inner": {"a": 1, "A": 2}, "Inner": {"a": 3}}`:                    {Inner: inner{A: 1}},
		`{"list": [{"a": 1, "A": "x"}]}`:                                    {List: []inner{{A: 1}}},
		`{"plain": "a", "Plain": "b"}`:                                      {Plain: "b"},
		`{"n\u0061me": "a"}`:                                                {Name: "a"},
		`{"name": null, "inner": {"a": null, "b": null, "c": null}}`:        {Inner: inner{C: json.RawMessage("null")}},
		`{"name": "a", "name": "b"}`:                                        {Name: "b"},
		`{"name": 7, "name": "b"}`:                                          {Name: "b"},
		`{"inner": {"a": 1, "c": [1]}, "inner": {"c": 2}}`:                  {Inner: inner{C: json.RawMessage("2")}},
		`{"list": [{"a": 1}, {"a": 2}], "list": [{"c": 1e400}]}`:            {List: []inner{{C: json.RawMessage("1e400")}}},
		`{"name": "<&>", "n\u0061me": "<\u00e9>", "inner": {"c": {"x":1}}}`: {Name: "<é>", Inner: inner{C: json.RawMessage(`{"x":1}`)}},
	} {
		var got outer
		require.NoError(t, exactjson.Unmarshal([]byte(text), &got), text)
		require.Equal(t, want, got, text)
	}
	var got outer
	for _, text := range []string{``, `{`, `{"name": 7}`, `{"name": "a"} x`, `{"name": "a", "name": "b"} x`, `{"list": [{"a": "x"}]}`, `{"a": 1, "a": }`} {
		require.Error(t, exactjson.Unmarshal([]byte(text), &got), text)
	}
}

func TestTheRestIsAsInTheStandardLibrary(t *testing.T) {
	t.Parallel()
	type all struct {
		At    time.Time       `json:"at"`
		ID    uuid.UUID       `json:"id"`
		Bytes []byte          `json:"bytes"`
		Any   any             `json:"any"`
		Map   map[string]int  `json:"map"`
		Wait  time.Duration   `json:"wait"`
		Raw   json.RawMessage `json:"raw"`
		inner
	}
	for _, text := range []string{
		`{"at": "2026-11-30T10:00:00.123Z", "id": "5b9bd4a9-3b0d-4e1c-8f6e-0a1b2c3d4e5f", "bytes": "aGFsbG8=", "any": [1, {"a": null}], "wait": 5}`,
		`{"map": {"A": 1, "a": 2}, "raw": {"Z": 1}, "a": 1, "b": "x"}`,
		`{"map": null, "any": null, "at": null, "bytes": null}`,
		"{\"b\": \"\xff\", \"any\": \"\\ud800\"}",
	} {
		var want, got all
		require.NoError(t, json.Unmarshal([]byte(text), &want), text)
		require.NoError(t, exactjson.Unmarshal([]byte(text), &got), text)
		require.Equal(t, want, got, text)
	}
}

func TestUnique(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"a": 1.0,  "b": [1, {}]}`:                             `{"a": 1.0,  "b": [1, {}]}`,
		`{"a": {"b": 1}, "a": {"c": 9007199254740993}}`:         `{"a":{"c":9007199254740993}}`,
		`[{"a": 1, "\u0061": 1e2}]`:                             `[{"a":1e2}]`,
		`{"x": "<&>\u2028", "y": {"d": 1, "d": "é"}, "x": "<"}`: `{"x":"<","y":{"d":"é"}}`,
	} {
		got, err := exactjson.Unique([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, string(got))
	}
	_, err := exactjson.Unique([]byte(`{"a": 1, "a": `))
	require.Error(t, err)
}

// own lists the files that read JSON with encoding/json itself, because none of that JSON comes from a caller. The entry of a new file
// says what it reads. JSON from callers goes through this package (in handlers: Call.Decode). Answers of the database and arguments of
// jobs always have exact names.
var own = map[string]string{
	"server/analytics/analytics.go":     "the list that events are, each as it came",
	"server/api/exec.go":                "headers that a function of the database has set",
	"server/api/inside.go":              "answers of this program",
	"server/api/problem.go":             "refusals of the database",
	"server/auth/claims.go":             "claims, into a map",
	"server/auth/remotekeys.go":         "the keys of an identity provider",
	"server/chat/answer.go":             "answers of the database",
	"server/chat/chat.go":               "answers of the database",
	"server/connections/consent.go":     "a state that this server sealed",
	"server/contexts/diff.go":           "answers of the database",
	"server/contexts/sources.go":        "answers of the database",
	"server/executions/run.go":          "answers of the database",
	"server/executions/wait.go":         "events of the database",
	"server/exports/exports.go":         "answers of the database",
	"server/graph/draw.go":              "answers of the database",
	"server/graph/feature.go":           "answers of the database",
	"server/hypervisa/sessions.go":      "answers of the database",
	"server/identity/answer.go":         "refusals of the database",
	"server/identity/secondfactor.go":   "refusals of the database",
	"server/integrations/connect.go":    "a state that this server sealed",
	"server/integrations/connectors.go": "headers that this server sealed",
	"server/keys/create.go":             "answers of the database",
	"server/keys/keys.go":               "answers of the database",
	"server/keys/units.go":              "answers of the database",
	"server/mcp/tools.go":               "a value of any type",
	"server/openapi/doc.go":             "the document of this program",
	"server/openapi/validate.go":        "answers of this program",
	"server/profile/profile.go":         "answers of the database",
	"server/projects/content.go":        "answers of the database",
	"server/realtime/action.go":         "frames, into a map of their members",
	"server/realtime/arrive.go":         "answers of the database",
	"server/realtime/ask.go":            "refusals of the database",
	"server/realtime/decide.go":         "events of the database",
	"server/realtime/event.go":          "events of the database",
	"server/realtime/hub.go":            "events of the database",
	"server/realtime/store.go":          "answers and refusals of the database",
	"server/realtime/watch.go":          "events of the database",
	"server/reflexes/watch.go":          "a body without a form of its own, into a map",
	"server/retrieval/retrieval.go":     "answers of the database",
	"server/security/codes.go":          "codes that this server sealed",
	"server/security/compliance.go":     "answers of the database",
	"server/security/secondfactor.go":   "answers of the database",
	"server/socketio/packet.go":         "the list that a packet is, and texts",
	"server/socketio/place.go":          "frames of this program",
	"worker/audit/pdf.go":               "answers of the database",
	"worker/compression/compression.go": "answers of the database",
	"worker/connections/call.go":        "answers of Git providers",
	"worker/connections/hook.go":        "answers of Git providers",
	"worker/connections/keeper.go":      "tokens that this program sealed",
	"worker/cxdb/cxdb.go":               "answers of cxdb and of the database",
	"worker/dataexports/dataexports.go": "answers of the database",
	"worker/exactjson/exactjson.go":     "the way itself",
	"worker/gitfetch/fetch.go":          "a file of this program",
	"worker/ingestion/chunk/custom.go":  "answers of a chunker",
	"worker/ingestion/engine.go":        "arguments of jobs",
	"worker/ingestion/spill/codec.go":   "files of this program",
	"worker/ingestion/task.go":          "answers of the database",
	"worker/ingestion/workdir.go":       "a file of this program",
	"worker/integrations/engine.go":     "answers of the database, and tokens that this program sealed",
	"worker/integrations/oauth.go":      "answers of providers, into a map",
	"worker/jobs/pushes.go":             "arguments of jobs",
	"worker/jobs/reflexes.go":           "answers of the database",
	"worker/keycloak/keycloak.go":       "users of Keycloak, into a map",
	"worker/lightning/lightning.go":     "answers of Agent-Lightning and of the database",
	"worker/llm/failure.go":             "whether an answer of a provider is whole",
	"worker/llm/prices.go":              "answers of the database",
	"worker/llm/proposal.go":            "the example that a system prompt shows, into a map",
	"worker/outbox/outbox.go":           "answers of the database",
	"worker/pushes/pushes.go":           "answers of the database, and arguments of jobs",
	"worker/registry/engine.go":         "answers of the database, and headers that this program sealed",
	"worker/registry/sync.go":           "answers of the registry",
	"worker/telemetry/langfuse.go":      "attributes of this program",
	"server/billing/payments.go":        "answers of the database and of Stripe",
	"worker/app/app.go":                 "answers of the database",
	"worker/billing/driver.go":          "answers of the database and of Stripe",
	"worker/stripe/stripe.go":           "requests that the database planned",
	"worker/vies/vies.go":               "answers of VIES",
	"worker/zulip/zulip.go":             "answers of Zulip and of the database",
}

// isOurs reports the expressions that hold JSON of our own in every package.
func isOurs(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := s.X.(*ast.Ident)
	return ok && (s.Sel.Name == "Body" && (of.Name == "answer" || of.Name == "reply" || of.Name == "got") || s.Sel.Name == "Args" && of.Name == "job")
}

// isRequest finds a caller's request in an expression.
func isRequest(e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			of, ok := s.X.(*ast.Ident)
			found = found || ok && (of.Name == "c" || of.Name == "call") && (s.Sel.Name == "Body" || s.Sel.Name == "Params")
		}
		return true
	})
	return found
}

// If a handler decoded a body by itself, the body would be checked under one set of names and read under another.
func TestWhatCallersSendIsReadExactly(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, folder := range []string{"server", "worker"} {
		err := filepath.WalkDir(filepath.Join("../..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "test/") {
				return err
			}
			name, err := filepath.Rel("../..", path)
			require.NoError(t, err)
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, 0)
			require.NoError(t, err)
			standard := ""
			for _, one := range file.Imports {
				if text, _ := strconv.Unquote(one.Path.Value); text == "encoding/json" {
					if standard = "json"; one.Name != nil {
						standard = one.Name.Name
					}
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if of, ok := f.X.(*ast.Ident); !ok || standard == "" || of.Name != standard || f.Sel.Name != "Unmarshal" && f.Sel.Name != "NewDecoder" {
					return true
				}
				if isOurs(call.Args[0]) {
					return true
				}
				used[name] = true
				if own[name] == "" || isRequest(call.Args[0]) {
					t.Errorf("%s reads JSON with encoding/json: use Call.Decode or exactjson, or say in this test what it reads", files.Position(call.Pos()))
				}
				return true
			})
			return nil
		})
		require.NoError(t, err)
	}
	for name := range own {
		require.True(t, used[name], "%s reads no JSON with encoding/json any more; strike it off the list", name)
	}
}

func TestIsText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"a": "\u00e9\ud83d\ude00\u0000", "a": 1e400}`: true,
		`{"a": "\ud800"}`:       false,
		`{"a": "\udc00\ud800"}`: false,
		`{"\ud800": 1}`:         false,
		`{"a": "\\ud800"}`:      true,
		"\"\xff\"":              false,
		"\"\xed\xa0\x80\"":      false,
		`{`:                     false,
	} {
		require.Equal(t, want, exactjson.IsText([]byte(text)), text)
	}
}
