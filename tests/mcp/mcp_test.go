package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
	"kijko/worker/token"
)

// The tests share one server. Those that hold the models or spend limits have people of their own.
func TestMCP(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	t.Run("Tests", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *lab){
			"AnAssistantFollowsACallToItsDefinition": story, "AnAssistantRunsASkill": runsASkill, "AnAssistantAsksAndGetsSources": asks, "ScopesAreThoseOfTheAPI": scopes, "StrangersFindNothing": strangers,
			"RefusalsSayWhatToDo": refusals, "AnswersAreBounded": bounds, "ResourcesAreFilesAndSummaries": resources, "SkillsArePrompts": promptsOfSkills,
			"OlderVersionsAreSpoken": olderVersions, "MalformedRequestsAreProblems": malformed, "ResultsSayWhoMayKeepThem": cacheable,
			"ACallCostsOneUnit": units, "SlowToolsReportProgress": progress, "ACallerThatLeavesFreesItsPlaces": leaving,
			"NothingIsDiscoveredWithoutAnAuthorizationServer": noDiscovery, "AnAssistantReadsAtTheSideOfRESTClients": activity,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t, l) })
		}
	})
}

func story(t *testing.T, l *lab) {
	a := connect(t, l, key(t, l.anna, "read"), nil)
	require.Equal(t, "2026-07-28", a.InitializeResult().ProtocolVersion)
	require.Contains(t, a.InitializeResult().Instructions, "list_contexts")
	tools, err := a.ListTools(t.Context(), nil)
	require.NoError(t, err)
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
		require.NotEmpty(t, tool.Description, tool.Name)
		require.Equal(t, tool.Name != "run_skill" && tool.Name != "ask", tool.Annotations.ReadOnlyHint, tool.Name)
	}
	require.ElementsMatch(t, strings.Fields(`list_contexts search_code list_files read_file summarize_context find_symbol walk_graph find_path ask list_skills run_skill get_run`), names)

	listed := a.call("list_contexts", nil)
	require.Contains(t, listed, "Shop: ")
	require.Equal(t, l.context, id(", id ", listed))

	found := a.call("search_code", map[string]any{"context": "shop", "query": "amount total"})
	require.Contains(t, found, "shop/checkout.go:")
	require.Contains(t, found, "     5\t\tamount := total(items)")

	symbols := a.call("find_symbol", map[string]any{"context": "Shop", "name": "total", "type": "function"})
	require.Regexp(t, `^total \(function\) shop/total\.go:3-8, id \S+, \d+ references$`, symbols)

	callees := a.call("walk_graph", map[string]any{"context": "Shop", "symbol": "checkout", "relation": "callees"})
	require.Contains(t, callees, "checkout (function) shop/checkout.go:3-7")
	require.Contains(t, callees, "-> calls total (function) shop/total.go:3-8")
	require.Contains(t, callees, "-> calls charge (function)")
	require.NotContains(t, callees, "main (function)")
	callers := a.call("walk_graph", map[string]any{"context": "Shop", "symbol": id("id ", symbols), "relation": "callers", "depth": 2})
	require.Contains(t, callers, "step 1, from total: <- calls checkout (function)")
	require.Contains(t, callers, "step 2, from checkout: <- calls main (function)")
	require.NotContains(t, callers, "price")
	require.Contains(t, a.call("walk_graph", map[string]any{"context": "Shop", "symbol": "shop/total.go"}), "contained or containing total (function)")

	way := a.call("find_path", map[string]any{"context": "Shop", "from": "main", "to": "price"})
	require.Regexp(t, `(?s)^main .*calls v\ncheckout .*calls v\ntotal .*calls v\nprice`, way)

	definition := a.call("read_file", map[string]any{"context": "Shop", "file": "total.go", "startLine": 3, "endLine": 8})
	require.True(t, strings.HasPrefix(definition, "shop/total.go, 12 lines\n     3\tfunc total(items []string) (sum int) {\n"), definition)
	require.True(t, strings.HasSuffix(definition, "     8\t}"), definition)

	files := a.call("list_files", map[string]any{"context": "Shop", "search": "basket"})
	require.Equal(t, fmt.Sprintf("shop/basket/new.go  %d bytes", len(shop["shop/basket/new.go"])), files)
	require.NotEmpty(t, a.call("summarize_context", map[string]any{"context": "Shop"}))

	b := connect(t, l, l.ben.Token, nil)
	require.Contains(t, b.call("search_code", map[string]any{"context": l.context, "query": "\"asks for the money\""}), "shop/checkout.go", "Ben reads with his session")
}

