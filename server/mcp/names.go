package mcp

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"kijko/server/api"
)

// Models name things as people do. An id is taken as it is; a name must mean one thing, else the refusal lists what it may mean.

// mostNamed bounds the candidates that a refusal lists.
const mostNamed = 10

type contextItem struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	FileCount   int64  `json:"fileCount"`
	LastUpdated string `json:"lastUpdated"`
	Status      string `json:"status"`
}

func isID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == 36
}

// contextID returns the id of a context by its id or name.
func contextID(ctx context.Context, name string) (string, error) {
	if isID(name) {
		return name, nil
	}
	if strings.TrimSpace(name) == "" {
		return "", refusal("context is empty. Call list_contexts, and give the id or the name of one.")
	}
	var found []contextItem
	query := url.Values{"search": {clip(name, 200)}, "pageSize": {"200"}}
	if _, err := do(ctx, api.Operation{ID: "listContexts", Query: query}, &found); err != nil {
		return "", err
	}
	var same, named []string
	for _, c := range found {
		if strings.EqualFold(c.Name, name) {
			same = append(same, c.ID)
			named = append(named, c.Name+" ("+c.ID+")")
		}
	}
	switch len(same) {
	case 0:
		return "", refusal(fmt.Sprintf("There is no context named %q that you can see. Call list_contexts for those that you can use.", clip(name, 200)))
	case 1:
		return same[0], nil
	}
	return "", refusal("Several contexts have this name. Give the id of one: " + some(named) + ".")
}

type source struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// sources lists files of a context by a part of their paths.
func sources(ctx context.Context, contextID, search string, limit int) (found []source, total int, err error) {
	// The last part of a long path is the more telling one.
	if letters := []rune(search); len(letters) > 200 {
		search = string(letters[len(letters)-200:])
	}
	r, err := do(ctx, api.Operation{ID: "listSources", Path: map[string]string{"contextId": contextID},
		Query: url.Values{"search": {search}, "limit": {strconv.Itoa(limit)}}}, &found)
	if err != nil {
		return nil, 0, err
	}
	total, err = strconv.Atoi(r.Header("X-Total-Count"))
	return found, total, err
}

// fileOf returns the file that a path, the end of a path, or an id names.
func fileOf(ctx context.Context, contextID, name string) (source, error) {
	if isID(name) {
		return source{ID: name, Path: name}, nil
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "./"), "/")
	if name == "" {
		return source{}, refusal("file is empty. Call list_files, and give the path of one.")
	}
	found, total, err := sources(ctx, contextID, name, 200)
	if err != nil {
		return source{}, err
	}
	var ends []source
	var named []string
	for _, s := range found {
		switch {
		case s.Path == name:
			return s, nil
		case strings.HasSuffix(s.Path, "/"+name):
			ends = append(ends, s)
		}
		named = append(named, s.Path)
	}
	if len(ends) == 1 && total <= len(found) {
		return ends[0], nil
	}
	if len(named) == 0 {
		return source{}, refusal(fmt.Sprintf("The context has no file %q. Call list_files or search_code to find it.", clip(name, 200)))
	}
	return source{}, refusal(fmt.Sprintf("The context has no file at exactly %q. Give one of these paths: %s.", clip(name, 200), some(named)))
}

type node struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	References int64  `json:"references"`
	Path       string `json:"path"`
	StartLine  int    `json:"startLine"`
	EndLine    int    `json:"endLine"`
}

// place is where a node is declared, as an editor opens it.
func (n node) place() string {
	if n.Path == "" {
		return "outside of the context"
	}
	if n.StartLine == 0 {
		return n.Path
	}
	return fmt.Sprintf("%s:%d-%d", n.Path, n.StartLine, n.EndLine)
}

func (n node) String() string {
	return fmt.Sprintf("%s (%s) %s, id %s", n.Name, n.Type, n.place(), n.ID)
}

type link struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Type   string `json:"type"`
	Count  int    `json:"count"`
}

type graph struct {
	Nodes []node `json:"nodes"`
	Links []link `json:"links"`
	Meta  struct {
		TotalNodes int   `json:"totalNodes"`
		Generation int64 `json:"generation"`
	} `json:"meta"`
}

