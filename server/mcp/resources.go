package mcp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
)

// Addresses of resources. A file is named by its path, as people and models know it.
const (
	summaryTemplate = "kijko://contexts/{contextId}/summary"
	fileTemplate    = "kijko://contexts/{contextId}/files/{+path}"
)

func summaryURI(contextID string) string { return "kijko://contexts/" + contextID + "/summary" }

// contextsAPage is how many contexts a page of resources has.
const contextsAPage = 50

func (f *Feature) addResources() {
	f.server.AddResourceTemplate(&sdk.ResourceTemplate{Name: "summary", Title: "Summary of a context", URITemplate: summaryTemplate, MIMEType: "text/markdown",
		Description: "What a context is about."}, f.readSummary)
	f.server.AddResourceTemplate(&sdk.ResourceTemplate{Name: "file", Title: "File of a context", URITemplate: fileTemplate, MIMEType: "text/plain",
		Description: "The text of a file of a context, by its path."}, f.readFileResource)
}

// lists answers the two lists that depend on the caller, and the prompts. The SDK's own lists are the same for all.
func (f *Feature) lists(inner sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, r sdk.Request) (sdk.Result, error) {
		switch r := r.(type) {
		case *sdk.ListResourcesRequest:
			return f.listResources(ctx, r)
		case *sdk.ListPromptsRequest:
			return f.listPrompts(ctx)
		case *sdk.GetPromptRequest:
			// The SDK's own method must answer, because only it gives the result the type that 2026-07-28 demands. It knows one prompt.
			ctx = context.WithValue(ctx, promptKey{}, r.Params.Name)
			params := *r.Params
			params.Name = anyPrompt
			asked := *r
			asked.Params = &params
			return inner(ctx, method, &asked)
		}
		return inner(ctx, method, r)
	}
}

func own() sdk.Cacheable { return sdk.Cacheable{CacheScope: "private"} }

// listResources lists the summaries of the caller's contexts. Files are found by the template: a list of a million helps no client.
func (f *Feature) listResources(ctx context.Context, r *sdk.ListResourcesRequest) (*sdk.ListResourcesResult, error) {
	page := 1
	if r.Params != nil && r.Params.Cursor != "" {
		var err error
		if page, err = strconv.Atoi(r.Params.Cursor); err != nil || page < 1 || page > 1_000_000 {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "The cursor is not one that this server gave."}
		}
	}
	var found []contextItem
	answer, err := do(ctx, api.Operation{ID: "listContexts", Query: url.Values{"page": {strconv.Itoa(page)}, "pageSize": {strconv.Itoa(contextsAPage)}}}, &found)
	if err != nil {
		return nil, f.fault(ctx, "", err)
	}
	list := &sdk.ListResourcesResult{Resources: []*sdk.Resource{}, Cacheable: own()}
	for _, c := range found {
		list.Resources = append(list.Resources, &sdk.Resource{URI: summaryURI(c.ID), Name: c.Name, Title: c.Name + ": summary", MIMEType: "text/markdown",
			Description: fmt.Sprintf("What the context %s (%d files) is about.", c.Name, c.FileCount)})
	}
	if answer.Header("X-Has-More") == "true" {
		list.NextCursor = strconv.Itoa(page + 1)
	}
	return list, nil
}

// parts returns the context and the path that an address names.
func parts(uri string) (contextID, file string, ok bool) {
	rest, ok := strings.CutPrefix(uri, "kijko://contexts/")
	if !ok {
		return "", "", false
	}
	contextID, rest, _ = strings.Cut(rest, "/")
	rest = strings.TrimPrefix(rest, "files/")
	file, err := url.PathUnescape(rest)
	return contextID, file, err == nil && isID(contextID)
}

func (f *Feature) readSummary(ctx context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	id, _, ok := parts(r.Params.URI)
	if !ok {
		return nil, sdk.ResourceNotFoundError(r.Params.URI)
	}
	var s contextSummary
	if _, err := do(ctx, api.Operation{ID: "getSummary", Path: map[string]string{"contextId": id}}, &s); err != nil {
		return nil, f.fault(ctx, r.Params.URI, err)
	}
	return &sdk.ReadResourceResult{Cacheable: own(), Contents: []*sdk.ResourceContents{{URI: r.Params.URI, MIMEType: "text/markdown", Text: s.text()}}}, nil
}

func (f *Feature) readFileResource(ctx context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	id, name, ok := parts(r.Params.URI)
	if !ok {
		return nil, sdk.ResourceNotFoundError(r.Params.URI)
	}
	file, err := fileOf(ctx, id, name)
	if errors.As(err, new(refusal)) {
		return nil, sdk.ResourceNotFoundError(r.Params.URI)
	} else if err != nil {
		return nil, f.fault(ctx, r.Params.URI, err)
	}
	text, err := content(ctx, id, file)
	if err != nil {
		return nil, f.fault(ctx, r.Params.URI, err)
	}
	return &sdk.ReadResourceResult{Cacheable: own(), Contents: []*sdk.ResourceContents{{URI: r.Params.URI, MIMEType: mimeOf(file.Path),
		Text: bounded(text, mostTokens, "The tool read_file reads a range of lines.")}}}, nil
}

func mimeOf(file string) string {
	switch strings.ToLower(path.Ext(file)) {
	case ".md", ".markdown":
		return "text/markdown"
	case ".json":
		return "application/json"
	}
	return "text/plain"
}

// mostCompletions is the protocol's bound.
const mostCompletions = 100

// complete completes the variables of the templates: ids of contexts by their names, and paths.
func (f *Feature) complete(ctx context.Context, r *sdk.CompleteRequest) (*sdk.CompleteResult, error) {
	result := &sdk.CompleteResult{Completion: sdk.CompletionResultDetails{Values: []string{}}}
	if r.Params.Ref == nil || r.Params.Ref.Type != "ref/resource" {
		return result, nil
	}
	typed := r.Params.Argument.Value
	values := &result.Completion.Values
	switch r.Params.Argument.Name {
	case "contextId":
		var found []contextItem
		if _, err := do(ctx, api.Operation{ID: "listContexts", Query: url.Values{"pageSize": {"200"}}}, &found); err != nil {
			return nil, f.fault(ctx, "", err)
		}
		for _, c := range found {
			if strings.HasPrefix(c.ID, typed) || strings.Contains(strings.ToLower(c.Name), strings.ToLower(typed)) {
				*values = append(*values, c.ID)
			}
		}
	case "path":
		if r.Params.Context == nil || !isID(r.Params.Context.Arguments["contextId"]) {
			return result, nil
		}
		found, _, err := sources(ctx, r.Params.Context.Arguments["contextId"], typed, mostCompletions+1)
		if err != nil {
			return nil, f.fault(ctx, "", err)
		}
		for _, s := range found {
			*values = append(*values, s.Path)
		}
	}
	if len(*values) > mostCompletions {
		*values, result.Completion.HasMore = (*values)[:mostCompletions], true
	}
	return result, nil
}