func runsASkill(t *testing.T, l *lab) {
	a := connect(t, l, key(t, l.anna, "write"), nil)
	require.Regexp(t, `(?m)^Praise a topic: Says something nice\., id \S+\n  input topic: string, required\n  input times: number, optional$`, a.call("list_skills", nil))
	ran := a.call("run_skill", map[string]any{"skill": "praise a topic", "input": map[string]any{"topic": "tea", "times": 3}})
	require.Regexp(t, `^The run \S+ completed in [\d.]+ s with \d+ tokens\. Its output:\nYou said: Write something nice about tea, 3 times$`, ran)
	again := a.call("get_run", map[string]any{"run": id("The run ", ran)})
	require.Contains(t, again, "You said: Write something nice about tea")
	require.Equal(t, "api", l.anna.In(t).Get("/executions/"+id("The run ", ran)).Want(200).String("executionType"))
	require.Equal(t, "topic is required (INVALID_INPUT)", a.refused("run_skill", map[string]any{"skill": l.skill}))
}

func asks(t *testing.T, l *lab) {
	a := connect(t, l, key(t, l.ben, "write"), nil)
	answer := a.call("ask", map[string]any{"context": "Shop", "question": "Which function asks for the money? @checkout.go"})
	require.Contains(t, answer, "You said: ", "the model answers")
	reader := connect(t, l, key(t, l.ben, "read"), nil)
	require.Contains(t, reader.refused("ask", map[string]any{"context": "Shop", "question": "Who?"}), "INSUFFICIENT_SCOPE")
	require.Contains(t, a.refused("ask", map[string]any{"context": "Shop", "question": ""}), "message")
	require.Contains(t, connect(t, l, l.stan.Token, nil).refused("ask", map[string]any{"context": l.context, "question": "Who?"}), "CONTEXT_NOT_FOUND")
}

func scopes(t *testing.T, l *lab) {
	a := connect(t, l, key(t, l.anna, "read"), nil)
	require.Equal(t, "This API key has scope read, and this needs scope write. Ask the user for an API key with that scope: Settings, Security, API keys. (INSUFFICIENT_SCOPE)",
		a.refused("run_skill", map[string]any{"skill": l.skill, "input": map[string]any{"topic": "tea"}}))
}

func strangers(t *testing.T, l *lab) {
	s := connect(t, l, l.stan.Token, nil)
	require.NotContains(t, s.call("list_contexts", nil), "Shop")
	const words = "This context does not exist. Call list_contexts for those that you can use. (CONTEXT_NOT_FOUND)"
	for _, other := range []string{l.context, uuid.NewString()} {
		for tool, arguments := range map[string]map[string]any{
			"search_code": {"query": "total"}, "list_files": {}, "read_file": {"file": "shop/total.go"}, "find_symbol": {"name": "total"}, "summarize_context": {},
			"walk_graph": {"symbol": "total"}, "find_path": {"from": "main", "to": "total"},
		} {
			arguments["context"] = other
			require.Equal(t, words, s.refused(tool, arguments), tool)
		}
		_, err := s.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "kijko://contexts/" + other + "/files/shop/total.go"})
		require.ErrorContains(t, err, "Resource not found")
	}
	require.Contains(t, s.refused("search_code", map[string]any{"context": "Shop", "query": "total"}), `There is no context named "Shop" that you can see.`)
	require.Contains(t, s.refused("run_skill", map[string]any{"skill": l.skill}), "SKILL_NOT_FOUND")
	require.Contains(t, s.refused("run_skill", map[string]any{"skill": "Praise a topic"}), "There is no skill named")
}

