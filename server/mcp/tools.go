package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
	"kijko/worker/token"
)

// slow are the tools that may take many seconds and report progress.
var slow = map[string]bool{"run_skill": true, "summarize_context": true, "ask": true}

// addTool adds a tool. A refusal is its result; run answers with text.
func addTool[In any](f *Feature, name, title, description string, isWrite bool, run func(context.Context, In) (*answer, error)) {
	no := false
	tool := &sdk.Tool{Name: name, Title: title, Description: description,
		Annotations: &sdk.ToolAnnotations{ReadOnlyHint: !isWrite, DestructiveHint: &no, IdempotentHint: !isWrite, OpenWorldHint: &isWrite}}
	sdk.AddTool(f.server, tool, func(ctx context.Context, r *sdk.CallToolRequest, in In) (*sdk.CallToolResult, any, error) {
		if slow[name] {
			defer f.report(ctx, r, title)()
		}
		a, err := run(ctx, in)
		if err != nil {
			return f.refused(ctx, err), nil, nil
		}
		return a.result(), nil, nil
	})
}

// report tells a client that asked for progress that the tool still works, so that it does not give up. stop ends it.
func (f *Feature) report(ctx context.Context, r *sdk.CallToolRequest, title string) (stop func()) {
	id := r.Params.GetProgressToken()
	if id == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	began := time.Now()
	tell := func() {
		seconds := time.Since(began).Seconds()
		_ = r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: id, Progress: seconds, Message: fmt.Sprintf("%s: %.0f s", title, seconds)})
	}
	tell()
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				tell()
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func (f *Feature) addTools() {
	addTool(f, "list_contexts", "List contexts", "Lists the contexts (ingested repositories, packages and files) that the user can see, the last updated first.", false, listContexts)
	addTool(f, "search_code", "Search code", "Full-text search in the files of a context. Finds identifiers by their parts (getUser also finds get_user). All words must occur; "+
		"words in quotation marks must follow each other. Returns places and the matching lines; read on with read_file.", false, searchCode)
	addTool(f, "list_files", "List files", "Lists the files of a context by path, all or those whose path contains a text.", false, listFiles)
	addTool(f, "read_file", "Read a file", "Reads a file of a context, whole or a range of lines. Lines are numbered.", false, readFile)
	addTool(f, "summarize_context", "Summarize a context", "Says what a context is about and names its main parts.", false, summarize)
	addTool(f, "find_symbol", "Find a declaration", "Finds files, classes, functions and variables of a context by a part of their name, most referenced first, with the place of each declaration.", false, findSymbol)
	addTool(f, "walk_graph", "Walk the graph", "Follows the relations of a declaration or file in the knowledge graph: its callers, its callees, what it uses, what uses it, or all neighbors.", false, walkGraph)
	addTool(f, "find_path", "Find a path", "Finds a shortest way between two declarations or files in the knowledge graph, at most six steps.", false, findPath)
	addTool(f, "ask", "Ask about a context", "Asks Kijko's own model a question about a context. It answers from passages of the files and cites them. Question and answer stand in the "+
		"user's chat of the context and cost one question of the plan. search_code and read_file cost less.", true, ask)
	addTool(f, "list_skills", "List skills", "Lists the user's skills (prompts with inputs that run on a model), the latest changed first.", false, listSkills)
	addTool(f, "run_skill", "Run a skill", "Runs a skill with inputs and waits for its output. A run that takes longer goes on; read it with get_run. It costs the user's plan one call.", true, runSkill)
	addTool(f, "get_run", "Get a run", "Reads the state and the output of a run of a skill.", false, getRun)
}

type listContextsIn struct {
	Search string `json:"search,omitempty" jsonschema:"part of the name"`
	bound
}

