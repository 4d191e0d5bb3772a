package dataexports

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/mail"
	"kijko/worker/mail/mailtest"
)

// secretsOf are the values of all columns that hold secrets, hashes, tokens and storage keys, as they may stand in a text.
const secretsOf = `do $$
declare
  c record;
begin
  create table public.known_secrets (name text, value text);
  for c in
    select n.nspname, r.relname, a.attname, a.atttypid::regtype::text as type from pg_attribute a join pg_class r on r.oid = a.attrelid join pg_namespace n on n.oid = r.relnamespace
    where r.relkind in ('r', 'p') and n.nspname in ('public', 'private') and a.attnum > 0 and not a.attisdropped and a.atttypid in ('text'::regtype, 'bytea'::regtype)
      and a.attname ~ '(^sealed|_hash$|token$|storage_key$|secret|^digest$|^key$|external_key|provider_key|subject|^pem$)'
      and (r.relname, a.attname) not in (('user_settings', 'key'), ('worktree_branches', 'commit_hash'), ('mails', 'subject'), ('rate_counters', 'key'), ('installation', 'key'), ('idempotency_keys', 'key'))
  loop
    execute format('insert into public.known_secrets select %L, x from (select distinct %s as x from %I.%I) s where octet_length(x) >= 8', c.relname || '.' || c.attname,
      case c.type when 'bytea' then format('unnest(array[encode(%1$I, ''hex''), translate(encode(%1$I, ''base64''), E''\n='', '''')])', c.attname) else format('%I', c.attname) end,
      c.nspname, c.relname);
  end loop;
end $$`