func refusals(t *testing.T, l *lab) {
	a := connect(t, l, l.anna.Token, nil)
	for _, c := range []struct {
		tool, arguments, words string
	}{
		{"search_code", `{"context": "", "query": "x"}`, "context is empty. Call list_contexts"},
		{"search_code", `{"query": "x"}`, `missing properties: ["context"]`},
		{"search_code", `{"context": "Shop", "query": "x", "colour": 1}`, "colour"},
		{"read_file", `{"context": "Shop", "file": "nothing.go"}`, `The context has no file "nothing.go". Call list_files or search_code to find it.`},
		{"read_file", `{"context": "Shop", "file": "o"}`, `The context has no file at exactly "o". Give one of these paths: shop/`},
		{"read_file", `{"context": "Shop", "file": "` + uuid.NewString() + `"}`, "FILE_NOT_FOUND"},
		{"read_file", `{"context": "Shop", "file": "total.go", "startLine": 99}`, "shop/total.go has 12 lines. Ask for lines within them."},
		{"walk_graph", `{"context": "Shop", "symbol": "totals"}`, `The graph has nothing that is called "totals".`},
		{"walk_graph", `{"context": "Shop", "symbol": "tota"}`, `nothing that is called exactly "tota". Give the id of one of these: `},
		{"walk_graph", `{"context": "Shop", "symbol": "total", "relation": "loves"}`, "It is callers, callees, uses, used_by or neighbors."},
		{"walk_graph", `{"context": "Shop", "symbol": "` + uuid.NewString() + `"}`, "NODE_NOT_FOUND"},
		{"find_symbol", `{"context": "Shop", "name": "total", "type": "poem"}`, "VALIDATION_ERROR"},
		{"get_run", `{"run": "` + uuid.NewString() + `"}`, "run_skill returns the id of its run. (EXECUTION_NOT_FOUND)"},
		{"get_run", `{"run": "../x"}`, "EXECUTION_NOT_FOUND"},
	} {
		require.Contains(t, a.refused(c.tool, object(t, c.arguments)), c.words, "%s %s", c.tool, c.arguments)
	}
	require.Contains(t, a.call("search_code", map[string]any{"context": "Shop", "query": "unfindable"}), "Nothing contains all of these words.")
	require.Contains(t, connect(t, l, l.stan.Token, nil).refused("find_symbol", map[string]any{"context": "Secret", "name": "x"}), "has no knowledge graph yet")
	_, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: "delete_everything"})
	require.ErrorContains(t, err, `unknown tool "delete_everything"`)
}

func object(t *testing.T, raw string) (value map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(raw), &value))
	return value
}

func bounds(t *testing.T, l *lab) {
	a := connect(t, l, l.anna.Token, nil)
	for _, c := range []struct {
		tool      string
		arguments map[string]any
		most      int
		note      string
	}{
		{"read_file", map[string]any{"file": "shop/long.py"}, 8000, `\[Lines (\d+)-4000 are left out\. Read on with startLine \d+\.\]$`},
		{"read_file", map[string]any{"file": "shop/long.py", "maxTokens": 500, "startLine": 3000}, 500, `^shop/long\.py, 4000 lines\n  3000\t(?s:.*)-4000 are left out`},
		{"read_file", map[string]any{"file": "shop/long_line.py", "maxTokens": 1000}, 1000, `\[cut\]$`},
		{"read_file", map[string]any{"file": "shop/long.py", "maxTokens": 1_000_000}, 20_000, `are left out`},
		{"search_code", map[string]any{"query": "patience", "maxTokens": 100}, 100, `\d of \d+ shown`},
		{"list_files", map[string]any{"maxTokens": 20}, 100, ``},
	} {
		c.arguments["context"] = "Shop"
		answer := a.call(c.tool, c.arguments)
		// A note comes behind the bound.
		require.LessOrEqual(t, token.Count(answer), c.most+60, "%s %v", c.tool, c.arguments)
		require.Regexp(t, c.note, answer, "%s %v", c.tool, c.arguments)
	}
	on := a.call("read_file", map[string]any{"context": "Shop", "file": "shop/long.py", "startLine": 3999})
	require.Equal(t, 3, len(strings.Split(on, "\n")), "the last lines are whole: %s", on)
}

