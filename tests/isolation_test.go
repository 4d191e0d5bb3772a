package tests

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// tenant is an organization with everything that the product can hold: sources of every kind, a completed run with its index, an open
// run, a staged file, a star.
type tenant struct {
	*client.Person
	// ids by the names that the document gives path parameters.
	ids                          map[string]string
	folder, staged, name, secret string
}

// indexedRun fills the index of a run, as a worker would; $1 is the run.
const indexedRun = `
with r as (select * from public.ingestion_runs where id = $1),
f as (insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
	select organization_id, id, gen_random_uuid(), 0, 'repository', 'main.go', 'go', 'code', 10, 5, 4, sha256('x') from r returning *),
c as (insert into public.chunks (organization_id, run_id, id, file_id, position, start_line, end_line, type, tokens, content, hash)
	select organization_id, run_id, gen_random_uuid(), id, 0, 1, 2, 'module_boundaries', 5, 'package main', sha256('x') from f returning *),
t as (insert into public.chunk_terms select organization_id, run_id, id, to_tsvector('simple', content) from c),
n as (insert into public.graph_nodes (organization_id, run_id, id, file_id, kind, name, qualified_name)
	select organization_id, run_id, gen_random_uuid(), id, k, k, 'main.go#' || k from f, unnest(array['file', 'function']) k returning *)
insert into public.graph_links (organization_id, run_id, from_id, to_id, kind)
select a.organization_id, a.run_id, a.id, b.id, 'contains' from n a, n b where a.kind = 'file' and b.kind = 'function'`

