package audit

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
)

func TestTheAuditLogIsReadByItsFilters(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.plan(l.anna, "enterprise")
	l.DB.Exec("delete from public.audit_log where organization_id = $1", l.anna.OrgID)
	l.write(40, l.anna.ID, "context.created", "Created project \"Zürich 100%\".")
	l.write(10, l.ben.ID, "context.updated", "Changed project \"Alpha\".")
	l.write(10, "", "system.backup_created", "A backup was made.")
	l.write(5, l.ben.ID, "user.login", "Signed in.")
	l.write(1, l.ada.ID, "team.role_changed", "Made somebody a viewer.")
	l.write(0.5, l.ben.ID, "user.logout", "Signed out.")
	day := func(ago int) string { return time.Now().UTC().AddDate(0, 0, -ago).Format("2006-01-02") }
	at := func(d string) string {
		p := client.JSON[page](l.anna.Get("/security/audit-log?searchQuery=" + url.QueryEscape(d)).Want(200))
		return p.Entries[0].CreatedAt
	}

	for name, c := range map[string]struct {
		query string
		want  []string
	}{
		"Everything is newest first":       {"", []string{"Signed out.", "Made somebody a viewer.", "Signed in.", "A backup was made.", "Changed project \"Alpha\".", "Created project \"Zürich 100%\"."}},
		"A page begins at its offset":      {"limit=2&offset=1", []string{"Made somebody a viewer.", "Signed in."}},
		"An offset beyond the end is none": {"offset=6", []string{}},
		"A person's are theirs":            {"userId=" + l.ben.ID, []string{"Signed out.", "Signed in.", "Changed project \"Alpha\"."}},
		"A stranger's are none":            {"userId=" + l.stan.ID, []string{}},
		"What is no id matches nothing":    {"userId=nobody", []string{}},
		"An empty id is no filter":         {"userId=&limit=1", []string{"Signed out."}},
		"A category":                       {"eventCategory=user", []string{"Signed out.", "Signed in."}},
		"One type":                         {"eventTypes=user.login", []string{"Signed in."}},
		"Of several types each":            {"eventTypes=user.login,context.created", []string{"Signed in.", "Created project \"Zürich 100%\"."}},
		"Types outside the category":       {"eventTypes=user.login,context.created&eventCategory=context", []string{"Created project \"Zürich 100%\"."}},
		"A category is no type":            {"eventTypes=user", []string{}},
		"An unknown type matches nothing":  {"eventTypes=user.flown", []string{}},
		"All must fit":                     {"userId=" + l.ben.ID + "&eventCategory=user&searchQuery=out", []string{"Signed out."}},
		"A search in descriptions":         {"searchQuery=ALPHA", []string{"Changed project \"Alpha\"."}},
		"A search takes percents as such":  {"searchQuery=100%25", []string{"Created project \"Zürich 100%\"."}},
		"A search folds letters":           {"searchQuery=zÜRICH", []string{"Created project \"Zürich 100%\"."}},
		"A search in names":                {"searchQuery=ada+te", []string{"Made somebody a viewer."}},
		"A search in addresses":            {"searchQuery=" + url.QueryEscape(l.ada.Email), []string{"Made somebody a viewer."}},
		"A search in types":                {"searchQuery=backup_", []string{"A backup was made."}},
		"A search that is blank":           {"searchQuery=++&limit=1", []string{"Signed out."}},
		"A day from is its beginning":      {"dateFrom=" + day(1) + "&dateTo=" + day(1), within(l, t, day(1))},
		"Up to a day includes it":          {"dateTo=" + day(40), []string{"Created project \"Zürich 100%\"."}},
		"Bounds belong to it":              {"dateFrom=" + at("Signed in.") + "&dateTo=" + at("Signed in."), []string{"Signed in."}},
	} {
		got := client.JSON[page](l.anna.Get("/security/audit-log?" + c.query).Want(200))
		require.Equal(t, c.want, got.descriptions(), name)
		require.Equal(t, 6, got.UnfilteredCount, name)
		require.Equal(t, got, client.JSON[page](l.ada.Get("/audit-log?"+c.query).Want(200)), "the alias, and an admin: %s", name)
	}
	counted := client.JSON[page](l.anna.Get("/security/audit-log?userId=" + l.ben.ID + "&limit=1").Want(200))
	require.Equal(t, []any{3, 6, true}, []any{counted.TotalCount, counted.UnfilteredCount, counted.HasMore})

	for name, c := range map[string]struct{ query, field string }{
		"An unknown category": {"eventCategory=billing", "eventCategory"}, "No date": {"dateFrom=yesterday", "dateFrom"},
		"A day that is none": {"dateTo=2026-02-30", "dateTo"}, "A limit of nothing": {"limit=0", "limit"}, "A negative offset": {"offset=-1", "offset"},
	} {
		l.anna.In(t).Get("/security/audit-log?"+c.query).Problem(400, "VALIDATION_ERROR").Field(c.field)
		_ = name
	}
	require.Len(t, client.JSON[page](l.anna.Get("/security/audit-log?limit=1000").Want(200)).Entries, 6, "a larger limit is 100")

	for _, p := range []*client.Client{l.ben.Client, l.stan.Client} {
		if p == l.ben.Client {
			p.Get("/security/audit-log").Problem(403, "FORBIDDEN")
			p.Get("/security/audit-log/users").Problem(403, "FORBIDDEN")
			continue
		}
		for _, e := range client.JSON[page](p.Get("/security/audit-log").Want(200)).Entries {
			require.Equal(t, l.stan.OrgID, e.TeamID)
		}
	}
	l.As("").Get("/security/audit-log").Problem(401, "UNAUTHENTICATED")
}

// within are the descriptions of a UTC day. Entries of some hours ago may or may not belong to it.
func within(l *lab, t *testing.T, day string) []string {
	t.Helper()
	texts := []string{}
	for _, e := range client.JSON[page](l.anna.Get("/security/audit-log").Want(200)).Entries {
		if e.CreatedAt[:10] == day {
			texts = append(texts, e.Description)
		}
	}
	return texts
}