func resources(t *testing.T, l *lab) {
	a := connect(t, l, key(t, l.anna, "read"), nil)
	list, err := a.ListResources(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, list.Resources, 1)
	require.Equal(t, []string{"kijko://contexts/" + l.context + "/summary", "Shop", "text/markdown"},
		[]string{list.Resources[0].URI, list.Resources[0].Name, list.Resources[0].MIMEType})
	templates, err := a.ListResourceTemplates(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, templates.ResourceTemplates, 2)
	read := func(uri string) string {
		r, err := a.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
		require.NoError(t, err, uri)
		require.Equal(t, "private", r.CacheScope)
		require.Len(t, r.Contents, 1)
		return r.Contents[0].Text
	}
	require.NotEmpty(t, read(list.Resources[0].URI))
	files := "kijko://contexts/" + l.context + "/files/"
	require.Equal(t, shop["shop/total.go"], read(files+"shop/total.go"))
	require.Equal(t, shop["shop/a guide.py"], read(files+"shop/a%20guide.py"))
	require.Contains(t, read(files+"shop/long.py"), "[The rest is left out. The tool read_file reads a range of lines.]")
	for _, uri := range []string{files + "nothing.go", "kijko://contexts/" + uuid.NewString() + "/summary", "kijko://contexts/x/summary", "file:///etc/passwd"} {
		_, err := a.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri})
		require.ErrorContains(t, err, "Resource not found", uri)
	}
	complete := func(name, value string) []string {
		r, err := a.Complete(t.Context(), &sdk.CompleteParams{Ref: &sdk.CompleteReference{Type: "ref/resource", URI: "kijko://contexts/{contextId}/files/{+path}"},
			Argument: sdk.CompleteParamsArgument{Name: name, Value: value}, Context: &sdk.CompleteContext{Arguments: map[string]string{"contextId": l.context}}})
		require.NoError(t, err)
		return r.Completion.Values
	}
	require.Equal(t, []string{l.context}, complete("contextId", "sho"))
	require.Equal(t, []string{"shop/total.go"}, complete("path", "TOTAL"))
}

func promptsOfSkills(t *testing.T, l *lab) {
	p := l.SignUp("Petra")
	for _, name := range []string{"Twin", "twin!"} {
		p.In(t).Do("POST", "/skills", map[string]any{"name": name, "promptTemplate": "Say {{ what }} to the " + name + ", please"}).Want(201)
	}
	list := p.In(t).Do("POST", "/skills", map[string]any{"name": "Sum up", "promptTemplate": "Sum up {{list}} in {{words}} words", "inputSchema": []any{
		map[string]any{"name": "list", "type": "array", "required": true}, map[string]any{"name": "words", "type": "number", "default": 50}}}).Want(201).String("id")
	a := connect(t, l, key(t, p, "read"), nil)
	found, err := a.ListPrompts(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "private", found.CacheScope)
	by := map[string]*sdk.Prompt{}
	for _, prompt := range found.Prompts {
		by[prompt.Name] = prompt
	}
	require.Len(t, by, 3)
	require.Equal(t, "Sum up", by["sum-up"].Title)
	require.True(t, by["sum-up"].Arguments[0].Required)
	require.False(t, by["sum-up"].Arguments[1].Required)
	require.Nil(t, by["twin"], "two skills of one name have their ids behind it")
	get := func(name string, arguments map[string]string) (string, error) {
		r, err := a.GetPrompt(t.Context(), &sdk.GetPromptParams{Name: name, Arguments: arguments})
		if err != nil {
			return "", err
		}
		return r.Messages[0].Content.(*sdk.TextContent).Text, nil
	}
	filled, err := get("sum-up", map[string]string{"list": `["a", 1]`})
	require.NoError(t, err)
	require.Equal(t, `Sum up ["a",1] in 50 words`, filled)
	_, err = get("sum-up", map[string]string{"list": "no list"})
	require.ErrorContains(t, err, "list must be an array")
	_, err = get("sum-up", nil)
	require.ErrorContains(t, err, "list is required")
	_, err = get("praise-a-topic", nil)
	require.ErrorContains(t, err, "There is no prompt of this name", "Anna's skills are Anna's")
	p.In(t).Do("PATCH", "/skills/"+list, map[string]any{"isActive": false}).Want(200)
	_, err = get("sum-up", nil)
	require.ErrorContains(t, err, "There is no prompt of this name", "a skill that is off is no prompt")
}