func listContexts(ctx context.Context, in listContextsIn) (*answer, error) {
	var found []contextItem
	r, err := do(ctx, api.Operation{ID: "listContexts", Query: url.Values{"search": {clip(in.Search, 200)}, "pageSize": {"200"}}}, &found)
	if err != nil {
		return nil, err
	}
	total, _ := strconv.Atoi(r.Header("X-Total-Count"))
	a := newAnswer(in.tokens())
	if len(found) == 0 {
		a.addf("There are no contexts that the user can see%s. The user can ingest one in Kijko.", where(in.Search))
	}
	parts := make([]string, len(found))
	for i, c := range found {
		parts[i] = fmt.Sprintf("%s: %s, %d files, %s, updated %s, id %s", c.Name, c.Type, c.FileCount, c.Status, c.LastUpdated, c.ID)
	}
	a.list(parts, total, "Search by a part of the name to see others.")
	return a, nil
}

func where(search string) string {
	if search == "" {
		return ""
	}
	return fmt.Sprintf(" whose name contains %q", clip(search, 200))
}

type searchCodeIn struct {
	Context string `json:"context" jsonschema:"id or exact name of the context"`
	Query   string `json:"query" jsonschema:"words to find"`
	Limit   int    `json:"limit,omitempty" jsonschema:"most places, 1 to 100; 20 by default"`
	bound
}

func searchCode(ctx context.Context, in searchCodeIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	limit := limited(in.Limit, 20, 100)
	var found []struct {
		Path      string `json:"path"`
		StartLine int    `json:"startLine"`
		EndLine   int    `json:"endLine"`
		Lines     []struct {
			Number int    `json:"number"`
			Text   string `json:"text"`
		} `json:"lines"`
	}
	query := url.Values{"q": {clip(in.Query, 200)}, "limit": {strconv.Itoa(limit)}}
	if _, err := do(ctx, api.Operation{ID: "searchChunks", Path: map[string]string{"contextId": id}, Query: query}, &found); err != nil {
		return nil, err
	}
	a := newAnswer(in.tokens())
	if len(found) == 0 {
		a.addf("Nothing contains all of these words. Try fewer or other words, or find_symbol for a declaration.")
		return a, nil
	}
	parts := make([]string, len(found))
	for i, c := range found {
		var b strings.Builder
		fmt.Fprintf(&b, "%s:%d-%d", c.Path, c.StartLine, c.EndLine)
		for _, l := range c.Lines {
			fmt.Fprintf(&b, "\n%6d\t%s", l.Number, l.Text)
		}
		parts[i] = b.String()
	}
	a.list(parts, len(parts), "Ask with more maxTokens, or with rarer words.")
	if len(found) == limit {
		a.addf("[There may be more than %d places. Use rarer words, or a higher limit.]", limit)
	}
	return a, nil
}

// limited is a given limit within its bounds.
func limited(given, usual, most int) int {
	if given == 0 {
		return usual
	}
	return min(max(given, 1), most)
}

type listFilesIn struct {
	Context string `json:"context" jsonschema:"id or exact name of the context"`
	Search  string `json:"search,omitempty" jsonschema:"part of the path"`
	bound
}

func listFiles(ctx context.Context, in listFilesIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	found, total, err := sources(ctx, id, in.Search, 2000)
	if err != nil {
		return nil, err
	}
	a := newAnswer(in.tokens())
	if total == 0 {
		a.addf("The context has no such files. Without search all of its files are listed.")
	}
	parts := make([]string, len(found))
	for i, s := range found {
		parts[i] = fmt.Sprintf("%s  %d bytes", s.Path, s.Size)
	}
	a.list(parts, total, "Search by a part of the path, such as a folder, to see others.")
	return a, nil
}

type readFileIn struct {
	Context   string `json:"context" jsonschema:"id or exact name of the context"`
	File      string `json:"file" jsonschema:"path of the file as list_files and search_code show it, or its unique end"`
	StartLine int    `json:"startLine,omitempty" jsonschema:"first line, from 1"`
	EndLine   int    `json:"endLine,omitempty" jsonschema:"last line"`
	bound
}

