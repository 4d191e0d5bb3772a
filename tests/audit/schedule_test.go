package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/mail"
	"kijko/worker/mail/mailtest"
	"kijko/worker/storage"
)

// mailLab is a lab that can send mail, on the largest plan.
func mailLab(t *testing.T) (*lab, *mailtest.Server) {
	t.Helper()
	server := mailtest.New(t, mailtest.Options{})
	l := newLab(t, func(c *config.Config) {
		c.SMTPHost, c.SMTPPort = server.SMTP()
		c.SMTPTLS, c.SMTPFrom, c.APIURL = mail.None, "Kijko <mail@kijko.test>", "http://api.kijko.test"
	})
	l.plan(l.anna, "enterprise")
	l.eventually(t, "the server says whether it can send mail", "select exists (select from private.installation where key = 'mail' and value = 'true')")
	return l, server
}

func (l *lab) eventually(t *testing.T, what, sql string, args ...any) {
	t.Helper()
	pool := l.DB.Pool("postgres")
	require.Eventually(t, func() bool {
		var so bool
		return pool.QueryRow(t.Context(), sql, args...).Scan(&so) == nil && so
	}, 20*time.Second, 20*time.Millisecond, what)
}

// schedules makes a repeated export and gives its id.
func (l *lab) schedules(p *client.Person, body map[string]any) string {
	p.Do("POST", "/security/audit-log/export", body).Want(200)
	return testdb.Value[string](l.DB, "select id::text from public.audit_schedules order by created_at desc limit 1")
}

// due makes a schedule due now, and waits until its job has run.
func (l *lab) due(t *testing.T, id string) {
	t.Helper()
	l.DB.Exec("update public.audit_schedules set next_run_at = now() where id = $1", id)
	l.DB.Exec("update private.schedules set run_at = now() where name = 'audit.export'")
	l.eventually(t, "the schedule was found due", "select next_run_at > now() from public.audit_schedules where id = $1", id)
	l.eventually(t, "the job has been", "select not exists (select from jobs.stored_jobs where job_type = 'audit.export') or exists (select from jobs.dead_letters)")
}

var linked = regexp.MustCompile(`http://api\.kijko\.test/api/v1(/security/audit-log/export-files/[0-9a-f-]{36}\?token=3?D?([\w-]{43}))`)

// link finds the link in a mail. The mail's lines may be folded.
func link(t *testing.T, m mailtest.Mail) string {
	t.Helper()
	found := linked.FindStringSubmatch(strings.ReplaceAll(strings.ReplaceAll(m.Data, "=\r\n", ""), "=3D", "="))
	require.NotNil(t, found, "%s", m.Data)
	return found[1]
}

// exports are the mails about exports.
func exports(server *mailtest.Server) []mailtest.Mail {
	return slices.DeleteFunc(server.Mails(), func(m mailtest.Mail) bool { return !strings.Contains(m.Data, "export of the audit log") })
}

// stored are the keys of all content.
func stored(t *testing.T, l *lab) []string {
	t.Helper()
	var keys []string
	root := strings.TrimPrefix(l.Config.Storage(), "file://")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			key, _ := filepath.Rel(root, path)
			keys = append(keys, key)
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}))
	return keys
}