func olderVersions(t *testing.T, l *lab) {
	const hello = `{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": %q, "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}}`
	for _, version := range []string{"2025-11-25", "2025-06-18", "2025-03-26"} {
		answer, body := say(t, l, l.anna.Token, fmt.Sprintf(hello, version))
		require.Equal(t, 200, answer.StatusCode)
		require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
		require.Empty(t, answer.Header.Get("Mcp-Session-Id"))
		result := body["result"].(map[string]any)
		require.Equal(t, version, result["protocolVersion"])
		require.Equal(t, map[string]any{"tools": map[string]any{}, "resources": map[string]any{}, "prompts": map[string]any{}, "completions": map[string]any{}}, result["capabilities"])
		answer, _ = say(t, l, l.anna.Token, `{"jsonrpc": "2.0", "method": "notifications/initialized"}`, "Mcp-Protocol-Version", version)
		require.Equal(t, 202, answer.StatusCode)
		_, body = say(t, l, l.anna.Token, toolCall(2, "list_contexts", nil), "Mcp-Protocol-Version", version)
		require.Contains(t, fmt.Sprint(body["result"]), "Shop")
	}
	_, raw, err := post(t.Context(), l, l.anna.Token, "["+toolCall(1, "list_contexts", nil)+","+toolCall(2, "list_skills", nil)+"]", "Mcp-Protocol-Version", "2025-03-26")
	require.NoError(t, err)
	var batch []map[string]any
	require.NoError(t, json.Unmarshal(raw, &batch), "%s", raw)
	require.Len(t, batch, 2)
	for _, address := range []string{"/api/mcp", "/api/v1/mcp"} {
		l.anna.In(t).Do("POST", "/"+address, fmt.Sprintf(hello, "2025-06-18")).Want(200)
	}
}

func malformed(t *testing.T, l *lab) {
	list := `{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}`
	for _, c := range []struct {
		name, token, body string
		header            []string
		status            int
		code              string
	}{
		{"NoCredential", "", list, nil, 401, "UNAUTHENTICATED"},
		{"UnknownKey", "kijko_live_" + strings.Repeat("0", 48), list, nil, 401, "API_KEY_INVALID"},
		{"NoJSON", l.anna.Token, "hello", nil, 400, "VALIDATION_ERROR"},
		{"NoMessage", l.anna.Token, `{"id": 1}`, nil, 400, "VALIDATION_ERROR"},
		{"UnknownMethod", l.anna.Token, `{"jsonrpc": "2.0", "id": 1, "method": "tools/delete"}`, nil, 400, "BAD_REQUEST"},
		{"UnknownVersion", l.anna.Token, list, []string{"Mcp-Protocol-Version", "1999-01-01"}, 400, "BAD_REQUEST"},
		{"JSONAlone", l.anna.Token, list, []string{"Accept", "text/html"}, 400, "BAD_REQUEST"},
		{"ElevenMessages", l.anna.Token, "[" + strings.Repeat(list+",", 10) + list + "]", []string{"Mcp-Protocol-Version", "2025-03-26"}, 400, "VALIDATION_ERROR"},
		{"AForeignPage", l.anna.Token, list, []string{"Origin", "https://evil.example"}, 403, "FORBIDDEN"},
		{"TooLarge", l.anna.Token, `{"jsonrpc": "2.0", "id": 1, "method": "` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, "PAYLOAD_TOO_LARGE"},
	} {
		answer, body := say(t, l, c.token, c.body, c.header...)
		require.Equal(t, c.status, answer.StatusCode, "%s: %v", c.name, body)
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), c.name)
		require.Equal(t, c.code, body["code"], "%s: %v", c.name, body)
		require.NotEmpty(t, answer.Header.Get("X-Request-Id"), c.name)
	}
	answer, _ := say(t, l, l.anna.Token, list, "Origin", "http://localhost:3000")
	require.Equal(t, 200, answer.StatusCode, "a configured page may call")
	answer, body := say(t, l, l.anna.Token, list, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list")
	require.Equal(t, 400, answer.StatusCode, "the newest version needs its metadata")
	require.NotNil(t, body["error"])
	for _, method := range []string{"GET", "DELETE"} {
		r := l.anna.In(t).Do(method, "//mcp", nil).Problem(405, "METHOD_NOT_ALLOWED")
		require.Equal(t, "POST", r.Header.Get("Allow"))
	}
}

