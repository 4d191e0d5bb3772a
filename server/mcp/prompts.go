package mcp

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
)

// skillPages bounds the skills that are prompts: so many pages of a hundred, the latest changed ones.
const skillPages = 5

// prompt is an active skill of the caller under the name of its command.
type prompt struct {
	name  string
	skill skill
}

// prompts are the caller's active skills. A name is made of the skill's; skills of one name have the beginning of their id behind it.
func prompts(ctx context.Context) ([]prompt, error) {
	var all []prompt
	count := map[string]int{}
	for page := 1; page <= skillPages; page++ {
		var found skillPage
		query := url.Values{"isActive": {"true"}, "pageSize": {"100"}, "page": {strconv.Itoa(page)}}
		if _, err := do(ctx, api.Operation{ID: "listSkills", Query: query}, &found); err != nil {
			return nil, err
		}
		for _, s := range found.Skills {
			name := slug(s.Name)
			count[name]++
			all = append(all, prompt{name: name, skill: s})
		}
		if !found.HasMore {
			break
		}
	}
	for i := range all {
		if p := &all[i]; count[p.name] > 1 {
			p.name += "-" + p.skill.ID[:8]
		}
	}
	return all, nil
}

// slug makes the name of a command: letters and digits of any script, and dashes.
func slug(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if len(words) == 0 {
		return "skill"
	}
	return strings.Join(words, "-")
}

var placeholder = regexp.MustCompile(`\{\{([^{}]+)\}\}`)

// fields are the inputs of a skill: the declared ones, then the placeholders of its prompt that are not declared.
func fields(s skill) []inputField {
	all := slices.Clone(s.InputSchema)
	for _, match := range placeholder.FindAllStringSubmatch(s.PromptTemplate, -1) {
		name := strings.TrimSpace(match[1])
		if name != "" && !slices.ContainsFunc(all, func(f inputField) bool { return f.Name == name }) {
			all = append(all, inputField{Name: name, Type: "string"})
		}
	}
	return all
}

func (f *Feature) listPrompts(ctx context.Context) (*sdk.ListPromptsResult, error) {
	found, err := prompts(ctx)
	if err != nil {
		return nil, f.fault(ctx, "", err)
	}
	list := &sdk.ListPromptsResult{Prompts: []*sdk.Prompt{}, Cacheable: own()}
	for _, p := range found {
		one := &sdk.Prompt{Name: p.name, Title: p.skill.Name, Description: p.skill.Description}
		for _, field := range fields(p.skill) {
			one.Arguments = append(one.Arguments, &sdk.PromptArgument{Name: field.Name, Description: field.Description, Required: field.Required && field.Default == nil})
		}
		list.Prompts = append(list.Prompts, one)
	}
	return list, nil
}

// anyPrompt is the one prompt that the SDK knows. Its handler finds the name that was asked for under promptKey.
const anyPrompt = "skill"

type promptKey struct{}

// getPrompt fills a skill's prompt with the arguments. It runs nothing: the client's model answers.
func (f *Feature) getPrompt(ctx context.Context, r *sdk.GetPromptRequest) (*sdk.GetPromptResult, error) {
	found, err := prompts(ctx)
	if err != nil {
		return nil, f.fault(ctx, "", err)
	}
	name, _ := ctx.Value(promptKey{}).(string)
	at := slices.IndexFunc(found, func(p prompt) bool { return p.name == name })
	if at < 0 {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "There is no prompt of this name. prompts/list has the present ones: the user's active skills."}
	}
	s := found[at].skill
	input := map[string]any{}
	for argument, text := range r.Params.Arguments {
		value := any(text)
		if i := slices.IndexFunc(s.InputSchema, func(f inputField) bool { return f.Name == argument }); i >= 0 {
			value = raw(s.InputSchema[i], text)
		}
		input[argument] = value
	}
	var rendered struct {
		Prompt string `json:"prompt"`
	}
	if _, err := do(ctx, api.Operation{ID: "renderSkill", Path: map[string]string{"skillId": s.ID}, Body: map[string]any{"input": input}}, &rendered); err != nil {
		if p := api.ProblemOf(err); p.Code == "INVALID_INPUT" {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: p.Message}
		}
		return nil, f.fault(ctx, "", err)
	}
	return &sdk.GetPromptResult{Description: s.Description, Messages: []*sdk.PromptMessage{{Role: "user", Content: &sdk.TextContent{Text: rendered.Prompt}}}}, nil
}