const noGraph = "This context has no knowledge graph yet. The user can build it in Kijko, under Enrichments. Until then use search_code."

// nodesNamed lists nodes whose name contains a text.
func nodesNamed(ctx context.Context, contextID string, query url.Values) (graph, error) {
	var g graph
	if _, err := do(ctx, api.Operation{ID: "getKnowledgeGraph", Path: map[string]string{"contextId": contextID}, Query: query}, &g); err != nil {
		return g, err
	}
	if g.Meta.Generation == 0 {
		return g, refusal(noGraph)
	}
	return g, nil
}

// nodeID returns the node that a name, `Class.method` or its last part, a path or an id means.
func nodeID(ctx context.Context, contextID, name string) (string, error) {
	if isID(name) {
		return name, nil
	}
	if strings.TrimSpace(name) == "" {
		return "", refusal("symbol is empty. Give a name, or an id that find_symbol returned.")
	}
	g, err := nodesNamed(ctx, contextID, url.Values{"search": {clip(name, 200)}, "limit": {"500"}})
	if err != nil {
		return "", err
	}
	var exact, ends, named []node
	for _, n := range g.Nodes {
		switch {
		case n.Name == name:
			exact = append(exact, n)
		case strings.HasSuffix(n.Name, "."+name) || strings.HasSuffix(n.Name, "/"+name):
			ends = append(ends, n)
		}
		named = append(named, n)
	}
	for _, candidates := range [][]node{exact, ends} {
		switch len(candidates) {
		case 0:
			continue
		case 1:
			return candidates[0].ID, nil
		}
		return "", refusal(fmt.Sprintf("%d declarations are called %q. Give the id of one: %s.", len(candidates), clip(name, 200), some(texts(candidates))))
	}
	if len(named) == 0 {
		return "", refusal(fmt.Sprintf("The graph has nothing that is called %q. Try a part of the name with find_symbol, or search_code.", clip(name, 200)))
	}
	return "", refusal(fmt.Sprintf("The graph has nothing that is called exactly %q. Give the id of one of these: %s.", clip(name, 200), some(texts(named))))
}

type skill struct {
	ID             string       `json:"id"`
	Name           string       `json:"name"`
	Description    string       `json:"description"`
	Category       string       `json:"category"`
	PromptTemplate string       `json:"promptTemplate"`
	InputSchema    []inputField `json:"inputSchema"`
	IsActive       bool         `json:"isActive"`
}

type inputField struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Required    bool   `json:"required"`
	Default     any    `json:"default"`
}

type skillPage struct {
	Skills  []skill `json:"skills"`
	Total   int     `json:"total"`
	HasMore bool    `json:"hasMore"`
}

// skillID returns the id of a skill by its id or name.
func skillID(ctx context.Context, name string) (string, error) {
	if isID(name) {
		return name, nil
	}
	if strings.TrimSpace(name) == "" {
		return "", refusal("skill is empty. Call list_skills, and give the id or the name of one.")
	}
	var page skillPage
	query := url.Values{"search": {clip(name, 200)}, "pageSize": {"100"}, "includePublic": {"true"}}
	if _, err := do(ctx, api.Operation{ID: "listSkills", Query: query}, &page); err != nil {
		return "", err
	}
	var same, named []string
	for _, s := range page.Skills {
		if strings.EqualFold(s.Name, name) {
			same = append(same, s.ID)
			named = append(named, s.Name+" ("+s.ID+")")
		}
	}
	switch len(same) {
	case 0:
		return "", refusal(fmt.Sprintf("There is no skill named %q that you can run. Call list_skills for those that you can.", clip(name, 200)))
	case 1:
		return same[0], nil
	}
	return "", refusal("Several skills have this name. Give the id of one: " + some(named) + ".")
}

func texts(nodes []node) (all []string) {
	for _, n := range nodes {
		all = append(all, n.String())
	}
	return all
}

// some joins candidates, at most mostNamed of them.
func some(candidates []string) string {
	text := strings.Join(candidates[:min(len(candidates), mostNamed)], "; ")
	if more := len(candidates) - mostNamed; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// clip shortens a text to so many letters, for searches and refusals.
func clip(text string, letters int) string {
	if runes := []rune(text); len(runes) > letters {
		return string(runes[:letters])
	}
	return text
}