func cacheable(t *testing.T, l *lab) {
	ask := func(method, params string) map[string]any {
		body := `{"jsonrpc": "2.0", "id": 1, "method": "` + method + `", "params": {` + params + `"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
			"io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}}}}`
		answer, value := say(t, l, l.anna.Token, body, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", nameIn(params))
		require.Equal(t, 200, answer.StatusCode, "%v", value)
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
		return value["result"].(map[string]any)
	}
	for method, scope := range map[string]string{"tools/list": "public", "prompts/list": "private", "resources/list": "private", "server/discover": "private"} {
		result := ask(method, "")
		require.Equal(t, scope, result["cacheScope"], method)
		require.Equal(t, "complete", result["resultType"], method)
	}
	for method, params := range map[string]string{
		"tools/call": `"name": "list_contexts", `, "prompts/get": `"name": "praise-a-topic", "arguments": {"topic": "tea"}, `, "resources/read": `"uri": "kijko://contexts/` + l.context + `/summary", `,
	} {
		require.Equal(t, "complete", ask(method, params)["resultType"], "%s: clients of other languages refuse a result without its type", method)
	}
}

// nameIn is what a message names: its header repeats it.
func nameIn(params string) string {
	if parts := strings.Split(params, `"`); len(parts) > 3 {
		return parts[3]
	}
	return ""
}

func units(t *testing.T, l *lab) {
	p := l.SignUp("Una")
	id := p.In(t).Do("POST", "/projects", map[string]any{"name": "Counted"}).Want(201).String("project.id")
	credential := key(t, p, "read")
	a := connect(t, l, credential, nil)
	_, err := a.ListTools(t.Context(), nil)
	require.NoError(t, err)
	a.call("list_files", map[string]any{"context": "Counted"}) // by name: two operations
	a.call("list_files", map[string]any{"context": id})
	a.refused("read_file", map[string]any{"context": "Counted", "file": "none"})
	stack.Eventually(t, "the units of three calls", func() bool {
		return testdb.Value[bool](l.DB, "select not exists (select from private.unit_leases where organization_id = $1)", p.OrgID) &&
			testdb.Value[int](l.DB, "select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))", p.OrgID) == 3
	})
	// Requests: discovery, the list of tools, three calls.
	stack.Eventually(t, "the uses of the key", func() bool {
		return testdb.Value[int](l.DB, "select usage_count::int from public.api_keys where key_hash = sha256($1::text::bytea)", credential) == 5
	})
}

// held makes the model wait until release is called.
func held(t *testing.T, l *lab, topic string) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	var once sync.Once
	release = func() { once.Do(func() { close(gate) }) }
	t.Cleanup(release)
	l.hold(topic, gate)
	return release
}

func progress(t *testing.T, l *lab) {
	p := l.SignUp("Pia")
	skill := p.In(t).Do("POST", "/skills", map[string]any{"name": "Slow", "promptTemplate": "Take your time about {{topic}}"}).Want(201).String("id")
	release := held(t, l, "progress")
	heard := make(chan *sdk.ProgressNotificationParams, 100)
	a := connect(t, l, p.Token, &sdk.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { heard <- r.Params }})
	done := make(chan string, 1)
	go func() {
		params := &sdk.CallToolParams{Name: "run_skill", Arguments: map[string]any{"skill": skill, "input": map[string]any{"topic": "progress"}}}
		params.SetProgressToken("mine")
		r, err := a.CallTool(t.Context(), params)
		if err != nil {
			done <- err.Error()
			return
		}
		done <- text(r)
	}()
	select {
	case first := <-heard:
		require.Equal(t, "mine", first.ProgressToken)
		require.Equal(t, "Run a skill: 0 s", first.Message)
	case early := <-done:
		t.Fatalf("the result came before any progress: %s", early)
	}
	release()
	require.Contains(t, <-done, "You said: Take your time about progress")
}

