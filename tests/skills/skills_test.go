package skills

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

type skillPage struct {
	Skills                []Skill
	Total, Page, PageSize int
	HasMore               bool
}

func names(list []Skill) []string {
	all := []string{}
	for _, s := range list {
		all = append(all, s.Name)
	}
	return all
}

func TestSkills(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")

	t.Run("ANewSkillHasItsDefaults", func(t *testing.T) {
		got := client.JSON[Skill](anna.Do("POST", "/skills", map[string]any{"name": "  Changelog Writer ", "promptTemplate": prompt,
			"id": "ignored", "userId": stan.ID, "isPublic": true, "starCount": 7, "rating": 5, "executionCount": 9, "unknown": map[string]any{}}).Want(201))
		require.Equal(t, "Changelog Writer", got.Name)
		require.Equal(t, anna.ID, got.UserID)
		require.Equal(t, "custom", got.Category)
		require.Equal(t, "claude-3-5-sonnet-20241022", got.Model)
		require.Equal(t, "markdown", got.OutputFormat)
		require.Equal(t, map[string]any{"temperature": 1.0, "max_tokens": 4096.0}, got.Parameters)
		require.Nil(t, got.InputSchema)
		require.True(t, got.IsActive)
		require.False(t, got.IsPublic)
		require.Zero(t, got.StarCount+got.ExecutionCount+got.RatingCount)
		require.Equal(t, got, client.JSON[Skill](anna.Get("/skills/"+got.ID).Want(200)))
		require.Nil(t, anna.Get("/skills/"+got.ID).Value("description"))
		require.Nil(t, anna.Get("/skills/"+got.ID).Value("rating"))
	})
	t.Run("EverythingIsKept", func(t *testing.T) {
		body := map[string]any{"name": "Naïve 🚀 (v2)", "description": "What it does", "category": "analysis", "promptTemplate": strings.Repeat("é", 20),
			"model": "gpt-4", "outputFormat": "json", "isActive": false,
			"parameters":  map[string]any{"temperature": 0.4, "max_tokens": 8192, "top_p": 1, "top_k": 0, "stop_sequences": []any{"END"}, "unknown": 1, "other": nil},
			"inputSchema": []any{map[string]any{"name": " a b ", "type": "object", "default": map[string]any{"x": nil}, "extra": 1}, map[string]any{"name": "c", "type": "string", "description": "", "required": true}}}
		got := client.JSON[Skill](anna.Do("POST", "/skills", body).Want(201))
		require.Equal(t, "gpt-4", got.Model, "stored as sent")
		require.Equal(t, map[string]any{"temperature": 0.4, "max_tokens": 8192.0, "top_p": 1.0, "top_k": 0.0, "stop_sequences": []any{"END"}}, got.Parameters)
		require.Equal(t, []map[string]any{{"name": "a b", "type": "object", "default": map[string]any{"x": nil}}, {"name": "c", "type": "string", "description": "", "required": true}}, got.InputSchema)
		// A body with U+0000 is refused, a list without members stays one, and null removes the value.
		path := "/skills/" + got.ID
		require.Equal(t, []any{}, anna.Do("PATCH", path, map[string]any{"inputSchema": []any{}}).Want(200).Value("inputSchema"))
		require.Nil(t, anna.Do("PATCH", path, map[string]any{"inputSchema": nil}).Want(200).Value("inputSchema"))
		require.Equal(t, map[string]any{"temperature": 0.1, "max_tokens": 10.0}, anna.Do("PUT", path, map[string]any{"temperature": 0.1, "maxTokens": 10}).Want(200).Value("parameters"))
		require.Equal(t, map[string]any{"top_k": 3.0}, anna.Do("PUT", path, map[string]any{"parameters": map[string]any{"top_k": 3}, "temperature": 0.9}).Want(200).Value("parameters"))
		require.Equal(t, map[string]any{}, anna.Do("PUT", path, map[string]any{"parameters": map[string]any{}}).Want(200).Value("parameters"))
		require.Nil(t, anna.Do("PUT", path, map[string]any{"description": ""}).Want(200).Value("description"))
	})
	t.Run("EachRuleIsNamed", func(t *testing.T) {
		path := Create(t, anna, "Checked")
		field := func(f string) string { return `{"inputSchema": [{"name": "ok", "type": "string"}, ` + f + `]}` }
		for _, c := range []struct{ body, field, message string }{
			{`{"name": ""}`, "name", "Name is required"}, {`{"name": " \u2003 "}`, "name", "Name is required"}, {`{"name": null}`, "name", "Name is required"},
			{`{"name": "` + strings.Repeat("é", 101) + `"}`, "name", "Name must be 100 characters or less"}, {`{"name": "a\u0007b"}`, "name", "Name must not contain control characters"},
			{`{"name": 7}`, "name", ""}, {`{"name": "a\u0000"}`, "", ""},
			{`{"description": "` + strings.Repeat("x", 501) + `"}`, "description", "Description must be 500 characters or less"},
			{`{"category": "nonsense"}`, "category", ""}, {`{"category": null}`, "category", ""}, {`{"outputFormat": "xml"}`, "outputFormat", ""},
			{`{"promptTemplate": "` + strings.Repeat("é", 19) + `"}`, "promptTemplate", "Prompt template must be at least 20 characters"},
			{`{"promptTemplate": "` + strings.Repeat("é", 10001) + `"}`, "promptTemplate", "Prompt template must be 10,000 characters or less"}, {`{"promptTemplate": null}`, "promptTemplate", ""},
			{`{"model": "llama-3"}`, "model", ""}, {`{"model": ""}`, "model", ""}, {`{"model": "claude-` + strings.Repeat("x", 100) + `"}`, "model", ""}, {`{"model": null}`, "model", ""},
			{`{"isActive": "yes"}`, "isActive", ""}, {`{"isActive": null}`, "isActive", ""}, {`{"parameters": []}`, "parameters", ""},
			{`{"parameters": {"temperature": 1.01}}`, "parameters.temperature", ""}, {`{"parameters": {"temperature": -0.1}}`, "parameters.temperature", ""},
			{`{"parameters": {"temperature": "0.5"}}`, "parameters.temperature", ""}, {`{"temperature": 2}`, "parameters.temperature", ""}, {`{"maxTokens": 0}`, "parameters.max_tokens", ""},
			{`{"parameters": {"max_tokens": 0}}`, "parameters.max_tokens", ""}, {`{"parameters": {"max_tokens": 8193}}`, "parameters.max_tokens", ""}, {`{"parameters": {"max_tokens": 1.5}}`, "parameters.max_tokens", ""},
			{`{"parameters": {"top_p": 0}}`, "parameters.top_p", ""}, {`{"parameters": {"top_p": 1.1}}`, "parameters.top_p", ""}, {`{"parameters": {"top_k": -1}}`, "parameters.top_k", ""},
			{`{"parameters": {"top_k": 1e300}}`, "parameters.top_k", ""}, {`{"parameters": {"stop_sequences": "END"}}`, "parameters.stop_sequences", ""},
			{`{"parameters": {"stop_sequences": ["a","b","c","d","e","f","g","h","i"]}}`, "parameters.stop_sequences", ""}, {`{"parameters": {"stop_sequences": [""]}}`, "parameters.stop_sequences", ""},
			{`{"inputSchema": {}}`, "inputSchema", ""}, {`{"inputSchema": [` + strings.Repeat(`{"name": "x", "type": "string"},`, 50) + `{}]}`, "inputSchema", "Input schema must have 50 fields or less"},
			{`{"inputSchema": [{"name": "x", "type": "string", "default": "` + strings.Repeat("x", 65536) + `"}]}`, "inputSchema", "Input schema must be 64 KiB or less"},
			{field(`1`), "inputSchema[1]", ""}, {field(`{"type": "string"}`), "inputSchema[1].name", ""}, {field(`{"name": " ", "type": "string"}`), "inputSchema[1].name", ""},
			{field(`{"name": "a{b", "type": "string"}`), "inputSchema[1].name", ""}, {field(`{"name": " ok", "type": "string"}`), "inputSchema[1].name", ""},
			{field(`{"name": "` + strings.Repeat("x", 101) + `", "type": "string"}`), "inputSchema[1].name", ""}, {field(`{"name": "x"}`), "inputSchema[1].type", ""},
			{field(`{"name": "x", "type": "text"}`), "inputSchema[1].type", ""}, {field(`{"name": "x", "type": "string", "required": "yes"}`), "inputSchema[1].required", ""},
			{field(`{"name": "x", "type": "string", "description": "` + strings.Repeat("x", 501) + `"}`), "inputSchema[1].description", ""},
			{`{"inputSchema": [{"name": "x", "type": "number", "default": 1e401}]}`, "", ""}, {`{"inputSchema": [` + strings.Repeat("1e400,", 3000) + `1]}`, "", ""},
		} {
			r := anna.Do("PATCH", path, c.body).Problem(400, "VALIDATION_ERROR")
			if c.field != "" {
				r.Field(c.field)
			}
			if c.message != "" {
				require.Equal(t, c.message, r.String("message"))
			}
			// Creating applies the same rules.
			if c.field != "" && c.field != "category" && !strings.HasSuffix(c.body, ": null}") {
				anna.Do("POST", "/skills", `{"name": "New one", "promptTemplate": "twenty characters of it", `+c.body[1:]).Problem(400, "VALIDATION_ERROR").Field(c.field)
			}
		}
		anna.Do("POST", "/skills", map[string]any{"promptTemplate": prompt}).Problem(400, "VALIDATION_ERROR").Field("name")
		anna.Do("POST", "/skills", map[string]any{"name": "No prompt"}).Problem(400, "VALIDATION_ERROR").Field("promptTemplate")
		anna.Do("POST", "/skills", `{"name": "`+strings.Repeat("x", 1<<20)+`"}`).Problem(413, "PAYLOAD_TOO_LARGE")
		require.Equal(t, "custom", anna.Do("POST", "/skills", map[string]any{"name": "Nulls", "promptTemplate": prompt, "category": nil, "model": nil, "parameters": nil,
			"inputSchema": nil, "outputFormat": nil, "isActive": nil, "description": nil}).Want(201).String("category"), "null is the default of a new skill")
		require.Equal(t, "Checked", anna.Get(path).Want(200).String("name"), "nothing of it was stored")
	})
	t.Run("NamesAreTakenWithoutRegardToCase", func(t *testing.T) {
		path := Create(t, anna, "Ärger ΣΑΣ")
		r := anna.Do("POST", "/skills", map[string]any{"name": "äRGER σας", "promptTemplate": prompt}).Problem(409, "SKILL_NAME_EXISTS").Field("name")
		require.Contains(t, r.String("message"), "Ärger ΣΑΣ")
		anna.Do("PATCH", path, map[string]any{"name": "ärger σας"}).Want(200)
		anna.Do("PATCH", Create(t, anna, "Another"), map[string]any{"name": "ÄRGER ΣΑΣ"}).Problem(409, "SKILL_NAME_EXISTS").Field("name")
		Create(t, stan, "ärger σας")
	})
	t.Run("ASameNameAtOnceIsTakenOnce", func(t *testing.T) {
		got := statuses(client.AtOnce(t, 8, func(int) (client.Response, error) {
			return anna.Try("POST", "/skills", map[string]any{"name": "Race", "promptTemplate": prompt})
		}))
		require.Equal(t, map[int]int{201: 1, 409: 7}, got)
	})
	t.Run("AKeyMakesOne", func(t *testing.T) {
		keyed := anna.With("Idempotency-Key", "one skill")
		first := keyed.Do("POST", "/skills", map[string]any{"name": "Once", "promptTemplate": prompt}).Want(201)
		again := keyed.Do("POST", "/skills", map[string]any{"name": "Once", "promptTemplate": prompt}).Want(201)
		require.Equal(t, first.String("id"), again.String("id"))
		keyed.Do("POST", "/skills", map[string]any{"name": "Twice", "promptTemplate": prompt}).Problem(409, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("OthersSeeWhatIsPublicAndActive", func(t *testing.T) {
		path := Create(t, anna, "To be shown")
		reads := []string{"", "/export", "/executions", "/playbook"}
		writes := map[string]any{"PUT ": map[string]any{"name": "Mine"}, "PATCH ": map[string]any{"name": "Mine"}, "DELETE ": nil, "POST /publish": nil, "POST /unpublish": nil,
			"PUT /playbook": map[string]any{"name": "Mine"}}
		both := map[string]any{"POST /duplicate": nil, "PUT /star": nil, "DELETE /star": nil, "PUT /rating": map[string]any{"rating": 3}}
		for _, id := range []string{path[len("/skills/"):], uuid.NewString(), "not-a-uuid", "%00", "%ff", "%27", strings.Repeat("a", 300)} {
			at := "/skills/" + id
			for _, read := range reads {
				require.Contains(t, stan.Get(at+read).Problem(404, "SKILL_NOT_FOUND").String("message"), "Skill with ID ")
				s.As("").Get(at+read).Problem(401, "UNAUTHENTICATED")
			}
			for _, list := range []map[string]any{writes, both} {
				for call, body := range list {
					method, sub, _ := strings.Cut(call, " ")
					stan.Do(method, at+sub, body).Problem(404, "SKILL_NOT_FOUND")
				}
			}
		}
		require.Equal(t, true, anna.Do("POST", path+"/publish", nil).Want(200).Value("isPublic"))
		for _, read := range reads[:3] {
			stan.Get(path + read).Want(200)
		}
		for call, body := range writes {
			method, sub, _ := strings.Cut(call, " ")
			stan.Do(method, path+sub, body).Problem(403, "FORBIDDEN")
		}
		stan.Do("PUT", path+"/star", nil).Want(200)
		anna.Do("PATCH", path, map[string]any{"isActive": false}).Want(200)
		stan.Get(path).Problem(404, "SKILL_NOT_FOUND")
		require.NotContains(t, stan.Get("/skills/starred").Value("skillIds"), path[len("/skills/"):], "a star on what is hidden is not shown")
		anna.Get(path).Want(200)
		require.Equal(t, false, anna.Do("POST", path+"/unpublish", nil).Want(200).Value("isPublic"))
	})
	t.Run("CopiesAreOnesOwn", func(t *testing.T) {
		path := Create(t, anna, "Original", "description", "text", "category", "analysis")
		Publish(t, anna, path)
		anna.Do("PUT", path+"/star", nil).Want(200)
		copied := client.JSON[Skill](stan.Do("POST", path+"/duplicate", nil).Want(201))
		require.Equal(t, "Original (Copy)", copied.Name)
		require.Equal(t, stan.ID, copied.UserID)
		require.Equal(t, "text", copied.Description)
		require.False(t, copied.IsPublic)
		require.Zero(t, copied.StarCount)
		stan.Do("POST", path+"/duplicate", map[string]any{"newName": nil}).Problem(409, "SKILL_NAME_EXISTS").Field("name")
		require.Equal(t, "Mine", stan.Do("POST", path+"/duplicate", map[string]any{"newName": " Mine "}).Want(201).String("name"))
		stan.Do("POST", path+"/duplicate", map[string]any{"newName": "mine"}).Problem(409, "SKILL_NAME_EXISTS").Field("name")
		stan.Do("POST", path+"/duplicate", map[string]any{"newName": strings.Repeat("x", 101)}).Problem(400, "VALIDATION_ERROR").Field("name")
		stan.Do("POST", path+"/duplicate", map[string]any{"newName": 7}).Problem(400, "VALIDATION_ERROR").Field("newName")
		long := Create(t, anna, strings.Repeat("y", 100))
		require.Equal(t, strings.Repeat("y", 93)+" (Copy)", anna.Do("POST", long+"/duplicate", map[string]any{"newName": "  "}).Want(201).String("name"))
	})
	t.Run("StarsCount", func(t *testing.T) {
		path := Create(t, anna, "Starred")
		id := path[len("/skills/"):]
		before := anna.Get(path).String("updatedAt")
		require.Equal(t, map[string]any{"starred": true, "starCount": 1.0}, client.JSON[map[string]any](anna.Do("PUT", path+"/star", nil).Want(200)))
		require.Equal(t, 1.0, anna.Do("PUT", path+"/star", nil).Want(200).Value("starCount"), "one star a person")
		require.Contains(t, anna.Get("/skills/starred").Want(200).Value("skillIds"), id)
		Publish(t, anna, path)
		require.Equal(t, 2.0, stan.Do("PUT", path+"/star", nil).Want(200).Value("starCount"))
		require.Equal(t, map[string]any{"starred": false, "starCount": 1.0}, client.JSON[map[string]any](anna.Do("DELETE", path+"/star", nil).Want(200)))
		require.Equal(t, 1.0, anna.Do("DELETE", path+"/star", nil).Want(200).Value("starCount"))
		anna.Do("POST", path+"/unpublish", nil).Want(200)
		moved := anna.Get(path).String("updatedAt")
		require.Greater(t, moved, before, "publishing is a change")
		anna.Do("PUT", path+"/star", nil).Want(200)
		require.Equal(t, moved, anna.Get(path).String("updatedAt"), "a star is none")
	})
	t.Run("RatingsAverage", func(t *testing.T) {
		path := Create(t, anna, "Rated")
		Publish(t, anna, path)
		anna.Do("PUT", path+"/rating", map[string]any{"rating": 5}).Problem(403, "FORBIDDEN")
		for _, bad := range []string{`{}`, `{"rating": 0}`, `{"rating": 6}`, `{"rating": 2.5}`, `{"rating": "5"}`, `{"rating": null}`} {
			stan.Do("PUT", path+"/rating", bad).Problem(400, "VALIDATION_ERROR").Field("rating")
		}
		ben := s.SignUp("Ben")
		require.Equal(t, 3.0, stan.Do("PUT", path+"/rating", map[string]any{"rating": 3}).Want(200).Value("rating"))
		ben.Do("PUT", path+"/rating", map[string]any{"rating": 4}).Want(200)
		r := stan.Do("PUT", path+"/rating", map[string]any{"rating": 5}).Want(200)
		require.Equal(t, 4.5, r.Value("rating"))
		require.Equal(t, 2.0, r.Value("ratingCount"))
		require.Equal(t, 4.5, anna.Get(path).Value("rating"))
	})
	t.Run("FilesGoOutAndIn", func(t *testing.T) {
		path := Create(t, anna, "Exported", "description", "text")
		file := client.JSON[map[string]any](anna.Get(path + "/export").Want(200))
		require.Equal(t, "1.0", file["version"])
		require.ElementsMatch(t, []string{"name", "description", "category", "promptTemplate", "model", "parameters", "outputFormat", "isActive"}, keys(file["skill"].(map[string]any)))
		require.Equal(t, "Exported (1)", anna.Do("POST", "/skills/import", file).Want(201).String("name"))
		require.Equal(t, "Exported (2)", anna.Do("POST", "/skills/import", file).Want(201).String("name"))
		anna.Do("DELETE", "/skills/"+find(t, anna, "Exported (1)").ID, nil).Want(200)
		require.Equal(t, "Exported (1)", anna.Do("POST", "/skills/import", file).Want(201).String("name"), "the first free one")
		require.Equal(t, "Exported", stan.Do("POST", "/skills/import", file).Want(201).String("name"))
		for _, version := range []any{nil, "2.0", 1.0, "1"} {
			anna.Do("POST", "/skills/import", map[string]any{"version": version, "skill": file["skill"]}).Problem(400, "UNSUPPORTED_VERSION").Field("version")
		}
		anna.Do("POST", "/skills/import", map[string]any{"skill": file["skill"]}).Problem(400, "UNSUPPORTED_VERSION").Field("version")
		anna.Do("POST", "/skills/import", map[string]any{"version": "1.0"}).Problem(400, "VALIDATION_ERROR").Field("skill")
		anna.Do("POST", "/skills/import", `{"version": "1.0", "skill": []}`).Problem(400, "VALIDATION_ERROR").Field("skill")
		for member, body := range map[string]string{"skill.name": `{"promptTemplate": "` + prompt + `"}`, "skill.promptTemplate": `{"name": "x", "promptTemplate": "short"}`,
			"skill.parameters.temperature": `{"name": "x", "promptTemplate": "` + prompt + `", "parameters": {"temperature": 9}}`,
			"skill.inputSchema[0].type":    `{"name": "x", "promptTemplate": "` + prompt + `", "inputSchema": [{"name": "a"}]}`} {
			anna.Do("POST", "/skills/import", `{"version": "1.0", "skill": `+body+`}`).Problem(400, "VALIDATION_ERROR").Field(member)
		}
	})
	t.Run("ManyAtOnce", func(t *testing.T) {
		one, two := Create(t, anna, "Bulk one"), Create(t, anna, "Bulk two")
		foreign := Create(t, stan, "Bulk of Stan")
		id := func(path string) string { return path[len("/skills/"):] }
		list := map[string]any{"skillIds": []string{id(one), strings.ToUpper(id(one)), id(two), id(foreign), uuid.NewString(), "nonsense", ""}}
		require.Equal(t, 2.0, anna.Do("POST", "/skills/bulk/deactivate", list).Want(200).Value("count"))
		require.Equal(t, false, anna.Get(one).Value("isActive"))
		require.Equal(t, true, stan.Get(foreign).Value("isActive"))
		before := anna.Get(two).String("updatedAt")
		anna.Do("PATCH", one, map[string]any{"isActive": true}).Want(200)
		require.Equal(t, 2.0, anna.Do("POST", "/skills/bulk/deactivate", list).Want(200).Value("count"), "also what was off already")
		require.Equal(t, before, anna.Get(two).String("updatedAt"), "which does not change")
		require.Equal(t, 2.0, anna.Do("POST", "/skills/bulk/activate", list).Want(200).Value("count"))
		require.Equal(t, 0.0, anna.Do("POST", "/skills/bulk/activate", map[string]any{"skillIds": []string{}}).Want(200).Value("count"))
		for _, call := range []string{"POST /skills/bulk/activate", "POST /skills/bulk/deactivate", "DELETE /skills/bulk", "POST /skills/bulk/delete"} {
			method, at, _ := strings.Cut(call, " ")
			for _, bad := range []any{`{}`, `{"skillIds": null}`, `{"skillIds": "x"}`, map[string]any{"skillIds": slices.Repeat([]string{"x"}, 101)}} {
				anna.Do(method, at, bad).Problem(400, "VALIDATION_ERROR").Field("skillIds")
			}
			anna.Do(method, at, `{"skillIds": [7]}`).Problem(400, "VALIDATION_ERROR")
			s.As("").Do(method, at, list).Problem(401, "UNAUTHENTICATED")
		}
		require.Equal(t, 2.0, anna.Do("DELETE", "/skills/bulk", list).Want(200).Value("count"))
		require.Equal(t, 0.0, anna.Do("POST", "/skills/bulk/delete", list).Want(200).Value("count"))
		anna.Get(one).Problem(404, "SKILL_NOT_FOUND")
		stan.Get(foreign).Want(200)
	})
	t.Run("TemplatesAreServed", func(t *testing.T) {
		all := client.JSON[struct {
			Templates []struct{ ID, PromptTemplate, SuggestedModel string }
		}](anna.Get("/skills/templates").Want(200)).Templates
		require.Len(t, all, 8)
		for _, x := range all {
			require.Contains(t, x.PromptTemplate, "{{")
			require.NotContains(t, x.PromptTemplate, "<<")
			require.Equal(t, "claude-3-5-sonnet-20241022", x.SuggestedModel)
		}
		count := func(query string) int {
			return len(anna.Get("/skills/templates?" + query).Want(200).Value("templates").([]any))
		}
		require.Equal(t, 2, count("category=transformation"))
		require.Equal(t, 1, count("search=SQL"))
		require.Equal(t, 2, count("search=development"))
		require.Equal(t, 0, count("search=%25"))
		require.Equal(t, 0, count("search=sql&category=analysis"))
		anna.Get("/skills/templates?category=x").Problem(400, "VALIDATION_ERROR").Field("category")
		anna.Get("/skills/templates?search="+strings.Repeat("x", 201)).Problem(400, "VALIDATION_ERROR").Field("search")
	})
}

// TestSkillLists reads with people of its own, whose skills no other test makes.
func TestSkillLists(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	list := func(t *testing.T, p *client.Person, query string) skillPage {
		return client.JSON[skillPage](p.In(t).Get("/skills" + query).Want(200))
	}
	require.Equal(t, skillPage{Skills: []Skill{}, Page: 1, PageSize: 20}, list(t, anna, ""))
	for i := range 7 {
		Create(t, anna, fmt.Sprintf("Number %d", i), "description", fmt.Sprintf("100%% of _%d", i), "category", []string{"analysis", "custom"}[i%2])
	}
	Publish(t, anna, "/skills/"+find(t, anna, "Number 3").ID)

	t.Run("TheLatestChangedComesFirst", func(t *testing.T) {
		require.Equal(t, []string{"Number 3", "Number 6", "Number 5", "Number 4", "Number 2", "Number 1", "Number 0"}, names(list(t, anna, "").Skills))
		anna.In(t).Do("PATCH", "/skills/"+find(t, anna, "Number 0").ID, map[string]any{"name": "Number 0", "isActive": true}).Want(200)
		require.Equal(t, "Number 3", list(t, anna, "").Skills[0].Name, "an update without a change moves nothing")
		anna.In(t).Do("PATCH", "/skills/"+find(t, anna, "Number 0").ID, map[string]any{"isActive": false}).Want(200)
		require.Equal(t, "Number 0", list(t, anna, "").Skills[0].Name)
	})
	t.Run("PagesAreWhole", func(t *testing.T) {
		seen := []string{}
		for page := 1; page <= 4; page++ {
			got := list(t, anna, fmt.Sprintf("?page=%d&pageSize=3", page))
			require.Equal(t, 7, got.Total)
			require.Equal(t, page, got.Page)
			require.Equal(t, page*3 < 7, got.HasMore)
			seen = append(seen, names(got.Skills)...)
		}
		require.Equal(t, names(list(t, anna, "?pageSize=100").Skills), seen)
		require.Equal(t, 100, list(t, anna, "?pageSize=500").PageSize, "clamped, and said so")
		require.Equal(t, 100, list(t, anna, "?pageSize=9223372036854775807").PageSize)
		require.Empty(t, list(t, anna, "?page=9223372036854775807&pageSize=100").Skills)
		require.Len(t, list(t, anna, "?pageSize=7").Skills, 7)
		require.False(t, list(t, anna, "?pageSize=7").HasMore)
	})
	t.Run("FiltersAdd", func(t *testing.T) {
		for query, want := range map[string]int{"?category=analysis": 4, "?category=custom": 3, "?category=automation": 0, "?isActive=false": 1, "?isActive=true": 6,
			"?search=": 7, "?search=number": 7, "?search=NUMBER%203": 1, "?search=%25": 7, "?search=_3": 1, "?search=0%25%20of": 7, "?search=N_mber": 0, "?search=%5C": 0,
			"?search=" + url.QueryEscape("'; drop table x; --"): 0, "?category=analysis&isActive=false&search=_0": 1, "?category=custom&isActive=false": 0} {
			got := list(t, anna, query)
			require.Equal(t, want, got.Total, query)
			require.Len(t, got.Skills, want, query)
		}
	})
	t.Run("PublicOnesOnRequest", func(t *testing.T) {
		require.Equal(t, 0, list(t, stan, "").Total)
		got := list(t, stan, "?includePublic=true&pageSize=100")
		require.Equal(t, 11, got.Total, "ten of the community and one of Anna's")
		require.Equal(t, "Number 3", got.Skills[0].Name)
		require.Equal(t, 17, list(t, anna, "?includePublic=true").Total, "her own public one once")
		require.Equal(t, 0, list(t, stan, "?includePublic=true&isActive=false").Total)
		require.Equal(t, 11, list(t, stan, "?includePublic=true&isActive=true").Total)
		require.Equal(t, 1, list(t, stan, "?includePublic=true&search=number").Total)
		seen := map[string]bool{}
		for page := 1; page <= 3; page++ {
			for _, x := range list(t, stan, fmt.Sprintf("?includePublic=true&pageSize=4&page=%d", page)).Skills {
				seen[x.ID] = true
				require.True(t, x.IsPublic && x.IsActive)
			}
		}
		require.Len(t, seen, 11)
	})
	t.Run("SeedsAreWhole", func(t *testing.T) {
		seeds := 0
		for _, x := range list(t, stan, "?includePublic=true&pageSize=100").Skills {
			if x.UserID == anna.ID {
				continue
			}
			seeds++
			require.NotContains(t, x.PromptTemplate, "<<")
			require.Zero(t, x.ExecutionCount+x.StarCount+x.RatingCount)
			for _, field := range x.InputSchema {
				require.Contains(t, x.PromptTemplate, "{{"+field["name"].(string)+"}}")
				require.Equal(t, true, field["required"])
			}
			require.NotEmpty(t, x.InputSchema)
		}
		require.Equal(t, 10, seeds)
	})
	t.Run("NonsenseIsNamed", func(t *testing.T) {
		for query, field := range map[string]string{"page=0": "page", "page=-1": "page", "page=x": "page", "page=1.5": "page", "page=99999999999999999999": "page", "pageSize=0": "pageSize",
			"pageSize=-5": "pageSize", "pageSize=ten": "pageSize", "isActive=maybe": "isActive", "includePublic=2": "includePublic", "category=x": "category", "search=%00": "search",
			"search=" + strings.Repeat("x", 201): "search"} {
			anna.In(t).Get("/skills?"+query).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		path := "/skills/" + find(t, anna, "Number 1").ID
		for query, field := range map[string]string{"limit=0": "limit", "limit=x": "limit", "offset=-1": "offset", "offset=x": "offset"} {
			anna.In(t).Get(path+"/executions?"+query).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		anna.In(t).Get(path + "/executions?limit=1000&offset=9223372036854775807").Want(200)
	})
}

func TestSkillsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")

	t.Run("FiftyImportsGetFiftyNames", func(t *testing.T) {
		file := map[string]any{"version": "1.0", "skill": map[string]any{"name": strings.Repeat("n", 100), "promptTemplate": prompt}}
		got := statuses(client.AtOnce(t, 50, func(int) (client.Response, error) { return anna.Try("POST", "/skills/import", file) }))
		require.Equal(t, map[int]int{201: 50}, got)
		require.Equal(t, 50, testdb.Value[int](s.DB, "select count(distinct private.folded(name)) from public.skills where user_id = $1", anna.ID))
		require.Equal(t, 100, testdb.Value[int](s.DB, "select max(char_length(name)) from public.skills where user_id = $1", anna.ID))
	})
	t.Run("FiftyStarsCountFifty", func(t *testing.T) {
		path := Create(t, anna, "Popular")
		Publish(t, anna, path)
		people := make([]*client.Person, 50)
		for i := range people {
			people[i] = s.SignUp("Fan")
		}
		got := statuses(client.AtOnce(t, 50, func(i int) (client.Response, error) { return people[i].Try("PUT", path+"/star", nil) }))
		require.Equal(t, map[int]int{200: 50}, got)
		require.Equal(t, 50.0, anna.In(t).Get(path).Value("starCount"))
	})
	t.Run("NoChangeIsLost", func(t *testing.T) {
		path := Create(t, anna, "Changed")
		members := []map[string]any{{"description": "new"}, {"category": "analysis"}, {"outputFormat": "html"}, {"isActive": false}, {"temperature": 0.5}}
		got := statuses(client.AtOnce(t, len(members), func(i int) (client.Response, error) { return anna.Try("PATCH", path, members[i]) }))
		require.Equal(t, map[int]int{200: len(members)}, got)
		now := client.JSON[Skill](anna.In(t).Get(path))
		require.Equal(t, []any{"new", "analysis", "html", false, 0.5}, []any{now.Description, now.Category, now.OutputFormat, now.IsActive, now.Parameters["temperature"]})
	})
}

// statuses counts the answers by their status.
func statuses(answers []client.Response) map[int]int {
	counts := map[int]int{}
	for _, r := range answers {
		counts[r.Status]++
	}
	return counts
}

func keys(m map[string]any) []string {
	all := []string{}
	for k := range m {
		all = append(all, k)
	}
	return all
}

// find gives the person's skill of that name.
func find(t *testing.T, p *client.Person, name string) Skill {
	t.Helper()
	for _, x := range client.JSON[skillPage](p.In(t).Get("/skills?pageSize=100&search=" + url.QueryEscape(name)).Want(http.StatusOK)).Skills {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("there is no skill %q", name)
	return Skill{}
}