// Nothing of another person and no secret is in any file, whatever rows there are.
func TestAnExportHasOnesOwnDataAndNoSecret(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	anna, ben, stan := l.anna, l.ben, l.stan
	l.furnish(t, anna, "Anna")
	l.furnish(t, stan, "Stan")

	// Ben and Anna work together: each hears of the other by name and address.
	project := anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	anna.Do("POST", "/files/upload", map[string]any{"projectId": project, "files": []any{map[string]string{"name": "mine.md", "content": "the words of Anna"}}}).Want(200)
	ben.Do("POST", "/files/upload", map[string]any{"projectId": project, "files": []any{map[string]string{"name": "theirs.md", "content": "the words of Ben"}}}).Want(200)
	anna.Do("POST", "/files/upload", map[string]any{"files": []any{map[string]string{"name": "staged.md", "content": "not attached"}}}).Want(200)
	anna.Do("POST", "/team/invitations", map[string]any{"email": "gus.invited@example.nl", "role": "member", "message": "Hello Gus"})
	member := testdb.Value[string](l.DB, "select id::text from public.memberships where organization_id = $1 and user_id = $2", anna.OrgID, ben.ID)
	anna.Do("PATCH", "/team/members/"+member, map[string]any{"role": "member"})
	l.DB.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, name, role, invited_by, accepted_at)
		select $1, $2, u.id, u.email, 'Ben Benvenuto', 'developer', $4, now() from public.users u where u.id = $3`, anna.OrgID, project, ben.ID, anna.ID)
	l.DB.Exec("select set_config('app.user_id', $1, false), set_config('app.org_id', $2, false)", anna.ID, anna.OrgID)
	l.DB.Exec(`select private.audit('context.shared', 'Shared with ' || u.email, jsonb_build_object('sharedWith', u.email, 'contextId', $1::text), null, $2, $3),
		private.audit('context.updated', 'Wrote to ' || u.email || ' and ' || a.email, jsonb_build_object('to', u.email), null, $2, $3),
		private.notify($3, 'team_activity', 'Ben Benvenuto joined', u.email, jsonb_build_object('email', u.email), '/team-invitation?token=letmein-letmein', false, null, u.id, $2),
		private.notify($3, 'context_update', 'Ben Benvenuto changed it', null, null, '/', false, null, u.id, $2),
		private.notify($3, 'system_update', 'All is well', 'for ' || a.email, null, '/', false, null, null, $2)
		from public.users u, public.users a where u.id = $4 and a.id = $3`, project, anna.OrgID, anna.ID, ben.ID)
	l.DB.Exec(secretsOf)
	worker.Start(t, l.Stack)

	archives := map[string]*archive{}
	for name, p := range map[string]*client.Person{"Anna": anna, "Ben": ben, "Stan": stan} {
		e := ask(p, map[string]any{"type": "full"})
		archives[name] = l.open(t, ready(t, p, e.ID))
	}
	names := map[string][]string{"Anna": {"Anna Aubergine", "Aubergine", anna.Email, "secret of Anna", "the words of Anna"}, "Ben": {"Benvenuto", "Ben Test", ben.Email, "the words of Ben"},
		"Stan": {"Stanislaus", stan.Email, "secret of Stan"}}
	secrets := list(t, l.DB, "select distinct value from public.known_secrets")
	require.Greater(t, len(secrets), 30)
	for name, a := range archives {
		text := a.text()
		for other, words := range names {
			for _, word := range words {
				if other != name {
					require.NotContains(t, text, word, "the file of %s names %s", name, other)
				}
			}
		}
		for _, word := range append(secrets, "gus.invited@example.nl", "Hello Gus", "letmein", "$argon2", "v1.00000000", "kijko_session") {
			at := strings.Index(text, word)
			require.Negative(t, at, "the file of %s has %q in %q, which is in %v", name, word, text[max(0, at-300):max(0, at)], list(t, l.DB, "select distinct name from public.known_secrets where value = "+quote(word)))
		}
		require.Equal(t, []string{"profile", "settings", "activity", "contexts", "integrations"}, a.manifest.Categories)
	}

	a := archives["Anna"]
	require.Equal(t, "1.0", a.manifest.FormatVersion)
	require.Equal(t, anna.ID, a.manifest.UserID)
	require.Contains(t, a.text(), "the words of Anna")
	require.Contains(t, a.text(), "not attached")
	require.Contains(t, a.text(), "secret of Anna")
	profile, contexts, activity := a.category(t, "profile.json"), a.category(t, "contexts.json"), a.category(t, "activity.json")
	require.Equal(t, []any{anna.Email, "Aubergine"}, []any{profile["users"].Records[0]["email"], profile["users"].Records[0]["lastName"]})
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, profile["users"].Records[0]["createdAt"])
	require.Len(t, profile["subscriptions"].Records, 1, "the owner has the subscription")
	for _, name := range []string{"subscriptions", "billing_details", "organizations"} {
		for _, r := range archives["Ben"].category(t, "profile.json")[name].Records {
			require.NotContains(t, fmt.Sprint(r), anna.OrgID, "a member has nothing of %s", name)
		}
	}
	require.Len(t, archives["Ben"].category(t, "profile.json")["memberships"].Records, 2, "Ben has an organization of his own and is a member of Anna's")
	var mine, theirs int
	for _, f := range contexts["project_files"].Records {
		mine += count(f["name"] == "mine.md")
		theirs += count(f["name"] == "theirs.md")
		if f["name"] == "mine.md" {
			require.Equal(t, "the words of Anna", string(a.files[fmt.Sprintf("files/%s/mine.md", f["id"])]), "the content has the id of its record")
		}
	}
	require.Equal(t, []int{1, 0}, []int{mine, theirs}, "one's own files, also in shared projects")
	var told []any
	for _, n := range activity["notifications"].Records {
		told = append(told, n["title"])
	}
	require.Contains(t, told, "All is well")
	audited := fmt.Sprint(activity["audit_log"].Records)
	require.Contains(t, audited, "Wrote to (address) and "+anna.Email)
	require.Contains(t, audited, project, "ids stay")
	// Every table with rows of Anna is in the file, and B26 and B27 say the same.
	counted := client.JSON[[]struct {
		Category, Table string
		RecordCount     int
	}](anna.Get("/gdpr/categories").Want(200))
	require.Equal(t, []any{"Profile", "users", 1}, []any{counted[0].Category, counted[0].Table, counted[0].RecordCount})
	answer := client.JSON[struct {
		ExportDate, UserID, FormatVersion string
		Data                              map[string]table
	}](anna.Do("POST", "/gdpr/export", nil).Want(200))
	// The worker works on rows of the seeds; these it leaves alone.
	for _, c := range counted {
		if slices.Contains(strings.Fields("users memberships user_settings user_personas chat_sessions chat_messages projects skills api_keys git_connections webhooks project_files"), c.Table) {
			got := a.category(t, strings.ToLower(c.Category)+".json")[c.Table]
			require.Equal(t, c.RecordCount, answer.Data[c.Table].RecordCount, c.Table)
			require.Len(t, got.Records, c.RecordCount, c.Table)
			require.Equal(t, sorted(got.Records), sorted(answer.Data[c.Table].Records), c.Table)
		}
	}
	require.Greater(t, len(counted), 45, "the seeds make rows nearly everywhere")
	told = nil
	for _, entry := range anna.Get("/security/audit-log?eventTypes=system.export_completed").Want(200).Value("entries").([]any) {
		told = append(told, entry.(map[string]any)["userId"])
	}
	require.Len(t, told, 3, "two exports of Anna, and Ben's, which he asked for here: %v", told)
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// sorted are the ids of records.
func sorted(records []map[string]any) (ids []string) {
	for _, r := range records {
		ids = append(ids, fmt.Sprint(r["id"], r["provider"], r["key"]))
	}
	slices.Sort(ids)
	return ids
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// A person has one export in two organizations, and what they made stays theirs when they leave.
func TestAnExportSpansOrganizations(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	here := l.ben.Do("POST", "/projects", map[string]any{"name": "In the organization of Anna"}).Want(201).String("project.id")
	own := l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]string{"org_id": testdb.Value[string](l.DB,
		"select organization_id::text from public.memberships where user_id = $1 and role = 'owner'", l.ben.ID)}).Want(200).Tokens().AccessToken)
	there := own.Do("POST", "/projects", map[string]any{"name": "In his own"}).Want(201).String("project.id")
	l.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2", l.ben.ID, l.anna.OrgID)
	id := own.Do("POST", "/data/export", map[string]any{"type": "selective", "categories": []string{"contexts", "profile"}}).Want(201).String("id")
	ben := &client.Person{Client: own}
	a := l.open(t, ready(t, ben, id))
	require.Equal(t, []string{"profile", "contexts"}, a.manifest.Categories)
	require.Len(t, a.files, 3)
	projects := fmt.Sprint(a.category(t, "contexts.json")["projects"].Records)
	require.Contains(t, projects, here)
	require.Contains(t, projects, there)
}

func TestTheFileOfAnExport(t *testing.T) {
	t.Parallel()
	server := mailtest.New(t, mailtest.Options{})
	l := newLab(t, func(c *config.Config) {
		c.SMTPHost, c.SMTPPort = server.SMTP()
		c.SMTPTLS, c.SMTPFrom, c.APIURL = mail.None, "Kijko <mail@kijko.test>", "http://api.kijko.test"
	})
	anna := l.anna
	stack.Eventually(t, "the server says whether it can send mail", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from private.installation where key = 'mail' and value = 'true')")
	})
	hook := testdb.Value[string](l.DB, `insert into public.webhooks (id, organization_id, created_by, name, endpoint_url, secret_end, events)
		values (gen_random_uuid(), $1, $2, 'Hook', 'https://hooks.invalid', '1234', '{export.completed}') returning id::text`, anna.OrgID, anna.ID)
	stop := worker.Start(t, l.Stack)
	asked := ask(anna, map[string]any{"type": "full", "categories": []string{"profile"}})
	require.Equal(t, []any{"full", "pending", 5, ""}, []any{asked.Type, asked.Status, len(asked.Categories), asked.FileURL})
	e := ready(t, anna, asked.ID)
	require.Equal(t, asked.RequestedAt, e.RequestedAt)
	require.True(t, strings.HasPrefix(e.FileURL, "http://api.kijko.test/api/v1/data/exports/"+e.ID+"/download?token="), e.FileURL)
	_, token, _ := strings.Cut(e.FileURL, "token=")
	require.Len(t, token, 43)

	// Only the link opens it. It says what it is, also without a body.
	path := link(t, e)
	anyone := l.As("")
	file := anyone.Get(path).Want(200)
	require.Regexp(t, `^attachment; filename="kijko-data-export-\d{4}-\d\d-\d\d\.zip"$`, file.Header.Get("Content-Disposition"))
	require.Equal(t, []string{fmt.Sprint(e.FileSize), "no-store"}, []string{file.Header.Get("Content-Length"), file.Header.Get("Cache-Control")})
	head, err := http.Head(l.BaseURL + "/api/v1" + path)
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	require.Equal(t, []any{200, e.FileSize}, []any{head.StatusCode, head.ContentLength})
	bare, _, _ := strings.Cut(path, "?")
	for _, wrong := range []string{bare, bare + "?token=", bare + "?token=" + strings.Repeat("A", 43), path + "A", strings.Replace(path, e.ID, uuid.NewString(), 1),
		strings.Replace(path, e.ID, "not-an-id", 1)} {
		anyone.Get(wrong).Problem(404, "NOT_FOUND")
	}
	l.stan.Get("/data/exports/"+e.ID).Problem(404, "NOT_FOUND")
	l.ben.Get("/data/exports/"+e.ID).Problem(404, "NOT_FOUND")
	require.Empty(t, client.JSON[[]export](l.ben.Get("/data/exports").Want(200)))

	// The person is told in each way, and none of them holds the link.
	stack.Eventually(t, "the mail came", func() bool { return len(mails(server, "data export")) == 1 })
	require.Equal(t, anna.Email, mails(server, "data export")[0].To)
	require.NotContains(t, strings.ReplaceAll(mails(server, "data export")[0].Data, "=\r\n", ""), token[:20])
	require.Equal(t, []notification{{Title: "Your data export is ready", Link: "/", Data: map[string]any{"exportId": e.ID, "status": "ready"}}}, notifications(anna))
	require.Equal(t, 1, testdb.Value[int](l.DB, `select count(*)::int from public.events where room = 'user:' || $1::text and type = 'resource_changed'
		and data ->> 'resource' = 'data_export' and data ->> 'id' = $2`, anna.ID, e.ID))
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(distinct event_id)::int from public.webhook_deliveries where webhook_id = $1 and event_type = 'export.completed'", hook))
	for _, query := range []string{"select payload::text from public.webhook_deliveries", "select metadata::text || description from public.audit_log where metadata is not null",
		"select data::text from public.events", "select body_text || body_html from private.mails", "select to_jsonb(e)::text from private.data_exports e"} {
		require.NotContains(t, strings.Join(list(t, l.DB, query), "\n"), token, query)
	}

	// At its end the link is dead at once, and the sweep deletes the file.
	require.Len(t, l.stored(t), 1)
	stop()
	l.DB.Exec("update private.data_exports set expires_at = clock_timestamp() where id = $1", e.ID)
	anyone.Get(path).Problem(404, "NOT_FOUND")
	require.Equal(t, "expired", client.JSON[export](anna.Get("/data/exports/"+e.ID).Want(200)).Status)
	worker.Start(t, l.Stack)
	stack.Eventually(t, "the file is deleted", func() bool { return len(l.stored(t)) == 0 })
	over := anna.Get("/data/exports/" + e.ID).Want(200)
	require.Equal(t, "expired", over.String("status"))
	require.NotContains(t, string(over.Body), "fileUrl")
}

type notification struct {
	Title, Link string
	Data        map[string]any
}

func notifications(p *client.Person) []notification {
	return client.JSON[struct{ Data []notification }](p.Get("/notifications?type=task_completion").Want(200)).Data
}

func mails(server *mailtest.Server, subject string) []mailtest.Mail {
	return slices.DeleteFunc(server.Mails(), func(m mailtest.Mail) bool { return !strings.Contains(m.Data, subject) })
}

func TestOneExportAtATimeAndFiveADay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	// Two replicas, and no worker: what was asked for waits.
	replica := stack.On(t, l.DB)
	answers := client.AtOnce(t, 6, func(i int) (client.Response, error) {
		p := l.anna.Client
		if i%2 == 1 {
			p = p.At(replica.BaseURL)
		}
		return p.Try("POST", "/data/export", map[string]any{"type": "full"})
	})
	made := 0
	for _, r := range answers {
		if r.Status == 201 {
			made++
			continue
		}
		r.Problem(409, "EXPORT_IN_PROGRESS")
	}
	require.Equal(t, 1, made)
	l.ben.Do("POST", "/data/export", map[string]any{"type": "full"}).Want(201)
	for range 4 {
		l.DB.Exec("update private.data_exports set status = 'failed' where user_id = $1", l.anna.ID)
		ask(l.anna, map[string]any{"type": "full"})
	}
	l.DB.Exec("update private.data_exports set status = 'failed' where user_id = $1", l.anna.ID)
	r := l.anna.Do("POST", "/data/export", map[string]any{"type": "full"}).Problem(429, "RATE_LIMITED")
	require.NotEmpty(t, r.Header.Get("Retry-After"))
	l.DB.Exec("update private.data_exports set requested_at = requested_at - interval '1 day' where user_id = $1", l.anna.ID)
	// A repeated key is one export.
	keyed := l.anna.With("Idempotency-Key", uuid.NewString())
	require.Equal(t, keyed.Do("POST", "/data/export", map[string]any{"type": "full"}).Want(201).String("id"), keyed.Do("POST", "/data/export", map[string]any{"type": "full"}).Want(201).String("id"))
	require.Len(t, client.JSON[[]export](l.anna.Get("/data/exports").Want(200)), 6)
	for _, body := range []any{map[string]any{"type": "selective"}, map[string]any{"type": "selective", "categories": []string{}}, map[string]any{"type": "selective", "categories": []string{"secrets"}}} {
		l.stan.Do("POST", "/data/export", body).Problem(400, "VALIDATION_ERROR").Field("categories")
	}
}

func TestTooMuchForOneAnswerIsRefusedBeforeItIsBuilt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec(`insert into public.skill_executions (user_id, organization_id, execution_type, input, output, model, status, completed_at)
		select $1, $2, 'manual', '{}', repeat(md5(n::text), 15000), 'm', 'completed', now() from generate_series(1, 110) n`, l.anna.ID, l.anna.OrgID)
	r := l.anna.Do("POST", "/gdpr/export", nil).Problem(409, "EXPORT_TOO_LARGE")
	require.EqualValues(t, 50000000, r.Value("details.maxBytes"))
	require.Less(t, len(r.Body), 1000)
	require.Equal(t, 0, testdb.Value[int](l.DB, "select count(*)::int from public.audit_log where event_type = 'system.export_completed'"), "nothing was exported")
	l.DB.Exec("delete from public.skill_executions where id in (select id from public.skill_executions limit 20)")
	key := l.anna.With("Idempotency-Key", uuid.NewString())
	require.Greater(t, len(key.Do("POST", "/gdpr/export", nil).Want(200).Body), 40000000)
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.idempotency_keys where length(response::text) > 10000"), "no copy is kept")
}

// What is deleted while an export is written is whole in it, or missing.
func TestAProjectIsDeletedWhileItIsExported(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	project := l.anna.Do("POST", "/projects", map[string]any{"name": "Shop"}).Want(201).String("project.id")
	for part := range 4 {
		var files []any
		for n := range 25 {
			files = append(files, map[string]string{"name": fmt.Sprintf("f%d-%d.txt", part, n), "content": strings.Repeat(fmt.Sprintf("line %d\n", n), 2000)})
		}
		l.anna.Do("POST", "/files/upload", map[string]any{"projectId": project, "files": files}).Want(200)
	}
	e := ask(l.anna, map[string]any{"type": "full"})
	stack.Eventually(t, "it is being written", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from private.data_exports where id = $1 and status <> 'pending')", e.ID)
	})
	l.anna.Do("DELETE", "/projects/"+project, nil).Want(200)
	for name, content := range l.open(t, ready(t, l.anna, e.ID)).files {
		if strings.HasPrefix(name, "files/") {
			require.Greater(t, len(content), 12000, name)
		}
	}
}

// An account that goes away takes its files along, also one that is being written.
func TestDeletingTheAccountEndsItsExports(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	e := ready(t, l.ben, ask(l.ben, map[string]any{"type": "full"}).ID)
	path := link(t, e)
	l.As("").Get(path).Want(200)
	l.DB.Exec("delete from public.users where id = $1", l.ben.ID)
	l.As("").Get(path).Problem(404, "NOT_FOUND")
	stack.Eventually(t, "the file is deleted", func() bool { return len(l.stored(t)) == 0 })
}

// A store that takes nothing: three attempts, then the person is told. The row names no content.
func TestAStoreThatTakesNothingFailsTheExport(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	root := t.TempDir()
	for i := range 256 {
		require.NoError(t, os.WriteFile(filepath.Join(root, fmt.Sprintf("%02x", i)), nil, 0o600))
	}
	broken := &stack.Stack{Client: l.Client, DB: l.DB, App: l.App, Config: l.Config}
	broken.Config.StorageURL = "file://" + root
	worker.Start(t, broken)
	e := ask(l.anna, map[string]any{"type": "full"})
	stack.Eventually(t, "it failed and is not tried again", func() bool {
		l.DB.Exec("update private.data_exports set lease_expires_at = clock_timestamp() where lease_owner is null and status = 'processing'")
		return client.JSON[export](l.anna.Get("/data/exports/"+e.ID).Want(200)).Status == "failed"
	})
	require.Equal(t, "3 true", testdb.Value[string](l.DB, "select attempts || ' ' || (storage_key is null) from private.data_exports where id = $1", e.ID))
	require.Equal(t, []notification{{Title: "Your data export failed", Link: "/", Data: map[string]any{"exportId": e.ID, "status": "failed"}}}, notifications(l.anna))
	ask(l.anna, map[string]any{"type": "full"})
}
