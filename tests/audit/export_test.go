package audit

import (
	"encoding/csv"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/testdb"
)

func TestAnExportHasWhatTheListHas(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.plan(l.anna, "enterprise")
	l.DB.Exec("delete from public.audit_log where organization_id = $1", l.anna.OrgID)
	l.DB.Exec("update public.users set timezone = 'Asia/Tokyo' where id = $1", l.anna.ID)
	l.DB.Exec("update public.users set first_name = 'Jürgen', last_name = 'Ångström' where id = $1", l.ben.ID)
	gone := l.SignUp("Gone")
	l.write(0.1, gone.ID, "user.login", "=HYPERLINK(\"http://evil\")")
	l.DB.Exec("update public.audit_log set user_id = null where user_id = $1 and organization_id = $2", gone.ID, l.anna.OrgID)
	l.write(0.2, "", "system.backup_created", "A backup, \"quoted\",\nin two lines.")
	l.write(0.3, l.ben.ID, "context.updated", "-1 日本語")
	l.DB.Exec("update public.audit_log set ip_address = null, created_at = '2026-01-05 14:04:05Z' where user_id = $1", l.ben.ID)
	l.DB.Exec(`update public.audit_log set metadata = '{"none": null}', changes = '[{"field": "name", "oldValue": null, "newValue": "x"}]' where user_id = $1`, l.ben.ID)
	export := func(p *client.Client, path, format string, filters map[string]any) client.Response {
		r := p.Do("POST", path, map[string]any{"format": format, "filters": filters}).Want(200)
		require.Equal(t, `attachment; filename="audit-log-`+time.Now().In(time.FixedZone("JST", 9*3600)).Format("2006-01-02")+`.`+format+`"`, r.Header.Get("Content-Disposition"))
		return r
	}

	all := export(l.anna.Client, "/security/audit-log/export", "csv", map[string]any{})
	require.Equal(t, "text/csv; charset=utf-8", all.Header.Get("Content-Type"))
	require.True(t, strings.HasPrefix(string(all.Body), "Timestamp,User,Email,Category,Event,Description,IP Address\n\""), "%s", all.Body)
	require.Contains(t, string(all.Body), `,"'=HYPERLINK(""http://evil"")",`)
	rows, err := csv.NewReader(strings.NewReader(string(all.Body))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"Deleted user", "-", "user", "user.login", "'=HYPERLINK(\"http://evil\")", "192.0.2.7"},
		{"System", "-", "system", "system.backup_created", "A backup, \"quoted\",\nin two lines.", "192.0.2.7"},
		{"Jürgen Ångström", l.ben.Email, "context", "context.updated", "'-1 日本語", "-"},
	}, [][]string{rows[1][1:], rows[2][1:], rows[3][1:]})
	require.Equal(t, "Jan 5, 2026, 11:04:05 PM", rows[3][0], "in the requester's zone")

	asJSON := export(l.anna.Client, "/audit-log/export", "json", map[string]any{"userId": l.ben.ID})
	require.Equal(t, "application/json", asJSON.Header.Get("Content-Type"))
	require.Equal(t, client.JSON[page](l.anna.Get("/security/audit-log?userId="+l.ben.ID).Want(200)).Entries, client.JSON[[]entry](asJSON))
	require.True(t, strings.HasPrefix(string(asJSON.Body), "[\n  {\n    \"id\": "), "%s", asJSON.Body)
	require.Equal(t, "[]\n", string(export(l.anna.Client, "/security/audit-log/export", "json", map[string]any{"userId": l.stan.ID}).Body))

	pdf := export(l.anna.Client, "/security/audit-log/export", "pdf", map[string]any{})
	require.Equal(t, "application/pdf", pdf.Header.Get("Content-Type"))
	require.True(t, strings.HasPrefix(string(pdf.Body), "%PDF-"))
	told := client.JSON[page](l.anna.Get("/security/audit-log?eventTypes=system.export_completed").Want(200))
	require.Equal(t, []string{"Exported 6 entries of the audit log as PDF.", "Exported 0 entries of the audit log as JSON.", "Exported 1 entries of the audit log as JSON.",
		"Exported 3 entries of the audit log as CSV."}, told.descriptions(), "the trail tells of each, with its numbers")
	require.Equal(t, map[string]any{"format": "pdf", "entries": 6.0}, told.Entries[0].Metadata)

	// Which roles may export, and what each plan opens.
	l.ben.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv"}).Problem(403, "FORBIDDEN")
	l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "xml"}).Problem(400, "VALIDATION_ERROR").Field("format")
	l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv", "schedule": "hourly"}).Problem(400, "VALIDATION_ERROR").Field("schedule")
	for _, plan := range []string{"free", "pro", "teams"} {
		l.plan(l.anna, plan)
		l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv"}).Want(200)
		l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "json"}).Want(200)
		l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "pdf"}).Problem(403, "PLAN_UPGRADE_REQUIRED").Field("format")
		r := l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv", "schedule": "daily"}).Problem(403, "PLAN_UPGRADE_REQUIRED").Field("schedule")
		require.Equal(t, "enterprise", r.String("details.requiredPlan"))
		l.anna.Get("/security/audit-log/export-schedules").Problem(403, "PLAN_UPGRADE_REQUIRED")
	}
}

// fill writes n entries of today into Anna's organization.
func (l *lab) fill(n int) {
	l.DB.Exec(`insert into public.audit_log (organization_id, user_id, event_type, description, created_at)
		select $1, $2, 'context.updated', 'Changed project number ' || g || '.', now() - make_interval(secs => g * 0.01) from generate_series(1, $3) g`, l.anna.OrgID, l.anna.ID, n)
}

func TestALargeExportIsWholeOrBrokenOff(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.plan(l.anna, "enterprise")
	l.DB.Exec("delete from public.audit_log where organization_id = $1", l.anna.OrgID)
	l.fill(50000)
	r := l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv"}).Want(200)
	require.Equal(t, 50001, strings.Count(string(r.Body), "\n"))
	seen := map[string]bool{}
	for _, line := range strings.Split(string(r.Body), "\n") {
		seen[line] = true
	}
	require.Len(t, seen, 50002, "no entry twice")
	// The export writes an entry itself, which is the one too many.
	large := l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv", "schedule": "daily"}).Problem(409, "EXPORT_TOO_LARGE")
	require.Equal(t, 50001.0, large.Value("details.entries"))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*) from public.audit_schedules"), "what was refused is not repeated")
	l.anna.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv", "filters": map[string]any{"eventCategory": "context"}}).Want(200)

	// A session that ends while its file is being written: the rest of the file is not sent.
	request, err := http.NewRequestWithContext(t.Context(), "POST", l.BaseURL+"/api/v1/security/audit-log/export", strings.NewReader(`{"format": "json", "filters": {"eventCategory": "context"}}`))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+l.anna.Token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, 200, answer.StatusCode)
	l.DB.Exec("update private.sessions set revoked_at = now(), revoked_reason = 'terminated' where user_id = $1", l.anna.ID)
	_, err = io.Copy(io.Discard, answer.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a file that is not whole does not look whole")
}
