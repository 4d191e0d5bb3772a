package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// hold takes a lock and keeps it until the returned function is called.
func hold(t *testing.T, db *testdb.DB, lock string) (release func()) {
	t.Helper()
	conn := db.Connect("postgres")
	_, err := conn.Exec(t.Context(), "begin; "+lock)
	require.NoError(t, err)
	return func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "rollback")
		require.NoError(t, err)
	}
}

// waiting reports how many statements wait for a lock in the test's database.
func waiting(db *testdb.DB) int {
	return testdb.Value[int](db, "select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
}

// A migration, or an operator who alters a table by hand, takes its lock while requests run.
func TestALockedTableStopsOnlyWhatNeedsIt(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	ann, ben := s.SignUp("Ann"), s.SignUp("Ben")
	ann.Do("POST", "/projects", map[string]any{"name": "Known"}).Want(201)
	// Prepare everything once, so that the requests below wait for locks only.
	for _, p := range []*client.Person{ann, ben} {
		p.Get("/projects").Want(200)
		p.Get("/auth/me").Want(200)
		p.Get("/skills").Want(200)
	}
	release := hold(t, s.DB, "lock table public.projects in access exclusive mode")

	type answer struct {
		status int
		code   string
		took   time.Duration
	}
	var group sync.WaitGroup
	answers := make(chan answer, 100)
	ask := func(c *client.Client, method, path string, body any) {
		group.Go(func() {
			began := time.Now()
			r, err := c.Try(method, path, body)
			if err != nil {
				answers <- answer{code: err.Error()}
				return
			}
			answers <- answer{r.Status, r.String("code"), time.Since(began)}
		})
	}
	for range 40 {
		ask(ann.Client, "GET", "/projects", nil)
	}
	require.Eventually(t, func() bool { return waiting(s.DB) > 0 }, 10*time.Second, time.Millisecond)
	for _, p := range []*client.Person{ben, ann} {
		p.Get("/auth/me").Want(200)
		p.Get("/skills").Want(200)
		p.Do("POST", "/skills", map[string]any{"name": "Meanwhile", "promptTemplate": "Say something about {{topic}}"}).Want(201)
	}
	s.Get("/health/ready").Want(200)
	group.Wait()
	for range 40 {
		a := <-answers
		require.Equal(t, []any{503, "SERVICE_UNAVAILABLE"}, []any{a.status, a.code})
		require.Less(t, a.took, 4*time.Second, "two for a place and 0.8 for the lock")
	}

	for i := range 40 {
		ask(ann.Client, "POST", "/projects", map[string]any{"name": fmt.Sprint("Meanwhile ", i)})
	}
	require.Eventually(t, func() bool { return waiting(s.DB) > 0 }, 10*time.Second, time.Millisecond)
	ben.Get("/auth/me").Want(200)
	ben.Do("POST", "/skills", map[string]any{"name": "Meanwhile too", "promptTemplate": "Say something about {{topic}}"}).Want(201)
	s.Get("/health/ready").Want(200)
	group.Wait()
	for range 40 {
		a := <-answers
		require.Equal(t, []any{503, "SERVICE_UNAVAILABLE"}, []any{a.status, a.code})
		require.Less(t, a.took, 10*time.Second, "three for a place and five for the lock")
	}
	release()
	ann.Get("/projects").Want(200)
	ann.Do("POST", "/projects", map[string]any{"name": "Afterwards"}).Want(201)
}

// A client that does not read its answer costs memory for a while, and no connection to the database.
func TestWhoDoesNotReadTheirAnswerHoldsNoConnection(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.DatabasePool, c.MetricsAddr = 4, "127.0.0.1:0" })
	ann, ben := s.SignUp("Ann"), s.SignUp("Ben")
	s.DB.Exec(`insert into public.skills (user_id, organization_id, name, prompt_template) select $1, $2, 'Large ' || g, repeat('many words ', 900)
		from generate_series(1, 100) g`, ann.ID, ann.OrgID)
	for range 12 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.App.URL(), "http://"))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		_, err = fmt.Fprintf(conn, "GET /api/v1/skills?pageSize=100 HTTP/1.1\r\nHost: kijko.test\r\nAuthorization: Bearer %s\r\n\r\n", ann.Token)
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, 64)) // the answer has begun; the client reads nothing more
		require.NoError(t, err)
	}
	busy := regexp.MustCompile(`(?m)^kijko_db_connections_busy (\d+)$`)
	require.Eventually(t, func() bool {
		res, err := http.Get(s.App.MetricsURL())
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(res.Body)
		return string(busy.FindSubmatch(body)[1]) == "0"
	}, 10*time.Second, 10*time.Millisecond)
	ben.Get("/projects").Want(200)
	ann.Get("/projects").Want(200)
}
