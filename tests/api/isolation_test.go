package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/pgtap"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// tenant is an organization with rows of everything that the product can hold: each feature's tests/pgtap/<feature>.seed.sql.
type tenant struct {
	*client.Person
	// ids by the names that the document gives path parameters, and other names that seeds keep.
	ids  map[string]string
	name string // of its project
}

func newTenant(t *testing.T, s *stack.Stack, name string) *tenant {
	t.Helper()
	p := s.SignUp(name)
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", p.OrgID)
	v := &tenant{Person: p, ids: map[string]string{"provider": "anthropic"}, name: "Billing of " + name}
	seeds, err := pgtap.Seeds()
	require.NoError(t, err)
	conn := s.DB.Connect("postgres")
	for _, script := range []string{pgtap.Prelude, pgtap.Begin(name, "select '"+p.OrgID+"'", "select '"+p.ID+"'"), seeds, pgtap.End} {
		_, err := conn.Exec(t.Context(), script)
		require.NoError(t, err)
	}
	rows, err := conn.Query(t.Context(), "select name, id from seeded")
	require.NoError(t, err)
	var key, id string
	_, err = pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		v.ids[key] = id
		return nil
	})
	require.NoError(t, err)
	return v
}

// tenantDigest is a digest of all rows stored under an organization, in every table.
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
			row = "(to_jsonb(t) - array['last_active_at', 'updated_at'])" // both change at any activity
		}
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) || ' ' || coalesce(md5(string_agg(`+row+`::text, '|' order by `+row+`::text)), '')
			from public.`+table+` t where organization_id = $1`, org).Scan(&digest))
		all[table] = digest
	}
	return all
}

var metrics = map[string]int{"totalFiles": 1, "filesProcessed": 1, "tokensProcessed": 1, "bytesProcessed": 1, "chunksCreated": 1, "errorsEncountered": 0}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// fill puts ids into the path of an operation. A parameter without an id gets one that no row has.
func fill(path string, ids map[string]string) string {
	return placeholder.ReplaceAllStringFunc(path, func(name string) string {
		if id, given := ids[strings.Trim(name, "{}")]; given {
			return id
		}
		return uuid.NewString()
	})
}

// idsOf are the parameters of a path that name a row of a tenant. Not among them: a provider's name, which is no id; the key of a setting,
// which belongs to the caller in any case; the name of a picture, which is itself the permission to read it; a token, which is checked by the
// object that it opens; documents of the platform, which belong to no tenant; numbers of a context's versions.
func idsOf(op *openapi.Operation) (names []string) {
	for _, match := range placeholder.FindAllStringSubmatch(op.Path, -1) {
		if !slices.Contains([]string{"provider", "key", "name", "documentId", "token", "permission", "number", "from", "to"}, match[1]) {
			names = append(names, match[1])
		}
	}
	return names
}

// probe calls an operation with its x-probe: the body, or the query of a GET.
func probe(c *client.Client, op *openapi.Operation, path string) client.Response {
	query, isMap := op.Probe.(map[string]any)
	if op.Method != http.MethodGet || !isMap {
		return c.Do(op.Method, path, op.Probe)
	}
	values := url.Values{}
	for name, value := range query {
		values.Set(name, fmt.Sprint(value))
	}
	return c.Do(op.Method, path+"?"+values.Encode(), nil)
}

// isAdmin reports whether an operation is for the platform's staff. Other callers are refused before any row is looked up.
func isAdmin(op *openapi.Operation) bool { return strings.HasPrefix(op.Path, "/admin/") }

const serviceToken = "a-token-of-the-service-itself-1234567890"

func TestTenantsAreIsolated(t *testing.T) {
	t.Parallel()
	// There is no worker, so no request waits long for a run.
	s := stack.New(t, func(c *config.Config) { c.ServiceToken, c.ExecutionWait = serviceToken, 50*time.Millisecond })
	anna, boris := newTenant(t, s, "Anna"), newTenant(t, s, "Boris")
	document, err := openapi.Load()
	require.NoError(t, err)
	before := tenantDigest(t, s.DB, boris.OrgID)
	for table, digest := range before {
		if slices.Contains([]string{"usage_counters", "usage_days", "subscriptions", "memberships"}, table) || table == "audit_log" {
			continue
		}
		require.False(t, strings.HasPrefix(digest, "0 "), "%s is empty: let a tests/pgtap/<feature>.seed.sql make a row of it", table)
	}
	service := s.As(serviceToken)

	tried := map[string]bool{} // parameters with all forms of ids that are none
	for _, op := range document.Operations {
		names := idsOf(op)
		if len(names) == 0 || isAdmin(op) {
			continue
		}
		if !op.IsProbed {
			continue
		}
		if op.NeedsBody() && op.Probe == nil {
			t.Errorf("%s (%s %s) has an id in its path and takes a body: give it an x-probe in its YAML, the body of a call that its owner could make", op.ID, op.Method, op.Path)
		}
		t.Run("IDsOfOthersAreNotFound/"+op.ID, func(t *testing.T) {
			for _, name := range names {
				require.NotEmpty(t, boris.ids[name], "let a tests/pgtap/<feature>.seed.sql keep %s", name)
				code := document.NotFound(name)
				forms := map[string]string{"the other tenant's": boris.ids[name], "unknown": uuid.NewString(), "no UUID": "not-a-uuid",
					"UUID without dashes": strings.ReplaceAll(boris.ids[name], "-", "")}
				if !tried[name] {
					tried[name] = true
					maps.Copy(forms, map[string]string{"a UUID and more": boris.ids[name] + "x", "quoted": "%27%20or%20%271%27%3D%271", "wildcard": "%25"})
				}
				for what, id := range forms {
					ids := maps.Clone(anna.ids)
					ids[name] = id
					if op.Access == openapi.Service {
						probe(anna.In(t), op, fill(op.Path, ids)).Problem(403, "FORBIDDEN")
						if id != boris.ids[name] {
							probe(service.In(t), op, fill(op.Path, ids)).Problem(404, code)
						}
						continue
					}
					r := probe(anna.In(t), op, fill(op.Path, ids))
					require.Equal(t, 404, r.Status, "%s %s: %s", what, name, r.Body)
					r.Problem(404, code)
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
		p.Do("POST", mine+"/source-files/folders", map[string]any{"name": "In theirs", "parentId": boris.ids["folderId"]}).Problem(400, "VALIDATION_ERROR").Field("parentId")
		p.Do("PUT", mine+"/source-files/"+anna.ids["fileId"], map[string]any{"parentId": boris.ids["folderId"]}).Problem(400, "VALIDATION_ERROR").Field("parentId")
		p.Do("POST", mine+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/x/y", "projectId": theirs}).Problem(400, "VALIDATION_ERROR").Field("projectId")
		p.Do("POST", mine+"/ingest", map[string]any{"projectId": theirs, "skipValidation": true}).Problem(400, "VALIDATION_ERROR").Field("projectId")
		p.Do("POST", "/files/upload", map[string]any{"projectId": theirs, "files": []any{map[string]string{"name": "a.md", "content": "x"}}}).Problem(404, "PROJECT_NOT_FOUND")
		p.Do("POST", "/realtime/token", map[string]any{"projectId": theirs}).Problem(404, "PROJECT_NOT_FOUND")
		p.Do("POST", "/auth/switch-org", map[string]any{"org_id": boris.OrgID}).Problem(403, "ORG_REQUIRED")
		attached := p.Do("POST", mine+"/files", map[string]any{"fileIds": []string{boris.ids["stagedId"], anna.ids["stagedId"]}}).Want(200)
		require.Len(t, attached.Value("attached"), 1)
		require.Len(t, attached.Value("errors"), 1)
		require.NotContains(t, string(attached.Body), "Boris")

		// The estimate and the name check of a hidden project answer as for a project that does not exist.
		for _, id := range []string{theirs, uuid.NewString()} {
			require.Equal(t, true, p.Do("POST", "/projects/validate-name", map[string]any{"name": boris.name, "excludeId": id}).Want(200).Value("valid"))
			require.Equal(t, false, p.Do("POST", "/projects/validate-name", map[string]any{"name": anna.name, "excludeId": id}).Want(200).Value("valid"))
		}
		require.Equal(t, p.Do("POST", "/projects/estimate", map[string]any{"projectId": uuid.NewString(), "projectType": "files", "chunkingStrategy": "semantic"}).Status,
			p.Do("POST", "/projects/estimate", map[string]any{"projectId": theirs, "projectType": "files", "chunkingStrategy": "semantic"}).Status)

		// A failed run, and a recovery that names another tenant's repository.
		s.DB.Exec("select private.write_failure(id, 'BRANCH_NOT_FOUND', 'gone') from public.ingestion_runs where project_id = $1 and outcome = 'open'", anna.ids["projectId"])
		p.Do("POST", mine+"/recovery", map[string]any{"action": "retry_branch", "branch": "x", "repositoryId": boris.ids["repoId"]}).Problem(404, "REPOSITORY_NOT_FOUND")
	})
	t.Run("ListsShowNothingOfOthers", func(t *testing.T) {
		for _, path := range []string{"/team", "/team/members", "/team/invitations", "/projects", "/projects?filter=shared", "/projects?search=Boris", "/projects/stats", "/worktrees",
			"/worktrees?projectIds=" + boris.ids["projectId"], "/projects/check-name?name=Billing+of+Boris", "/auth/organizations", "/auth/me",
			"/projects/" + anna.ids["projectId"] + "/source-files", "/projects/" + anna.ids["projectId"] + "/files"} {
			r := anna.In(t).Get(path).Want(200)
			require.NotContains(t, string(r.Body), "Boris", path)
			for name, id := range boris.ids {
				if name == "provider" || name == "documentId" {
					continue
				}
				require.NotContains(t, string(r.Body), id, path)
			}
		}
		require.Equal(t, 1, client.JSON[client.Page[projects.Project]](anna.In(t).Get("/projects")).Total)
		require.Equal(t, 1.0, anna.In(t).Get("/projects/stats").Value("totalProjects"))
		require.Empty(t, client.JSON[[]any](anna.In(t).Get("/worktrees?projectIds="+boris.ids["projectId"])))
		inTheirs := anna.In(t).Get("/projects/" + anna.ids["projectId"] + "/source-files?parentId=" + boris.ids["folderId"])
		require.NotContains(t, string(inTheirs.Body), "Boris")
	})
	t.Run("NothingOfTheOtherTenantHasChanged", func(t *testing.T) {
		require.Equal(t, before, tenantDigest(t, s.DB, boris.OrgID))
	})
	t.Run("TheOwnIDsAreFound", func(t *testing.T) {
		// Without this check everything above would pass on a server that finds nothing.
		for _, op := range document.Operations {
			if len(idsOf(op)) == 0 || !op.IsProbed || op.Method == http.MethodDelete || op.Access == openapi.Service || isAdmin(op) {
				continue
			}
			r := probe(boris.In(t), op, fill(op.Path, boris.ids))
			require.NotEqual(t, 404, r.Status, "%s: %s", op.ID, r.Body)
			if op.ID == "emailIngestionResult" || op.ID == "queryHypervisaSession" {
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

// besides are public operations that the contract does not list as public: documents, health, and operations with their own authorization.
var besides = []string{"downloadAuditFile", "getPicture", "greet", "health", "healthLive", "healthReady", "openSocket", "receiveSocketIO", "sendSocketIO", "unsubscribeMail",
	// Authorized after the upgrade, because browsers cannot read the status of a refused handshake.
	"watchProject"}

func TestWhatIsPublicIsListed(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.ServiceToken = serviceToken })
	document, err := openapi.Load()
	require.NoError(t, err)
	var public []*openapi.Operation
	ids := map[string]string{"projectId": uuid.NewString(), "repoId": uuid.NewString(), "fileId": uuid.NewString()}
	for _, op := range document.Operations {
		if op.Access == openapi.Public || op.Access == openapi.Optional {
			public = append(public, op)
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
	open := map[string]bool{}
	for _, r := range contractRows(t) {
		open[r.route] = r.access == "public" || r.access == "signed"
	}
	for _, op := range public {
		require.True(t, open[op.Method+" "+placeholder.ReplaceAllString(op.Path, "{}")] || slices.Contains(besides, op.ID), "%s is public, and the contract does not say so", op.ID)
	}
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
		return s.Join(anna.Person, s.SignUp(name), "admin").Client
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

// isSocket reports whether an operation is a WebSocket. A plain request to one is refused with a demand to upgrade.
func isSocket(op *openapi.Operation) bool { return op.ID == "watchProject" || op.ID == "openSocket" }
