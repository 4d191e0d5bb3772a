package notifications

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// Times are stored to the microsecond and shown to the millisecond. A time that a client was shown finds the row, although digits were cut
// off.
func TestARowIsFoundByItsOwnShownTime(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	skill := anna.Do("POST", "/skills", map[string]any{"name": "S", "promptTemplate": "Say something about {{topic}}"}).Want(201).String("id")
	conn := s.DB.Connect("postgres")
	_, err := conn.Exec(t.Context(), "set session_replication_role = replica")
	require.NoError(t, err)
	for _, micros := range []string{"376999", "377000", "377001", "377500", "377999", "378000"} {
		_, err = conn.Exec(t.Context(), `insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, input, status, cost_cents, executed_at, completed_at)
			select $1, $2, $3, 'manual', '{}', 'completed', 1, at, at from (select ('2026-03-04T07:01:47.' || $4 || 'Z')::timestamptz as at) x`, anna.ID, anna.OrgID, skill, micros)
		require.NoError(t, err)
	}
	const before, own, behind, fine, zoned = "2026-03-04T07:01:47.376Z", "2026-03-04T07:01:47.377Z", "2026-03-04T07:01:47.378Z", "2026-03-04T07:01:47.377999999Z", "2026-03-04T08:01:47.377+01:00"
	total := map[string]func(query string) int{
		"/executions": func(query string) int { return int(anna.Get("/executions" + query).Want(200).Value("total").(float64)) },
		"/executions/stats": func(query string) int {
			return int(anna.Get("/executions/stats" + query).Want(200).Value("totalExecutions").(float64))
		},
		"/executions/cost-breakdown": func(query string) int {
			return int(anna.Get("/executions/cost-breakdown" + query).Want(200).Value("totalCostCents").(float64))
		},
		"/executions/export": func(query string) int {
			return strings.Count(anna.Get("/executions/export"+query).Want(200).String("data"), `"executedAt"`)
		},
		"/executions/export as csv": func(query string) int {
			return strings.Count(anna.Get("/executions/export"+query+"&format=csv").Want(200).String("data"), "\n")
		},
	}
	for path, count := range total {
		for _, c := range []struct {
			start, end string
			want       int
		}{{own, own, 4}, {own, "", 5}, {"", own, 5}, {before, before, 1}, {behind, behind, 1}, {before, behind, 6}, {zoned, zoned, 4}, {fine, fine, 4}, {behind, own, 0}} {
			require.Equal(t, c.want, count("?startDate="+url.QueryEscape(c.start)+"&endDate="+url.QueryEscape(c.end)), "%s from %s to %s", path, c.start, c.end)
		}
	}

	for _, micros := range []string{"377000", "377500", "377999", "378000"} {
		_, err = conn.Exec(t.Context(), `insert into public.notifications (user_id, organization_id, type, title, created_at, due_at)
			select $1, $2, 'task_completion', 'n', at, at from (select ('2026-03-04T07:01:47.' || $3 || 'Z')::timestamptz as at) x`, anna.ID, anna.OrgID, micros)
		require.NoError(t, err)
	}
	for since, want := range map[string]int{before: 4, own: 1, fine: 1, zoned: 1, behind: 0} {
		require.Equal(t, want, notifications(anna, "?since="+url.QueryEscape(since)).Total, since)
	}

	// The column stays bare, so the index on it gives the range.
	plan := testdb.Value[string](s.DB, `select string_agg(l, E'\n') from (select private.execution_filter('{"startDate": "`+own+`", "endDate": "`+own+`"}') as l) x`)
	require.Contains(t, plan, "e.executed_at >= '")
	require.Contains(t, plan, "e.executed_at < '")
}

// A form sends all of its fields, the empty ones too: an empty field is no filter, of whatever type.
func TestAnEmptyParameterIsNone(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	anna.Do("POST", "/skills", map[string]any{"name": "S", "promptTemplate": "Say something about {{topic}}"}).Want(201)
	for path, parameters := range map[string][]string{
		"/skills":            {"category", "isActive", "search", "page", "pageSize", "includePublic"},
		"/habits":            {"skillId", "isActive", "page", "pageSize"},
		"/reflexes":          {"skillId", "triggerType", "isActive", "page", "pageSize"},
		"/projects":          {"page", "pageSize", "filter", "sort", "search", "status", "type", "starred", "archived", "label", "organizationId"},
		"/notifications":     {"page", "limit", "offset", "unread", "type", "since"},
		"/executions":        {"skillId", "status", "executionType", "startDate", "endDate", "limit", "offset"},
		"/executions/export": {"format", "skillId", "status", "executionType", "startDate", "endDate"},
		"/executions/stats":  {"skillId", "startDate", "endDate"},
		"/stats/skills":      {"period"},
		"/worktrees":         {"projectIds"},
		"/realtime/events":   {"room", "after", "limit", "wait"},
	} {
		whole := anna.Get(path).Want(200)
		for _, name := range append(parameters, strings.Join(parameters, "=&")) {
			got := anna.Get(path + "?" + name + "=").Want(200)
			require.JSONEq(t, string(whole.Body), string(got.Body), "%s?%s=", path, name)
		}
	}
	for query, field := range map[string]string{
		"/skills?isActive=1": "isActive", "/skills?isActive=0": "isActive", "/skills?includePublic=1": "includePublic", "/habits?isActive=1": "isActive",
		"/notifications?unread=1": "unread", "/projects?starred=0": "starred", "/projects?archived=TRUE": "archived", "/reflexes?isActive=yes": "isActive", "/skills?isActive=%20": "isActive",
		"/skills?isActive=&isActive=true": "isActive", "/skills?page=%20": "page", "/skills?category=none": "category",
	} {
		anna.Get(query).Problem(400, "VALIDATION_ERROR").Field(field)
	}
	require.Equal(t, 1, int(anna.Get("/skills?isActive=true").Want(200).Value("total").(float64)))
	// A queried name may be empty.
	anna.Get("/projects/check-name?name=").Want(200)
	anna.Get("/projects/check-name").Problem(400, "VALIDATION_ERROR").Field("name")
}
