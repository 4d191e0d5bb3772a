package contexts

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
)

// matrix reads the table of contract 60, 1.1: who may do what, by the stored role.
func matrix(t *testing.T) (roles []string, rights map[string][]string) {
	t.Helper()
	raw, err := os.ReadFile("../../docs/contract/60-contexts-graph-chat.md")
	require.NoError(t, err)
	rights = map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == "Action":
			roles = cells[1:]
		case len(roles) > 0 && len(cells) == len(roles)+1 && !strings.HasPrefix(cells[0], "-"):
			rights[cells[0]] = cells[1:]
		case len(rights) > 0:
			return roles, rights
		}
	}
	return roles, rights
}

// call is an operation with a request that an allowed caller may repeat: what it answers then is any status but 403.
type call struct {
	method, path string
	body         any
	permission   string
}

// calls are this feature's operations, by the action of the matrix that begins with the key.
var calls = map[string][]call{
	"see context item": {
		{method: "GET"}, {method: "GET", path: "/compression"}, {method: "GET", path: "/compression?include=preview"}, {method: "GET", path: "/ingestions"},
		{method: "GET", path: "/ingestions/1"}, {method: "GET", path: "/changelog"}, {method: "GET", path: "/changelog/1"}, {method: "GET", path: "/versions"},
		{method: "GET", path: "/users"}, {method: "GET", path: "/operations/{operation}"}},
	"file contents and lists": {
		{method: "GET", path: "/ingestions/1/preview", permission: "read_content"}, {method: "GET", path: "/diff/0/1", permission: "read_diff"},
		{method: "GET", path: "/changelog/1/diff", permission: "read_diff"}},
	"new ingestion, rename": {
		{method: "POST", path: "/ingestions", body: client.Object{"filesAdded": 1}, permission: "ingest"}, {method: "POST", path: "/ingest", body: client.Object{"filesAdded": 1}, permission: "ingest"},
		{method: "PATCH", path: "/ingestions/1", body: client.Object{"displayName": "A"}, permission: "ingest"},
		{method: "PUT", path: "/ingestions/1", body: client.Object{"displayName": "A"}, permission: "ingest"},
		{method: "PUT", path: "/ingestions/1/tags", body: client.Object{"tags": []string{"a"}}, permission: "ingest"},
		{method: "POST", path: "/ingestions/1/content", body: client.Object{"sourceType": "text", "content": "a"}, permission: "ingest"}},
	"delete an ingestion": {{method: "DELETE", path: "/ingestions/{another's}", permission: "delete_ingestion"}},
	"rollback and its preview": {
		{method: "GET", path: "/rollback/1/preview", permission: "rollback"}, {method: "POST", path: "/rollback/99", permission: "rollback"},
		{method: "PATCH", path: "", body: client.Object{"name": "Notes"}, permission: "rename_context"}, {method: "PUT", path: "", body: client.Object{"name": "Notes"}, permission: "rename_context"}},
}

func TestTheMatrixOfRolesHoldsForEveryOperation(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.add(t, files{"a.md": "one\n"})
	operation := client.JSON[entry](l.async(l.anna.Client).Do("POST", l.path+"/ingestions", text("Open", "a")).Want(202)).OperationID
	l.finish(t, files{"b.md": "b"})
	roles, rights := matrix(t)
	require.Equal(t, []string{"owner", "admin", "manager", "developer", "viewer", "auditor"}, roles)
	people := map[string]*client.Person{"owner": l.anna}
	for _, role := range roles[1:] {
		people[role] = l.member(role, role)
	}
	stan := l.SignUp("Stan")
	covered := 0
	for action, row := range rights {
		for beginning, ours := range calls {
			if !strings.HasPrefix(action, beginning) {
				continue
			}
			covered++
			for _, c := range ours {
				for i, role := range roles {
					path := strings.Replace(c.path, "{operation}", operation, 1)
					if before, found := strings.CutSuffix(path, "{another's}"); found {
						path = before + l.anothers(t)
					}
					r := people[role].In(t).Do(c.method, l.path+path, c.body)
					about := fmt.Sprintf("%s %s as %s: %s", c.method, c.path, role, r.Body)
					if row[i] == "y" {
						require.NotContains(t, []int{401, 403, 404}, missing(r), about)
						continue
					}
					require.Contains(t, []string{"n", "own only"}, row[i], action)
					require.Equal(t, 403, r.Status, about)
					require.Equal(t, c.permission, r.Problem(403, "FORBIDDEN").Value("details.required"), about)
				}
				r := stan.In(t).Do(c.method, l.path+strings.NewReplacer("{operation}", operation, "{another's}", "1").Replace(c.path), c.body)
				r.Problem(404, "CONTEXT_NOT_FOUND")
			}
		}
	}
	require.Equal(t, len(calls), covered, "each action is one of the contract's")
	t.Run("a developer deletes their own entries", func(t *testing.T) {
		number := fmt.Sprint(people["developer"].In(t).Do("POST", l.path+"/ingestions", client.Object{"filesAdded": 1}).Want(201).Value("number"))
		people["developer"].In(t).Do("DELETE", l.path+"/ingestions/"+number, nil).Want(204)
	})
	t.Run("an auditor reads counts and no path", func(t *testing.T) {
		auditor := people["auditor"].In(t)
		require.NotContains(t, string(auditor.Get(l.path+"/changelog/1").Want(200).Body), "a.md")
		require.NotContains(t, string(auditor.Get(l.path+"/compression?include=preview").Want(200).Body), ".md")
	})
}

// missing is the status, but that of a version that the call names on purpose and that does not exist.
func missing(r client.Response) int {
	if strings.Contains(string(r.Body), "VERSION_NOT_FOUND") {
		return 200
	}
	return r.Status
}

// anothers is the number of a new entry of Anna's.
func (l *lab) anothers(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(l.anna.In(t).Do("POST", l.path+"/ingestions", client.Object{"filesAdded": 1}).Want(201).Value("number"))
}
