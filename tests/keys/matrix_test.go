package keys

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
)

// operation is the entry of one method and path in the document and the contract.
type operation struct {
	id, method, path, access, scope string
	// role is the lowest one that the contract admits: viewer to owner, platform_admin, or "" for every caller. It is also "" for roles in
	// a project: no caller has one in a project that does not exist.
	role string
	body any
}

var (
	roles  = []string{"viewer", "member", "admin", "owner"}
	scopes = []string{"read", "write", "admin"}
	named  = regexp.MustCompile(`\{(\w+)\}`)
)

// readOperations reads the document of the running server, and the roles from the tables of the contract.
func readOperations(t *testing.T, s *stack.Stack) []operation {
	t.Helper()
	var doc map[string]any
	require.NoError(t, json.Unmarshal(s.Get("//openapi.json").Want(200).Body, &doc))
	needed := readRoles(t)
	var all []operation
	for path, item := range doc["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			entry, ok := raw.(map[string]any)
			if !ok {
				continue
			}
			o := operation{method: strings.ToUpper(method), path: path, access: "user"}
			o.id, _ = entry["operationId"].(string)
			o.scope, _ = entry["x-scope"].(string)
			if access, given := entry["x-access"].(string); given {
				o.access = access
			}
			o.role = needed[o.method+" "+named.ReplaceAllString(path, "{}")]
			if role, given := entry["x-role"].(string); given {
				o.role = role
			}
			o.body = example(doc, dig(entry, "requestBody", "content", "application/json", "schema"), 0)
			all = append(all, o)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].path+all[i].method < all[j].path+all[j].method })
	require.Greater(t, len(all), 150)
	return all
}

func readRoles(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/contract/operations-*.tsv")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	needed := map[string]string{}
	for _, file := range files {
		f, err := os.Open(file)
		require.NoError(t, err)
		r := csv.NewReader(f)
		r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
		rows, err := r.ReadAll()
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for _, row := range rows[1:] { // method, path, auth, ...
			if role, ok := strings.CutPrefix(row[2], "role:"); ok && !strings.HasPrefix(row[1], "/projects/{") && !strings.HasPrefix(row[1], "/project-users/") &&
				(slices.Contains(roles, role) || role == "platform_admin") {
				needed[row[0]+" "+named.ReplaceAllString(row[1], "{}")] = role
			}
		}
	}
	require.NotEmpty(t, needed)
	return needed
}