func TestScheduledExports(t *testing.T) {
	t.Parallel()
	l, server := mailLab(t)
	worker.Start(t, l.Stack)
	l.DB.Exec("update public.users set timezone = 'Europe/Amsterdam' where id = $1", l.ada.ID)
	id := l.schedules(l.ada, map[string]any{"format": "csv", "filters": map[string]any{"eventCategory": "user"}, "schedule": "weekly"})
	type schedule struct {
		ID, Format, Schedule, NextRunAt, CreatedAt string
		Filters                                    map[string]any
	}
	made := client.JSON[[]schedule](l.anna.Get("/security/audit-log/export-schedules").Want(200))
	require.Len(t, made, 1)
	require.Equal(t, schedule{ID: id, Format: "csv", Schedule: "weekly", Filters: map[string]any{"eventCategory": "user"}, NextRunAt: made[0].NextRunAt, CreatedAt: made[0].CreatedAt}, made[0])
	zone, err := time.LoadLocation("Europe/Amsterdam")
	require.NoError(t, err)
	next, err := time.Parse(time.RFC3339, made[0].NextRunAt)
	require.NoError(t, err)
	in := time.Now().In(zone)
	require.True(t, time.Date(in.Year(), in.Month(), in.Day()+7, 6, 0, 0, 0, zone).Equal(next), "a week from now, at six in the morning of Amsterdam: %s", made[0].NextRunAt)
	l.ben.Get("/security/audit-log/export-schedules").Problem(403, "FORBIDDEN")
	l.stan.Do("DELETE", "/security/audit-log/export-schedules/"+id, nil).Problem(404, "NOT_FOUND")

	l.due(t, id)
	l.eventually(t, "the mail is sent", "select exists (select from private.mails where kind = 'audit_export' and sent_at is not null)")
	require.Len(t, exports(server), 1)
	require.Equal(t, l.ada.Email, exports(server)[0].To)
	path := link(t, exports(server)[0])
	file := l.As("").Get(path).Want(200)
	require.Equal(t, "text/csv; charset=utf-8", file.Header.Get("Content-Type"))
	require.Contains(t, file.Header.Get("Content-Disposition"), ".csv")
	require.True(t, strings.HasPrefix(string(file.Body), "Timestamp,User,"))
	require.Contains(t, string(file.Body), `"user.login"`)
	require.NotContains(t, string(file.Body), `"system.`)
	told := client.JSON[page](l.anna.Get("/security/audit-log?eventTypes=system.export_completed&userId=" + l.ada.ID).Want(200))
	require.Equal(t, "weekly", told.Entries[0].Metadata["schedule"], "the trail tells of it, in the name of who made the schedule")
	require.Zero(t, testdb.Value[int](l.DB, "select count(*) from private.mails where kind = 'audit_export' and (body_text like '%token%' or body_html like '%token%')"), "no link stays in the outbox")

	// Only the link opens the file. It is dead after a day, and when its person may not read the log any more.
	l.As("").Get(strings.Split(path, "?")[0]).Problem(404, "NOT_FOUND")
	l.As("").Get(path[:len(path)-1]+"_").Problem(404, "NOT_FOUND")
	l.DB.Exec("update public.memberships set role = 'member' where user_id = $1 and organization_id = $2", l.ada.ID, l.anna.OrgID)
	l.As("").Get(path).Problem(404, "NOT_FOUND")
	l.due(t, id)
	l.DB.Exec("update public.memberships set role = 'admin' where user_id = $1 and organization_id = $2", l.ada.ID, l.anna.OrgID)
	l.plan(l.anna, "teams")
	l.As("").Get(path).Problem(404, "NOT_FOUND")
	l.due(t, id)
	l.plan(l.anna, "enterprise")
	l.As("").Get(path).Want(200)
	l.DB.Exec("update private.audit_files set expires_at = now() where schedule_id = $1", id)
	l.As("").Get(path).Problem(404, "NOT_FOUND")
	require.Len(t, exports(server), 1, "who lost the role, or the plan, gets nothing")
	require.Len(t, stored(t, l), 1)
	l.DB.Exec("select private.end_old(r, now() + interval '1 second', 1000) from private.retention_rules r where r.name = 'audit_files'")
	l.eventually(t, "the content goes", "select not exists (select from jobs.stored_jobs where job_type = 'blobs.delete')")
	require.Empty(t, stored(t, l))

	// Too many entries: a mail says so. A PDF arrives as a file.
	pdf := l.schedules(l.anna, map[string]any{"format": "pdf", "schedule": "daily"})
	l.due(t, pdf)
	l.eventually(t, "the mail is sent", "select count(*) = 2 from private.mails where kind = 'audit_export' and sent_at is not null")
	require.True(t, strings.HasPrefix(string(l.As("").Get(link(t, exports(server)[1])).Want(200).Body), "%PDF-"))
	l.fill(50001)
	l.due(t, pdf)
	l.eventually(t, "the mail is sent", "select count(*) = 3 from private.mails where kind = 'audit_export' and sent_at is not null")
	require.Contains(t, exports(server)[2].Data, "narrower filter")

	// Deleting a schedule ends its links and its files.
	path = link(t, exports(server)[1])
	l.ada.Do("DELETE", "/audit-log/export-schedules/"+pdf, nil).Want(204)
	l.As("").Get(path).Problem(404, "NOT_FOUND")
	l.eventually(t, "the content goes", "select not exists (select from jobs.stored_jobs where job_type = 'blobs.delete')")
	require.Empty(t, stored(t, l))
}

func TestAScheduledExportIsMailedOnceWhateverDies(t *testing.T) {
	t.Parallel()
	l, server := mailLab(t)
	id := l.schedules(l.anna, map[string]any{"format": "json", "schedule": "daily"})
	l.write(5, l.anna.ID, "user.login", "Signed in.")
	l.DB.Exec("update public.audit_schedules set next_run_at = now() - interval '3 days' where id = $1", id)
	l.DB.Exec("select private.queue_audit_exports()")
	l.DB.Exec("select private.queue_audit_exports()")
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from jobs.stored_jobs where job_type = 'audit.export'"), "three missed days are made up for by one run")
	arguments := testdb.Value[string](l.DB, "select convert_from(args, 'UTF8') from jobs.stored_jobs where job_type = 'audit.export'")

	// The state that a killed worker leaves: a noted key, content under it, and the job.
	store, err := storage.Open(t.Context(), l.Config.Storage())
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	key, err := storage.NewKey()
	require.NoError(t, err)
	l.DB.Exec("select private.begin_audit_export($1::jsonb || jsonb_build_object('key', $2::text))", arguments, key)
	_, err = store.PutAs(t.Context(), key, strings.NewReader("half a file"), 100)
	require.NoError(t, err)

	worker.Start(t, l.Stack)
	l.eventually(t, "the mail is sent", "select exists (select from private.mails where kind = 'audit_export' and sent_at is not null)")
	l.eventually(t, "what the dead one wrote goes", "select not exists (select from jobs.stored_jobs where job_type in ('blobs.delete', 'audit.export'))")
	require.Len(t, stored(t, l), 1)
	require.NotContains(t, stored(t, l), key)
	require.NotEmpty(t, client.JSON[[]entry](l.As("").Get(link(t, exports(server)[0])).Want(200)))

	// The first worker was only slow: its late result is refused. A job that is delivered twice finds nothing to do.
	require.False(t, testdb.Value[bool](l.DB, "select private.finish_audit_export($1::jsonb || jsonb_build_object('key', $2::text, 'token', 'x'))", arguments, key))
	l.DB.Exec("select private.enqueue('audit.export', $1::jsonb)", arguments)
	l.eventually(t, "the second job has been", "select not exists (select from jobs.stored_jobs)")
	require.Len(t, exports(server), 1)
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.audit_log where event_type = 'system.export_completed' and metadata ? 'schedule'"))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*) from jobs.dead_letters"))
}
