package skills

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
)

func TestPlaybooks(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	content := func(matter string) string {
		return "---\n" + matter + "\n---\n\n# Do it\n\nTwenty characters of {{text}}\n"
	}
	good := map[string]any{"content": content("name: Deploy\ntags: [deployment]\ntrigger: pre-tool"), "name": "Deploy", "description": "", "dependencies": []string{"git"},
		"trigger": "pre-tool", "scope": "local", "tags": []string{"deployment"}, "scopeSelection": map[string]any{"type": "projects", "projectIds": []string{"any"}}}
	with := func(name string, value any) map[string]any {
		body := map[string]any{}
		for k, v := range good {
			body[k] = v
		}
		body[name] = value
		return body
	}

	made := client.JSON[Skill](anna.Do("POST", "/skills/playbook", good).Want(201))
	path := "/skills/" + made.ID
	require.Equal(t, good["content"], made.PromptTemplate)
	require.Equal(t, "custom", made.Category)
	require.Empty(t, made.Parameters)
	got := anna.Get(path + "/playbook").Want(200)
	require.Equal(t, good["content"], got.Value("content"))
	require.Equal(t, "", got.Value("description"))
	require.Equal(t, map[string]any{"type": "projects", "projectIds": []any{"any"}}, got.Value("scopeSelection"))

	t.Run("BothViewsKeepStep", func(t *testing.T) {
		changed := anna.In(t).Do("PUT", path+"/playbook", map[string]any{"name": "Deploy twice", "content": content("name: x"), "isActive": false}).Want(200)
		require.Equal(t, []any{"git"}, changed.Value("dependencies"), "what is absent stays")
		now := client.JSON[Skill](anna.In(t).Get(path))
		require.Equal(t, "Deploy twice", now.Name)
		require.Equal(t, content("name: x"), now.PromptTemplate)
		require.False(t, now.IsActive)
		anna.In(t).Do("PATCH", path, map[string]any{"description": "from the skill's side"}).Want(200)
		require.Equal(t, "from the skill's side", anna.In(t).Get(path+"/playbook").String("description"))
		require.Equal(t, "post-tool", anna.In(t).Do("PATCH", path+"/playbook", map[string]any{"trigger": "post-tool"}).Want(200).String("trigger"))
	})
	t.Run("EachRuleIsNamed", func(t *testing.T) {
		for _, c := range []struct {
			field string
			value any
		}{{"content", ""}, {"content", nil}, {"content", 7}, {"content", "short"}, {"content", strings.Repeat("x", 10001)}, {"name", ""}, {"name", nil}, {"description", nil},
			{"description", strings.Repeat("x", 501)}, {"dependencies", "git"}, {"trigger", "never"}, {"scope", "everywhere"}, {"tags", map[string]any{}}, {"model", "llama"},
			{"dependencies", make([]string, 101)}, {"tags", []string{strings.Repeat("x", 201)}}} {
			anna.In(t).Do("POST", "/skills/playbook", with(c.field, c.value)).Problem(400, "VALIDATION_ERROR").Field(c.field)
		}
		for _, c := range []struct {
			selection map[string]any
			field     string
		}{{map[string]any{"type": "nowhere"}, "scopeSelection.type"}, {map[string]any{"type": "branches"}, "scopeSelection.branchNames"},
			{map[string]any{"type": "projects", "projectIds": []string{}}, "scopeSelection.projectIds"}} {
			anna.In(t).Do("POST", "/skills/playbook", with("scopeSelection", c.selection)).Problem(400, "VALIDATION_ERROR").Field(c.field)
		}
		for _, matter := range []string{"name: [", "- a list", "description: no name", "name: x\ntrigger: never", "name: x\ntags: none", "name: x\nevil: !!python/none ~", "name: &a x\nb: *a"} {
			anna.In(t).Do("POST", "/skills/playbook", with("content", content(matter))).Problem(400, "INVALID_YAML").Field("content")
			anna.In(t).Do("PATCH", path+"/playbook", map[string]any{"content": content(matter)}).Problem(400, "INVALID_YAML").Field("content")
		}
		anna.In(t).Do("POST", "/skills/playbook", with("name", "deploy twice")).Problem(409, "SKILL_NAME_EXISTS").Field("name")
		for _, missing := range []string{"content", "name", "description"} {
			body := with("x", 1)
			delete(body, missing)
			anna.In(t).Do("POST", "/skills/playbook", body).Problem(400, "VALIDATION_ERROR").Field(missing)
		}
	})
	t.Run("OnlyTheOwnerWrites", func(t *testing.T) {
		shown := "/skills/" + anna.In(t).Do("POST", "/skills/playbook", with("name", "Shown")).Want(201).String("id")
		stan.In(t).Get(shown+"/playbook").Problem(404, "SKILL_NOT_FOUND")
		Publish(t, anna, shown)
		require.Equal(t, "local", stan.In(t).Get(shown+"/playbook").Want(200).String("scope"))
		stan.In(t).Do("PUT", shown+"/playbook", map[string]any{"scope": "global"}).Problem(403, "FORBIDDEN")
		copied := stan.In(t).Do("POST", shown+"/duplicate", nil).Want(201).String("id")
		require.Equal(t, []any{"deployment"}, stan.In(t).Get("/skills/"+copied+"/playbook").Want(200).Value("tags"))
		anna.In(t).Get(Create(t, anna, "Plain")+"/playbook").Problem(404, "PLAYBOOK_NOT_FOUND")
	})
	t.Run("AKeyMakesOne", func(t *testing.T) {
		keyed := anna.In(t).With("Idempotency-Key", "a playbook")
		first := keyed.Do("POST", "/skills/playbook", with("name", "Once")).Want(201)
		require.Equal(t, first.String("id"), keyed.Do("POST", "/skills/playbook", with("name", "Once")).Want(201).String("id"))
	})
}