func leaving(t *testing.T, l *lab) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		p := l.SignUp("Lea")
		skill := p.In(t).Do("POST", "/skills", map[string]any{"name": "Slow", "promptTemplate": "Take your time about {{topic}}"}).Want(201).String("id")
		release := held(t, l, "leaving "+version)
		ctx, leave := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		message := toolCall(1, "run_skill", map[string]any{"skill": skill, "input": map[string]any{"topic": "leaving " + version}})
		header := []string{"Mcp-Protocol-Version", version}
		if version == "2026-07-28" {
			message = strings.Replace(message, `"params":{`, `"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}},`, 1)
			header = append(header, "Mcp-Method", "tools/call", "Mcp-Name", "run_skill")
		}
		for range 16 {
			calls.Go(func() {
				// The call that looks takes a place now and then.
				for refused := true; refused; {
					_, answer, err := post(ctx, l, p.Token, message, header...)
					refused = err == nil && strings.Contains(string(answer), "are in progress")
				}
			})
		}
		full := func() bool {
			_, body := say(t, l, p.Token, toolCall(2, "list_contexts", nil))
			fault, isFault := body["error"].(map[string]any)
			return isFault && strings.Contains(fmt.Sprint(fault["message"]), "16 calls are in progress")
		}
		stack.Eventually(t, "sixteen calls in progress", full)
		leave()
		calls.Wait()
		stack.Eventually(t, "their places", func() bool { return !full() })
		release()
	}
}

// Where no authorization server is configured, clients must bring a key and find no metadata.
func noDiscovery(t *testing.T, l *lab) {
	answer, _ := say(t, l, "", `{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}`)
	require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"))
	l.In(t).Get("//.well-known/oauth-protected-resource").Problem(404, "NOT_FOUND")
}

func activity(t *testing.T, l *lab) {
	connect(t, l, l.ben.Token, nil).call("read_file", map[string]any{"context": "Shop", "file": "shop/main.go"})
	stack.Eventually(t, "Ben's view in the log", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from public.project_activity where project_id = $1 and user_id = $2 and type = 'view')", l.context, l.ben.ID)
	})
}

func TestClientsDiscoverWhoSignsPeopleIn(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.KeycloakURL, c.APIURL = "https://id.example.com", "https://api.example.com" })
	l := &lab{Stack: s}
	for _, address := range []string{"/mcp", "/api/mcp", "/api/v1/mcp"} {
		r := s.As("").Do("POST", "/"+address, `{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}`).Problem(401, "UNAUTHENTICATED")
		require.Equal(t, `Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource`+address+`"`, r.Header.Get("WWW-Authenticate"))
		r = s.Get("//.well-known/oauth-protected-resource" + address).Want(200)
		require.Equal(t, "https://api.example.com"+address, r.String("resource"))
		require.Equal(t, []any{"https://id.example.com/realms/kijko"}, r.Value("authorization_servers"))
		require.Equal(t, "*", r.Header.Get("Access-Control-Allow-Origin"))
	}
	require.Equal(t, "https://api.example.com/mcp", s.Get("//.well-known/oauth-protected-resource").Want(200).String("resource"))
	require.Equal(t, "Bearer", l.As("").Get("/auth/me").Problem(401, "UNAUTHENTICATED").Header.Get("WWW-Authenticate"), "other routes have no such server")
}

// hold makes calls about a topic wait for a gate; others are answered at once.
func (l *lab) hold(topic string, gate <-chan struct{}) {
	l.gates.Store(topic, gate)
	l.models.Always(func(c llmtest.Call) llmtest.Reply {
		l.gates.Range(func(topic, gate any) bool {
			if strings.Contains(c.Text, topic.(string)) {
				select {
				case <-gate.(<-chan struct{}):
				case <-time.After(time.Minute):
				}
			}
			return true
		})
		return llmtest.Answer("You ", "said: ", c.Text)
	})
}

// The limit of a person's calls counts messages: the operations behind them are not counted again.
func TestMessagesAreRateLimitedAsCalls(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.PerCaller = 30 })
	l := &lab{Stack: s}
	p := s.SignUp("Rolf") // one call
	for i := range 100 {
		answer, body := say(t, l, p.Token, toolCall(1, "list_contexts", nil))
		if answer.StatusCode == http.StatusTooManyRequests {
			require.GreaterOrEqual(t, i, 29)
			require.Equal(t, "RATE_LIMITED", body["code"])
			require.NotEmpty(t, answer.Header.Get("Retry-After"))
			return
		}
		require.Equal(t, 200, answer.StatusCode, "%v", body)
	}
	t.Fatal("100 calls were not limited")
}