func dig(at any, names ...string) any {
	for _, name := range names {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	return at
}

// example is a value that a schema accepts, with the required members only. It passes the edge, so that the role is checked.
func example(doc, schema any, depth int) any {
	m, ok := schema.(map[string]any)
	if !ok || depth > 8 {
		return nil
	}
	if ref, ok := m["$ref"].(string); ok {
		return example(doc, dig(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...), depth+1)
	}
	if value, ok := m["const"]; ok {
		return value
	}
	if values, ok := m["enum"].([]any); ok {
		return values[0]
	}
	for _, choice := range []string{"oneOf", "anyOf", "allOf"} {
		if list, ok := m[choice].([]any); ok && m["properties"] == nil {
			return example(doc, list[0], depth+1)
		}
	}
	kind, _ := m["type"].(string)
	if list, ok := m["type"].([]any); ok {
		kind, _ = list[0].(string)
	}
	switch kind {
	case "string":
		return text(m)
	case "integer", "number":
		if least, ok := m["minimum"].(float64); ok {
			return least
		}
		return 1
	case "boolean":
		return true
	case "array":
		list := []any{}
		for range int(number(m["minItems"], 0)) {
			list = append(list, example(doc, m["items"], depth+1))
		}
		return list
	}
	object := map[string]any{}
	required, _ := m["required"].([]any)
	for _, name := range required {
		object[name.(string)] = example(doc, dig(m, "properties", name.(string)), depth+1)
	}
	return object
}

func text(m map[string]any) string {
	switch m["format"] {
	case "uuid":
		return uuid.NewString()
	case "email":
		return "somebody@example.nl"
	case "date-time":
		return time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	case "uri":
		return "https://example.com/x"
	}
	return strings.Repeat("x", int(max(number(m["minLength"], 0), min(number(m["maxLength"], 12), 12))))
}

func number(v any, otherwise float64) float64 {
	if n, ok := v.(float64); ok {
		return n
	}
	return otherwise
}

// cast is an organization with a person of each role. Each person has a client with their session and one with a key of each scope.
type cast struct {
	s       *stack.Stack
	org     string
	clients map[string]map[string]*client.Client // role, scope ("" is the session)
	people  map[string]string                    // ids of users by role
}

func newCast(t *testing.T) *cast {
	t.Helper()
	s := stack.New(t, func(c *config.Config) {
		c.ServiceToken, c.ExecutionWait = "a-token-of-the-service-itself-1234567890", 20*time.Millisecond
	})
	anna := s.SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	c := &cast{s: s, org: anna.OrgID, clients: map[string]map[string]*client.Client{}, people: map[string]string{}}
	for role, name := range map[string]string{"owner": "", "admin": "Ada", "member": "Ben", "viewer": "Vera"} {
		p := anna
		if name != "" {
			p = s.Join(anna, s.SignUp(name), role)
		}
		c.people[role], c.clients[role] = p.ID, map[string]*client.Client{"": p.Client}
		for _, scope := range scopes {
			c.clients[role][scope] = create(t, p, scope)
		}
	}
	s.DB.Exec(`create schema kept; create table kept.memberships as select * from public.memberships; create table kept.sessions as select * from private.sessions;
		create table kept.keys as select id from public.api_keys`)
	return c
}

// restore undoes the effect of a call on the callers: a member left, a session or a key ended.
func (c *cast) restore() {
	c.s.DB.Exec(`insert into public.memberships select k.* from kept.memberships k where not exists (select from public.memberships m where m.id = k.id);
		update public.memberships m set status = k.status, role = k.role from kept.memberships k where k.id = m.id and (k.status, k.role) is distinct from (m.status, m.role);
		update private.sessions s set revoked_at = null, revoked_reason = null, organization_id = k.organization_id from kept.sessions k
			where k.id = s.id and k.revoked_at is null and s.revoked_at is not null;
		update public.api_keys set revoked_at = null, revoked_reason = null where id in (select id from kept.keys) and revoked_at is not null`)
}

// The document says which scope an operation needs, the contract which role. The test tries every operation of both with every credential.
func TestEveryOperationHoldsItsScopeAndRole(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	operations := readOperations(t, c.s)
	began := time.Now()
	calls := 0
	for _, o := range operations {
		if o.access == "public" {
			require.Empty(t, o.scope, "%s is public and has a scope", o.id)
			continue
		}
		require.Equal(t, o.access == "service", o.scope == "", "%s: x-scope %q", o.id, o.scope)
		answers := c.call(t, o)
		calls += len(answers)
		for _, a := range answers {
			if fault := o.check(a, answers[actor{"owner", ""}]); fault != "" {
				t.Errorf("%s (%s %s, access %s, scope %s, role %q): as %s with %q it answers %d %s: %s", o.id, o.method, o.path, o.access, o.scope, o.role,
					a.role, a.scope, a.status, a.code, fault)
			}
		}
	}
	t.Logf("%d operations, %d calls in %s", len(operations), calls, time.Since(began).Round(time.Millisecond))
}

type actor struct{ role, scope string }

type answer struct {
	actor
	status int
	code   string
}

// call makes the call with every credential at once, in the order of the scopes for each role, the session last.
func (c *cast) call(t *testing.T, o operation) map[actor]answer {
	t.Helper()
	answers := map[actor]answer{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	unknown := named.ReplaceAllStringFunc(o.path, func(string) string { return uuid.NewString() })
	var changed bool
	for _, role := range roles {
		path := unknown
		if rest, ok := strings.CutPrefix(o.path, "/users/{userId}"); ok { // one's own
			path = "/users/" + c.people[role] + rest
		}
		wg.Go(func() {
			for _, scope := range append(slices.Clone(scopes), "") {
				r, err := c.clients[role][scope].Try(o.method, path, o.body)
				a := answer{actor: actor{role, scope}, status: r.Status}
				var problem struct{ Code string }
				if r.Status >= 400 && json.Unmarshal(r.Body, &problem) == nil {
					a.code = problem.Code
				}
				mu.Lock()
				if err != nil {
					failed = fmt.Errorf("%s %s as %s with %q: %w", o.method, path, role, scope, err)
				}
				changed = changed || o.method != http.MethodGet && r.Status < 300
				answers[a.actor] = a
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.NoError(t, failed)
	if changed {
		c.restore()
	}
	return answers
}

// check reports the fault of an answer. owner is the answer to the owner's session: where that is refused too (bad input, missing row),
// the answer says nothing about a role.
func (o operation) check(a, owner answer) string {
	gate := slices.Contains([]string{"INSUFFICIENT_SCOPE", "API_KEY_NOT_ALLOWED", "API_KEY_INVALID"}, a.code)
	switch {
	case a.status >= 500 && a.status != 503:
		return "a fault of ours"
	case a.status == 401:
		return "the credential is good"
	case a.scope != "" && (o.access == "service" || o.scope == "never"):
		return expect(a, 403, "API_KEY_NOT_ALLOWED")
	case o.access == "service":
		return expect(a, 403, "FORBIDDEN")
	case a.scope != "" && slices.Index(scopes, a.scope) < slices.Index(scopes, o.scope):
		return expect(a, 403, "INSUFFICIENT_SCOPE")
	case gate:
		return "the scope suffices, and a session has no scope"
	case o.role == "platform_admin":
		return expect(a, 403, "FORBIDDEN")
	case slices.Index(roles, a.role) < slices.Index(roles, o.role):
		if a.status != 403 && (a.status < 400 || a.status != owner.status) {
			return "the role is too low: 403 was expected, or what stops the owner before the role is asked"
		}
	case a.code == "FORBIDDEN":
		return "the role suffices"
	}
	return ""
}

func expect(a answer, status int, code string) string {
	if a.status != status || a.code != code {
		return fmt.Sprintf("%d %s was expected", status, code)
	}
	return ""
}