func newTenant(t *testing.T, s *stack.Stack, name string) *tenant {
	t.Helper()
	p := s.SignUp(name)
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", p.OrgID)
	v := &tenant{Person: p, ids: map[string]string{"provider": "anthropic"}, name: "Billing of " + name, secret: "secret of " + name}
	v.ids["projectId"] = p.Do("POST", "/projects", map[string]any{"name": v.name, "description": v.secret, "privacy": "shared"}).Want(201).String("project.id")
	path := "/projects/" + v.ids["projectId"]
	v.ids["repoId"] = p.Do("POST", path+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/a/" + strings.ToLower(name)}).Want(201).String("id")
	v.ids["fileId"] = p.Do("POST", path+"/text-sources", map[string]any{"content": v.secret}).Want(201).String("id")
	v.folder = p.Do("POST", path+"/source-files/folders", map[string]any{"name": "Folder of " + name}).Want(201).String("id")
	p.Do("PUT", path+"/manual-content", map[string]any{"content": v.secret + " by hand"}).Want(200)
	p.Do("PUT", path+"/settings", map[string]any{"customSettings": map[string]string{"is": v.secret}}).Want(200)
	p.Do("PUT", path, map[string]any{"starred": true}).Want(200)
	v.staged = client.JSON[uploaded](p.Do("POST", "/files/upload", map[string]any{"files": []any{map[string]string{"name": "staged.md", "content": v.secret}}}).Want(200)).Uploaded[0].ID

	v.ids["skillId"] = p.Do("POST", "/skills/playbook", map[string]any{"name": "Skill of " + name, "description": v.secret, "content": "A prompt: " + v.secret}).Want(201).String("id")

	v.ids["executionId"] = testdb.Value[string](s.DB, "select id::text from private.start_execution($1, $2, $3, 'manual', null, '{}')", v.ids["skillId"], p.ID, p.OrgID)

	var notification string
	run := p.Do("POST", path+"/ingest", map[string]any{"skipValidation": true}).Want(202).String("jobId")
	s.DB.Exec(indexedRun, run)
	s.DB.Exec("select private.write_completion($1, '{}')", run)
	require.NoError(t, s.DB.Connect("postgres").QueryRow(t.Context(), "select private.notify($1, 'system_update', $2, p_org_id => $3)", p.ID, v.secret, p.OrgID).Scan(&notification))
	v.ids["notificationId"] = notification
	skill := testdb.Value[string](s.DB, `insert into public.skills (user_id, organization_id, name, prompt_template)
		values ($1, $2, 'Skill', 'A prompt of ' || $3 || ' for nobody else') returning id::text`, p.ID, p.OrgID, name)
	reflex := p.Do("POST", "/reflexes", map[string]any{"skillId": skill, "triggerType": "webhook", "triggerConfig": map[string]any{}}).Want(201)
	v.ids["reflexId"] = reflex.String("id")
	v.ids["habitId"] = testdb.Value[string](s.DB, `insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
		values ($1, $2, $3, '0 9 * * *', now() + interval '1 day') returning id::text`, p.ID, p.OrgID, skill)
	s.DB.Exec("select private.start_execution($1, $2, $3, 'reflex', $4, '{}')", skill, p.ID, p.OrgID, v.ids["reflexId"])
	v.ids["filterId"] = p.Do("POST", "/security/audit-log/filters", map[string]any{"name": v.secret, "filters": map[string]any{}, "isShared": true}).Want(201).String("id")
	p.Do("POST", "/security/audit-log/export", map[string]any{"format": "csv", "schedule": "daily"}).Want(200)
	v.ids["scheduleId"] = testdb.Value[string](s.DB, "select id::text from public.audit_schedules where organization_id = $1", p.OrgID)
	v.ids["exportId"] = testdb.Value[string](s.DB, `insert into private.audit_files (organization_id, schedule_id, run_at, file_name, storage_key, token_hash, expires_at)
		values ($1, $2, now(), 'a.csv', 'a', sha256('x'), now() + interval '1 day') returning id::text`, p.OrgID, v.ids["scheduleId"])
	p.Do("POST", "/auth/login", map[string]string{"email": p.Email, "password": p.Password}).Want(200)
	v.ids["sessionId"] = testdb.Value[string](s.DB, "select id::text from private.sessions where user_id = $1 order by created_at desc limit 1", p.ID)
	// Both a completed run and an open one.
	p.Do("POST", path+"/ingest", map[string]any{"skipValidation": true, "forceReprocess": true}).Want(202)
	return v
}

// tenantDigest is everything stored under an organization, whatever the table.
func tenantDigest(t *testing.T, db *testdb.DB, org string) map[string]string {
	t.Helper()
	conn := db.Connect("postgres")
	rows, err := conn.Query(t.Context(), `select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id'
		where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and not c.relispartition order by 1`)
	require.NoError(t, err)
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	all := map[string]string{}
	for _, table := range tables {
		var digest string
		row := "(to_jsonb(t) - 'last_active_at')"
		if table == "memberships" {
			row = "(to_jsonb(t) - array['last_active_at', 'updated_at'])" // both move when somebody was active
		}
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) || ' ' || coalesce(md5(string_agg(`+row+`::text, '|' order by `+row+`::text)), '')
			from public.`+table+` t where organization_id = $1`, org).Scan(&digest))
		all[table] = digest
	}
	return all
}

// probes has an entry for each operation with an id in its path: the body of a call that its owner could make. An operation that is
// missing here fails the test.
var probes = map[string]any{
	"getProject": nil, "getProjectFull": nil, "deleteProject": nil, "updateProject": map[string]any{"name": "Taken over"},
	"getProjectSettings": nil, "updateProjectSettings": map[string]any{"persona": "sam"},
	"getManualContent": nil, "updateManualContent": map[string]any{"content": "written by a stranger"},
	"listRepositories": nil, "addRepository": map[string]any{"provider": "github", "repositoryUrl": "https://github.com/evil/repository"},
	"updateRepository": map[string]any{"branch": "evil"}, "removeRepository": nil,
	"listFiles": nil, "attachFiles": map[string]any{"fileIds": []string{uuid.NewString()}},
	"createTextSource": map[string]any{"content": "written by a stranger"},
	"listSourceFiles":  nil, "createFolder": map[string]any{"name": "Evil"},
	"updateSourceFile": map[string]any{"name": "evil.md"}, "deleteSourceFile": nil, "listWorktrees": nil,
	"startIngestion": map[string]any{"skipValidation": true, "forceReprocess": true}, "cancelIngestion": nil,
	"getIngestionProgress": nil, "getProgressDetails": nil, "getRecovery": nil, "recoverIngestion": map[string]any{"action": "retry"},
	"getIngestionResult": nil, "getCompletion": nil, "emailIngestionResult": map[string]any{"email": "evil@example.nl"},
	"getSkill": nil, "updateSkill": map[string]any{"name": "Taken over"}, "deleteSkill": nil, "getSkillFull": nil, "duplicateSkill": nil, "exportSkill": nil,
	"listSkillExecutions": nil, "starSkill": nil, "unstarSkill": nil, "rateSkill": map[string]any{"rating": 1}, "publishSkill": nil, "unpublishSkill": nil,
	"getPlaybook": nil, "updatePlaybook": map[string]any{"scope": "local"},
	"getExecution": nil, "getExecutionFull": nil, "cancelExecution": nil, "retryExecution": nil,
	"executeSkill": map[string]any{}, "runSkill": map[string]any{"dryRun": true}, "testSkill": map[string]any{},
	"readNotification": nil, "readNotificationPut": nil, "deleteNotification": nil,
	"getReflex": nil, "testReflex": map[string]any{}, "getReflexFull": nil, "updateReflex": map[string]any{"isActive": false}, "activateReflex": nil, "deactivateReflex": nil,
	"resetReflexErrors": nil, "regenerateReflexSecret": nil, "getReflexWebhook": nil, "listReflexExecutions": nil, "deleteReflex": nil,
	"getHabit": nil, "updateHabit": map[string]any{"scheduleCron": "0 0 * * *"}, "deleteHabit": nil, "getHabitFull": nil, "activateHabit": nil, "deactivateHabit": nil,
	"runHabit": nil, "resetHabitErrors": nil, "listHabitExecutions": nil, "getSkillStatsOf": nil,
	// Not judged by who calls but by who signed: a stranger's delivery is refused as such, see TestWebhookDeliveries.
	"receiveDelivery": nil, "receiveDeliveryByQuery": nil,
	// For the service only: people are refused as people, whatever the id.
	"updateIngestionProgress": map[string]any{"message": "evil"}, "saveProgressSnapshot": metrics, "completeIngestion": map[string]any{"metrics": metrics, "totalDurationSeconds": 1},
	// Refuses in the socket, see TestTheSocketOfAnothersProjectIsClosed.
	"watchProject": nil, "countConnections": nil,
	"deleteAuditFilter": nil, "deleteAuditFilterAlias": nil, "deleteAuditSchedule": nil, "deleteAuditScheduleAlias": nil, "downloadAuditFile": nil, "terminateSession": nil,
}

var metrics = map[string]int{"totalFiles": 1, "filesProcessed": 1, "tokensProcessed": 1, "bytesProcessed": 1, "chunksCreated": 1, "errorsEncountered": 0}

// codes are the refusals of an id that is not there, by the parameter's name.
var codes = map[string]string{"projectId": "PROJECT_NOT_FOUND", "repoId": "REPOSITORY_NOT_FOUND", "fileId": "FILE_NOT_FOUND",
	"notificationId": "NOTIFICATION_NOT_FOUND", "skillId": "SKILL_NOT_FOUND", "executionId": "EXECUTION_NOT_FOUND",
	"reflexId": "REFLEX_NOT_FOUND", "habitId": "HABIT_NOT_FOUND",
	"filterId": "NOT_FOUND", "scheduleId": "NOT_FOUND", "exportId": "NOT_FOUND", "sessionId": "NOT_FOUND"}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// fill puts ids into the path of an operation; one that is not given is nobody's.
func fill(path string, ids map[string]string) string {
	return placeholder.ReplaceAllStringFunc(path, func(name string) string {
		if id, given := ids[strings.Trim(name, "{}")]; given {
			return id
		}
		return uuid.NewString()
	})
}

// isAdmin says that an operation is for the platform's staff: others are refused before anything is looked for.
func isAdmin(op *openapi.Operation) bool { return strings.HasPrefix(op.Path, "/admin/") }

const serviceToken = "a-token-of-the-service-itself-1234567890"

func TestTenantsAreIsolated(t *testing.T) {
	t.Parallel()
	// There is no worker, so nobody waits for a run for long.
	s := stack.New(t, func(c *config.Config) { c.ServiceToken, c.ExecutionWait = serviceToken, 50*time.Millisecond })
	anna, boris := newTenant(t, s, "Anna"), newTenant(t, s, "Boris")
	document, err := openapi.Load()
	require.NoError(t, err)
	before := tenantDigest(t, s.DB, boris.OrgID)
	for table, digest := range before {
		if slices.Contains([]string{"usage_counters", "usage_days", "subscriptions", "memberships"}, table) || table == "audit_log" {
			continue
		}
		require.False(t, strings.HasPrefix(digest, "0 "), "%s is empty: let newTenant (tests/isolation_test.go) make a row of it", table)
	}
	service := s.As(serviceToken)

	for _, op := range document.Operations {
		names := placeholder.FindAllStringSubmatch(op.Path, -1)
		// A provider's name is nobody's id: its key belongs to whoever asks (TestKeysOfOrganizations).
		names = slices.DeleteFunc(names, func(match []string) bool { return match[1] == "provider" })
		if len(names) == 0 || isAdmin(op) {
			continue
		}
		body, known := probes[strings.TrimSuffix(op.ID, "Patch")]
		if !known {
			t.Errorf("%s (%s %s) has an id in its path: give probes (tests/isolation_test.go) the body of a call, nil where it has none", op.ID, op.Method, op.Path)
			continue
		}
		if isSocket(op) || strings.HasPrefix(op.ID, "receiveDelivery") {
			continue
		}
		t.Run("IDsOfOthersAreNotFound/"+op.ID, func(t *testing.T) {
			for _, match := range names {
				name := match[1]
				require.NotEmpty(t, boris.ids[name], "let newTenant (tests/isolation_test.go) set ids[%q]", name)
				require.NotEmpty(t, codes[name], "give codes (tests/isolation_test.go) the refusal of an unknown %s", name)
				for what, id := range map[string]string{"the other tenant's": boris.ids[name], "unknown": uuid.NewString(), "no UUID": "not-a-uuid",
					"a UUID and more": boris.ids[name] + "x", "quoted": "%27%20or%20%271%27%3D%271", "wildcard": "%25", "UUID without dashes": strings.ReplaceAll(boris.ids[name], "-", "")} {
					ids := map[string]string{"projectId": anna.ids["projectId"], "repoId": anna.ids["repoId"], "fileId": anna.ids["fileId"]}
					ids[name] = id
					if op.Access == openapi.Service {
						anna.In(t).Do(op.Method, fill(op.Path, ids), body).Problem(403, "FORBIDDEN")
						if id != boris.ids[name] {
							service.In(t).Do(op.Method, fill(op.Path, ids), body).Problem(404, codes[name])
						}
						continue
					}
					r := anna.In(t).Do(op.Method, fill(op.Path, ids), body)
					require.Equal(t, 404, r.Status, "%s %s: %s", what, name, r.Body)
					r.Problem(404, codes[name])
					require.NotContains(t, string(r.Body), "Boris")
				}
			}
		})
	}
	t.Run("BodiesCannotPointAtOthers", func(t *testing.T) {
		mine, theirs := "/projects/"+anna.ids["projectId"], boris.ids["projectId"]
		p := anna.In(t)
		p.Do("POST", "/projects", map[string]any{"name": "Planted", "organizationId": boris.OrgID}).Problem(403, "FORBIDDEN")
		p.Do("POST", "/projects", map[string]any{"name": "Same id", "id": theirs}).Problem(409, "ID_EXISTS")
		p.Do("PUT", mine, map[string]any{"organizationId": boris.OrgID}).Problem(400, "READ_ONLY_FIELD").Field("organizationId")
		p.Do("PUT", mine, map[string]any{"userId": boris.ID}).Problem(400, "READ_ONLY_FIELD").Field("userId")
		p.Do("PUT", mine, map[string]any{"id": theirs}).Problem(400, "READ_ONLY_FIELD").Field("id")
		p.Do("POST", mine+"/source-files/folders", map[string]any{"name": "In theirs", "parentId": boris.folder}).Problem(400, "VALIDATION_ERROR").Field("parentId")
		p.Do("PUT", mine+"/source-files/"+anna.ids["fileId"], map[string]any{"parentId": boris.folder}).Problem(400, "VALIDATION_ERROR").Field("parentId")
		p.Do("POST", mine+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/x/y", "projectId": theirs}).Problem(400, "VALIDATION_ERROR").Field("projectId")
		p.Do("POST", mine+"/ingest", map[string]any{"projectId": theirs, "skipValidation": true}).Problem(400, "VALIDATION_ERROR").Field("projectId")
		p.Do("POST", "/files/upload", map[string]any{"projectId": theirs, "files": []any{map[string]string{"name": "a.md", "content": "x"}}}).Problem(404, "PROJECT_NOT_FOUND")
		p.Do("POST", "/realtime/token", map[string]any{"projectId": theirs}).Problem(404, "PROJECT_NOT_FOUND")
		p.Do("POST", "/auth/switch-org", map[string]any{"org_id": boris.OrgID}).Problem(403, "ORG_REQUIRED")
		attached := p.Do("POST", mine+"/files", map[string]any{"fileIds": []string{boris.staged, anna.staged}}).Want(200)
		require.Len(t, attached.Value("attached"), 1)
		require.Len(t, attached.Value("errors"), 1)
		require.NotContains(t, string(attached.Body), "Boris")

		// Of a project that is hidden, an estimate and a name's check know as little as of one that does not exist.
		for _, id := range []string{theirs, uuid.NewString()} {
			require.Equal(t, true, p.Do("POST", "/projects/validate-name", map[string]any{"name": boris.name, "excludeId": id}).Want(200).Value("valid"))
			require.Equal(t, false, p.Do("POST", "/projects/validate-name", map[string]any{"name": anna.name, "excludeId": id}).Want(200).Value("valid"))
		}
		require.Equal(t, p.Do("POST", "/projects/estimate", map[string]any{"projectId": uuid.NewString(), "projectType": "files", "chunkingStrategy": "semantic"}).Status,
			p.Do("POST", "/projects/estimate", map[string]any{"projectId": theirs, "projectType": "files", "chunkingStrategy": "semantic"}).Status)

		// A run that failed, and a way out that names a repository of somebody else.
		s.DB.Exec("select private.write_failure(id, 'BRANCH_NOT_FOUND', 'gone') from public.ingestion_runs where project_id = $1 and outcome = 'open'", anna.ids["projectId"])
		p.Do("POST", mine+"/recovery", map[string]any{"action": "retry_branch", "branch": "x", "repositoryId": boris.ids["repoId"]}).Problem(404, "REPOSITORY_NOT_FOUND")
	})
	t.Run("ListsShowNothingOfOthers", func(t *testing.T) {
		for _, path := range []string{"/projects", "/projects?filter=shared", "/projects?search=Boris", "/projects/stats", "/worktrees",
			"/worktrees?projectIds=" + boris.ids["projectId"], "/projects/check-name?name=Billing+of+Boris", "/auth/organizations", "/auth/me",
			"/projects/" + anna.ids["projectId"] + "/source-files", "/projects/" + anna.ids["projectId"] + "/files"} {
			r := anna.In(t).Get(path).Want(200)
			require.NotContains(t, string(r.Body), "Boris", path)
			for name, id := range boris.ids {
				if name == "provider" {
					continue
				}
				require.NotContains(t, string(r.Body), id, path)
			}
		}
		require.Equal(t, 1, client.JSON[page[project]](anna.In(t).Get("/projects")).Total)
		require.Equal(t, 1.0, anna.In(t).Get("/projects/stats").Value("totalProjects"))
		require.Empty(t, client.JSON[[]any](anna.In(t).Get("/worktrees?projectIds="+boris.ids["projectId"])))
		inTheirs := anna.In(t).Get("/projects/" + anna.ids["projectId"] + "/source-files?parentId=" + boris.folder)
		require.NotContains(t, string(inTheirs.Body), "Boris")
	})
	t.Run("NothingOfTheOtherTenantHasChanged", func(t *testing.T) {
		require.Equal(t, before, tenantDigest(t, s.DB, boris.OrgID))
	})
	t.Run("TheOwnIDsAreFound", func(t *testing.T) {
		// Otherwise everything above would pass on a server that finds nothing.
		for _, op := range document.Operations {
			body, known := probes[strings.TrimSuffix(op.ID, "Patch")]
			// The file of an export opens to the token of its mail alone, see TestScheduledExports.
			if !known || op.Method == http.MethodDelete || isSocket(op) || op.Access == openapi.Service || op.ID == "downloadAuditFile" {
				continue
			}
			r := boris.In(t).Do(op.Method, fill(op.Path, boris.ids), body)
			require.NotEqual(t, 404, r.Status, "%s: %s", op.ID, r.Body)
			if op.ID == "emailIngestionResult" {
				r.Problem(503, "PROVIDER_NOT_CONFIGURED")
				continue
			}
			require.Less(t, r.Status, 500, "%s: %s", op.ID, r.Body)
		}
		service.In(t).Do("POST", "/projects/"+boris.ids["projectId"]+"/progress/snapshot", metrics).Want(200)
		boris.In(t).Do("POST", fill("/projects/{projectId}/cancel-ingestion", boris.ids), nil).Want(200)
		boris.In(t).Do("DELETE", fill("/projects/{projectId}/source-files/{fileId}", boris.ids), nil).Want(204)
		boris.In(t).Do("DELETE", fill("/projects/{projectId}/repositories/{repoId}", boris.ids), nil).Want(200)
		boris.In(t).Do("DELETE", fill("/projects/{projectId}", boris.ids), nil).Want(200)
	})
}

// public operations are the contract's rows public and signed, and what serves documents and health.
var publicOperations = []string{"downloadAuditFile", "health", "healthLive", "healthReady", "logIn", "logOut", "openSocket", "receiveDelivery", "receiveDeliveryByQuery",
	"receiveSocketIO", "refreshSession", "sendSocketIO", "signUp", "unsubscribeMail",
	// Judged after the upgrade, since browsers cannot read the status of a refused handshake.
	"watchProject"}

func TestWhatIsPublicIsListed(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.ServiceToken = serviceToken })
	document, err := openapi.Load()
	require.NoError(t, err)
	var public []string
	ids := map[string]string{"projectId": uuid.NewString(), "repoId": uuid.NewString(), "fileId": uuid.NewString()}
	for _, op := range document.Operations {
		if op.Access == openapi.Public || op.Access == openapi.Optional {
			public = append(public, op.ID)
			continue
		}
		path := fill(op.Path, ids)
		for _, c := range []*client.Client{s.As(""), s.As("nonsense"), s.As("").With("Authorization", "Basic YTpi"), s.As("").With("Cookie", "kijko_session=nonsense")} {
			r := c.Do(op.Method, path, map[string]any{})
			require.Equal(t, 401, r.Status, "%s without a credential: %s", op.ID, r.Body)
			r.Problem(401, "UNAUTHENTICATED")
			require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"))
		}
	}
	slices.Sort(public)
	require.Equal(t, publicOperations, public)
	for _, path := range []string{"//", "//docs", "//openapi.json", "//health", "//health/live"} {
		s.Get(path).Want(200)
	}
	s.Get("//metrics").Problem(404, "NOT_FOUND")
}

func TestWhoIsRemovedIsOutAtTheNextCall(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := newTenant(t, s, "Anna")
	path := "/projects/" + anna.ids["projectId"]
	join := func(name string) *client.Client {
		p := s.SignUp(name)
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'admin')", anna.OrgID, p.ID)
		return p.As(p.Do("POST", "/auth/switch-org", map[string]any{"org_id": anna.OrgID}).Want(200).Tokens().AccessToken)
	}
	for name, change := range map[string]string{
		"Removed":     "delete from public.memberships where organization_id = $1 and user_id = (select id from public.users where first_name = 'Removed')",
		"Deactivated": "update public.memberships set status = 'inactive' where organization_id = $1 and user_id = (select id from public.users where first_name = 'Deactivated')",
	} {
		t.Run(name+"FromTheOrganization", func(t *testing.T) {
			member := join(name).In(t)
			member.Get(path).Want(200)
			s.DB.Exec(change, anna.OrgID)
			// The sessions in that organization end with the membership.
			member.Get(path).Problem(401, "SESSION_REVOKED")
			member.Do("PUT", path, map[string]any{"name": "Last word"}).Problem(401, "SESSION_REVOKED")
			member.Get("/projects").Problem(401, "SESSION_REVOKED")
		})
	}
	t.Run("AGuestOfTheProject", func(t *testing.T) {
		guest := s.SignUp("Guest")
		s.DB.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values ($1, $2, $3, $4, 'developer', now())`,
			anna.OrgID, anna.ids["projectId"], guest.ID, guest.Email)
		guest.Get(path).Want(200)
		guest.Get(path + "/files").Want(200)
		s.DB.Exec("delete from public.project_members where user_id = $1", guest.ID)
		guest.Get(path).Problem(404, "PROJECT_NOT_FOUND")
		guest.Do("POST", path+"/text-sources", map[string]any{"content": "last word"}).Problem(404, "PROJECT_NOT_FOUND")
	})
	t.Run("WhoseSessionEnded", func(t *testing.T) {
		p := s.SignUp("Ended")
		p.Get("/projects").Want(200)
		s.DB.Exec("update private.sessions set revoked_at = now(), revoked_reason = 'revoked' where user_id = $1", p.ID)
		p.Get("/projects").Problem(401, "SESSION_REVOKED")
	})
}

func TestTheSocketOfAnothersProjectIsClosed(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, boris := newTenant(t, s, "Anna"), newTenant(t, s, "Boris")
	for name, c := range map[string]struct {
		id, token string
		code      int
	}{
		"TheOtherTenants":  {boris.ids["projectId"], anna.Token, 4004},
		"Unknown":          {uuid.NewString(), anna.Token, 4004},
		"NoUUID":           {"not-a-uuid", anna.Token, 4004},
		"WithoutAnyRights": {anna.ids["projectId"], "nonsense", 4001},
	} {
		t.Run(name, func(t *testing.T) {
			address := "ws" + strings.TrimPrefix(s.BaseURL, "http") + openapi.Prefix + "/projects/" + c.id + "/ws?token=" + c.token
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, _, err := websocket.DefaultDialer.DialContext(ctx, address, nil)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			_, frame, err := conn.ReadMessage()
			require.Error(t, err, "got a frame: %s", frame)
			require.True(t, websocket.IsCloseError(err, c.code), "%v", err)
		})
	}
}