// content returns the text of a file.
func content(ctx context.Context, contextID string, file source) (string, error) {
	r, err := do(ctx, api.Operation{ID: "readContextFile", Path: map[string]string{"contextId": contextID, "fileId": file.ID}}, nil)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(r.Header("Content-Type"), "text/") {
		return "", refusal(file.Path + " is a binary file, which cannot be read as text.")
	}
	return strings.ToValidUTF8(string(r.Body), "\uFFFD"), nil
}

func readFile(ctx context.Context, in readFileIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	file, err := fileOf(ctx, id, in.File)
	if err != nil {
		return nil, err
	}
	text, err := content(ctx, id, file)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	first, last := max(in.StartLine, 1), in.EndLine
	if last == 0 || last > len(lines) {
		last = len(lines)
	}
	if first > len(lines) || last < first {
		return nil, refusal(fmt.Sprintf("%s has %d lines. Ask for lines within them.", file.Path, len(lines)))
	}
	a := newAnswer(in.tokens())
	a.addf("%s, %d lines", file.Path, len(lines))
	for i := first; i <= last; i++ {
		line := fmt.Sprintf("%6d\t%s\n", i, strings.TrimSuffix(lines[i-1], "\r"))
		switch {
		case a.add(line):
			continue
		case i == first:
			a.addf("%s", cut(strings.TrimSuffix(line, "\n"), max(a.left, 100)))
			i++
		}
		if i <= last {
			a.addf("[Lines %d-%d are left out. Read on with startLine %d.]", i, last, i)
		}
		break
	}
	return a, nil
}

type summarizeIn struct {
	Context string `json:"context" jsonschema:"id or exact name of the context"`
}

type contextSummary struct {
	Description   string   `json:"description"`
	KeyComponents []string `json:"keyComponents"`
	Version       int      `json:"version"`
	Stale         bool     `json:"stale"`
}

func (s contextSummary) text() string {
	text := s.Description
	for _, c := range s.KeyComponents {
		text += "\n- " + c
	}
	if s.Stale {
		text += fmt.Sprintf("\n[This describes version %d. The context has changed since; a new summary is being written.]", s.Version)
	}
	return text
}

func summarize(ctx context.Context, in summarizeIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	var s contextSummary
	if _, err := do(ctx, api.Operation{ID: "getSummary", Path: map[string]string{"contextId": id}}, &s); err != nil {
		return nil, err
	}
	a := newAnswer(usualTokens)
	a.add(s.text())
	return a, nil
}

type askIn struct {
	Context  string `json:"context" jsonschema:"id or exact name of the context"`
	Question string `json:"question" jsonschema:"the question, at most 32000 characters; @<file name> points at a file"`
	bound
}

func ask(ctx context.Context, in askIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	var said struct {
		Content string `json:"content"`
		Sources []struct {
			Index     int    `json:"index"`
			Path      string `json:"path"`
			StartLine int    `json:"startLine"`
			EndLine   int    `json:"endLine"`
		} `json:"sources"`
	}
	if _, err := do(ctx, api.Operation{ID: "askContext", Path: map[string]string{"contextId": id}, Body: map[string]any{"message": in.Question}}, &said); err != nil {
		return nil, err
	}
	a := newAnswer(in.tokens())
	var cited strings.Builder
	for _, s := range said.Sources {
		fmt.Fprintf(&cited, "\n[%d] %s:%d-%d", s.Index, s.Path, s.StartLine, s.EndLine)
	}
	// The sources come behind the answer, so they are paid for first.
	a.text.WriteString(bounded(said.Content, max(a.left-token.Count(cited.String()), 100), "Ask a narrower question."))
	a.text.WriteString(cited.String())
	return a, nil
}

type listSkillsIn struct {
	Search string `json:"search,omitempty" jsonschema:"part of name or description"`
	Public bool   `json:"public,omitempty" jsonschema:"also public skills of other people"`
	bound
}

