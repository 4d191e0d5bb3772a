// Package hypervisa tests contract 60, section 16, by actor: Anna owns an organization, Ben is a member of it, Stan is a stranger with an
// organization of his own. HyperVisa itself is not to be had, so upstream is a double in the form of the contract.
package hypervisa

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// received is a request that upstream got.
type received struct {
	method, path, body string
	header             http.Header
}

// upstream is a service with sessions of one tenant.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex
	requests []received
	sessions []map[string]any
	// instead answers in place of the service, if it is set.
	instead http.HandlerFunc
}

func newUpstream(t testing.TB) *upstream {
	u := &upstream{}
	u.Server = httptest.NewServer(u)
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.requests = append(u.requests, received{r.Method, r.URL.EscapedPath(), string(body), r.Header.Clone()})
	instead := u.instead
	u.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/api/hypervisa/sessions")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case !ok:
		answer(w, 404, map[string]any{"error": "no such page"})
	case r.Method == "GET" && path == "":
		answer(w, 200, u.sessions)
	case r.Method == "POST" && len(parts) == 1:
		var given map[string]any
		_ = json.Unmarshal(body, &given)
		s := map[string]any{"id": fmt.Sprintf("session %d?x", len(u.sessions)+1), "name": given["name"], "source_type": "repo", "source_path": given["repo_url"], "mode": "swarm",
			"model": "gemini", "total_tokens": 1200, "status": "active", "created_at": "2026-11-30T12:00:00", "secret_of_upstream": "x",
			"segments": []any{map[string]any{"id": 1, "name": "All", "description": "Everything", "token_count": 1200, "youtube_url": nil}}}
		if s["name"] == nil {
			s["name"] = "Unnamed"
		}
		u.sessions = append(u.sessions, s)
		answer(w, 201, s)
	case r.Method == "POST" && len(parts) == 2 && parts[1] == "query":
		var given map[string]any
		_ = json.Unmarshal(body, &given)
		answer(w, 200, map[string]any{"session_id": parts[0], "prompt": given["prompt"], "response": "It is about a shop."})
	case r.Method == "DELETE" && len(parts) == 1:
		for i, s := range u.sessions {
			if s["id"] == parts[0] {
				u.sessions = append(u.sessions[:i:i], u.sessions[i+1:]...)
				answer(w, 200, map[string]any{"status": "deleted"})
				return
			}
		}
		answer(w, 404, map[string]any{"error": "Session not found"})
	default:
		answer(w, 405, map[string]any{"error": "no"})
	}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// say makes upstream answer the same to everything; nil makes it work again.
func (u *upstream) say(handler http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.instead = handler
}

func always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// got is what upstream received since the last call of got.
func (u *upstream) got() []received {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.requests
	u.requests = nil
	return all
}

// lab is a stack with upstream behind it.
type lab struct {
	*stack.Stack
	up              *upstream
	anna, ben, stan *client.Person
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	up := newUpstream(t)
	s := stack.New(t, append([]stack.Option{func(c *config.Config) { c.HypervisaURL = up.URL + "/" }}, options...)...)
	l := &lab{Stack: s, up: up, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id in ($1, $2)", l.anna.OrgID, l.stan.OrgID)
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", l.anna.OrgID, l.ben.ID)
	l.ben.Client = l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]any{"org_id": l.anna.OrgID}).Want(200).Tokens().AccessToken)
	return l
}

var repository = map[string]any{"repo_url": "https://github.com/acme/shop", "name": "Shop"}

// create makes a session and gives its path.
func (l *lab) create(c *client.Client) (id, path string) {
	id = c.Do("POST", "/hypervisa/sessions/ingest-repo", repository).Want(200).String("id")
	return id, "/hypervisa/sessions/" + strings.NewReplacer(" ", "%20", "?", "%3F").Replace(id)
}

// used is what the organization has used of a metric.
func (l *lab) used(metric string) int {
	return testdb.Value[int](l.DB, "select coalesce(sum(used), 0)::int from public.usage_counters where organization_id = $1 and metric = $2", l.anna.OrgID, metric)
}

// failed requires a refusal that repeats its text as error.
func failed(t *testing.T, r client.Response, status int, code, text string) {
	t.Helper()
	r.Problem(status, code)
	require.Equal(t, r.String("detail"), r.String("error"))
	require.Contains(t, r.String("error"), text)
}