func listSkills(ctx context.Context, in listSkillsIn) (*answer, error) {
	var page skillPage
	query := url.Values{"search": {clip(in.Search, 200)}, "pageSize": {"100"}, "includePublic": {strconv.FormatBool(in.Public)}}
	if _, err := do(ctx, api.Operation{ID: "listSkills", Query: query}, &page); err != nil {
		return nil, err
	}
	a := newAnswer(in.tokens())
	if page.Total == 0 {
		a.addf("There are no skills%s.", where(in.Search))
	}
	parts := make([]string, len(page.Skills))
	for i, s := range page.Skills {
		var b strings.Builder
		b.WriteString(s.Name)
		if s.Description != "" {
			b.WriteString(": " + s.Description)
		}
		if !s.IsActive {
			b.WriteString(" (switched off)")
		}
		fmt.Fprintf(&b, ", id %s", s.ID)
		for _, field := range fields(s) {
			need := "optional"
			if field.Required && field.Default == nil {
				need = "required"
			}
			fmt.Fprintf(&b, "\n  input %s: %s, %s", field.Name, field.Type, need)
			if field.Description != "" {
				b.WriteString(", " + field.Description)
			}
		}
		parts[i] = b.String()
	}
	a.list(parts, page.Total, "Search by a part of the name to see others.")
	return a, nil
}

type runSkillIn struct {
	Skill string         `json:"skill" jsonschema:"id or exact name of the skill"`
	Input map[string]any `json:"input,omitempty" jsonschema:"values of the skill's inputs by name"`
	bound
}

type execution struct {
	ExecutionID  string `json:"executionId"`
	ID           string `json:"id"`
	Status       string `json:"status"`
	Output       string `json:"output"`
	Error        string `json:"error"`
	ErrorMessage string `json:"errorMessage"`
	TokensUsed   int    `json:"tokensUsed"`
	DurationMs   int    `json:"durationMs"`
}

func runSkill(ctx context.Context, in runSkillIn) (*answer, error) {
	id, err := skillID(ctx, in.Skill)
	if err != nil {
		return nil, err
	}
	input := in.Input
	if input == nil {
		input = map[string]any{}
	}
	var e execution
	if _, err := do(ctx, api.Operation{ID: "executeSkill", Path: map[string]string{"skillId": id}, Body: map[string]any{"input": input},
		Header: map[string]string{"Prefer": fmt.Sprintf("wait=%d", int(runWait.Seconds()))}}, &e); err != nil {
		return nil, err
	}
	return told(e.ExecutionID, e, in.tokens())
}

// told says what came of a run. A failed run is a refusal, so that the model does not take its message for an output.
func told(id string, e execution, tokens int) (*answer, error) {
	switch e.Status {
	case "completed":
	case "failed":
		return nil, refusal("The run " + id + " failed: " + e.Error + e.ErrorMessage)
	case "cancelled":
		return nil, refusal("The run " + id + " was cancelled.")
	default:
		a := newAnswer(tokens)
		a.addf("The run %s is %s. Read it later with get_run.", id, e.Status)
		return a, nil
	}
	a := newAnswer(tokens)
	a.addf("The run %s completed in %.1f s with %d tokens. Its output:", id, float64(e.DurationMs)/1000, e.TokensUsed)
	a.text.WriteString(bounded(e.Output, max(a.left, 100), "Read more with get_run and more maxTokens."))
	return a, nil
}

type getRunIn struct {
	Run string `json:"run" jsonschema:"id of the run, as run_skill returned it"`
	bound
}

func getRun(ctx context.Context, in getRunIn) (*answer, error) {
	var e execution
	if _, err := do(ctx, api.Operation{ID: "getExecution", Path: map[string]string{"executionId": in.Run}}, &e); err != nil {
		return nil, err
	}
	return told(e.ID, e, in.tokens())
}

// raw is a JSON value of an argument that came as text: prompts have no other arguments.
func raw(field inputField, text string) any {
	if field.Type == "string" || field.Type == "" {
		return text
	}
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return text // the skill's own check names the fault
	}
	return value
}
