package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// cable is the connection between a server and its Postgres. It forwards whole messages of the protocol. A test can unplug it, plug it in
// again, or cut it in the middle of a chosen call.
type cable struct {
	t               testing.TB
	address         string
	network, target string

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	// needle marks the call to cut at: after Postgres has run it, or before Postgres receives it.
	needle []byte
	after  bool
	cuts   int
}

func newCable(t testing.TB, db *testdb.DB) *cable {
	t.Helper()
	c, err := pgx.ParseConfig(db.DSN("kijko_server"))
	require.NoError(t, err)
	l := &cable{t: t, network: "unix", target: c.Host + "/.s.PGSQL." + strconv.Itoa(int(c.Port)), open: map[net.Conn]bool{}, address: "127.0.0.1:0"}
	l.plug()
	t.Cleanup(l.pull)
	return l
}

// through makes a server use the cable.
func (l *cable) through(db *testdb.DB) stack.Option {
	return func(c *config.Config) {
		u := url.URL{Scheme: "postgres", User: url.User("kijko_server"), Host: l.address, Path: db.Name, RawQuery: "sslmode=disable"}
		c.Database, c.DatabaseDirect = u.String(), u.String()
	}
}

func (l *cable) plug() {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.address)
	require.NoError(l.t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener, l.address = listener, listener.Addr().String()
	go l.accept(listener)
}

func (l *cable) pull() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.listener.Close()
	for conn := range l.open {
		_ = conn.Close()
	}
}

// cutAt cuts the one connection that carries a call with this text.
func (l *cable) cutAt(text string, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.needle, l.after = []byte(text), after
}

// count is how many calls were cut.
func (l *cable) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

func (l *cable) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(l.network, l.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l.mu.Lock()
		l.open[client], l.open[server] = true, true
		l.mu.Unlock()
		// dumb is closed when no further answer of Postgres may pass.
		dumb := make(chan struct{})
		end := sync.OnceFunc(func() {
			_, _ = client.Close(), server.Close()
			l.mu.Lock()
			delete(l.open, client)
			delete(l.open, server)
			l.mu.Unlock()
		})
		go func() { defer end(); l.ask(client, server, dumb) }()
		go func() { defer end(); l.answer(server, client, dumb) }()
	}
}

// ask forwards the client's messages. The start-up message alone has no type byte.
func (l *cable) ask(client, server net.Conn, dumb chan struct{}) {
	for started := false; ; started = true {
		message, err := readMessage(client, started)
		if err != nil {
			return
		}
		l.mu.Lock()
		hit, after := len(l.needle) > 0 && bytes.Contains(message, l.needle), l.after
		if hit {
			l.needle, l.cuts = nil, l.cuts+1
		}
		l.mu.Unlock()
		if hit && !after {
			return
		}
		if hit {
			close(dumb)
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// answer forwards the messages of Postgres. Of a cut call it forwards nothing; when the call is done (ReadyForQuery) the connection closes.
func (l *cable) answer(server, client net.Conn, dumb chan struct{}) {
	for {
		message, err := readMessage(server, true)
		if err != nil {
			return
		}
		select {
		case <-dumb:
			if message[0] == 'Z' {
				return
			}
			continue
		default:
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

func readMessage(from io.Reader, typed bool) ([]byte, error) {
	head := make([]byte, 4, 5)
	if typed {
		head = head[:5]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	message := make([]byte, len(head)+int(binary.BigEndian.Uint32(head[len(head)-4:]))-4)
	copy(message, head)
	_, err := io.ReadFull(from, message[len(head):])
	return message, err
}

func TestTheDatabaseIsAwayAndComesBack(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	line := newCable(t, db)
	s := stack.On(t, db, line.through(db), func(c *config.Config) { c.ServiceToken = serviceToken })
	anna := newTenant(t, s, "Anna")
	path := "/projects/" + anna.ids["projectId"]
	document, err := openapi.Load()
	require.NoError(t, err)
	s.Get("//health/ready").Want(200)

	line.pull()
	for _, op := range document.Operations {
		if strings.HasPrefix(op.ID, "health") || op.ID == "greet" || isSocket(op) {
			continue
		}
		t.Run("EverythingIs503/"+op.ID, func(t *testing.T) {
			caller := anna.In(t)
			if op.Access == openapi.Service {
				caller = s.As(serviceToken).In(t)
			}
			began := time.Now()
			if strings.Contains(op.Path, "socket.io") {
				return // Engine.IO has refusals of its own.
			}
			if op.ID == "callMCP" {
				return // Lists of tools need no database, and refusals of tools are results (tests/mcp).
			}
			if op.ID == "receiveStripeEvent" {
				return // Without a secret of Stripe it is refused before it needs the database (tests/billing).
			}
			if op.NeedsBody() && op.Probe == nil {
				return // It has no body that is good for any id, and a bad one is refused first.
			}
			r := probe(caller, op, fill(op.Path, anna.ids))
			r.Problem(503, "SERVICE_UNAVAILABLE")
			require.NotEmpty(t, r.Header.Get("Retry-After"))
			require.Less(t, time.Since(began), 5*time.Second)
			require.NotContains(t, string(r.Body), line.address, "nothing of the inside")
		})
	}
	t.Run("LivenessHoldsAndReadinessDoesNot", func(t *testing.T) {
		s.In(t).Get("//health/live").Want(200)
		ready := s.In(t).Get("//health/ready").Want(503)
		require.Equal(t, "unhealthy", ready.Value("checks.database.status"))
		require.Equal(t, "UNREACHABLE", ready.Value("checks.database.code"))
		s.In(t).Get("//openapi.json").Want(200)
		s.In(t).As("").Get("/projects").Problem(401, "UNAUTHENTICATED")
		anna.In(t).Do("POST", "/projects", `{"name": `).Problem(400, "VALIDATION_ERROR")
	})

	line.plug()
	back := time.Now()
	r := anna.Get(path)
	for ; r.Status != 200; r = anna.Get(path) {
		require.Less(t, time.Since(back), 10*time.Second, "%s", r.Body)
		require.Equal(t, 503, r.Status)
	}
	first := time.Since(back)
	t.Logf("first good answer %s after the database was back", first.Round(time.Millisecond))
	require.Less(t, first, 3*time.Second)
	s.Get("//health/ready").Want(200)
	anna.Do("PUT", path, map[string]any{"name": "After the storm"}).Want(200)
	require.Eventually(t, func() bool { return s.Get("//health/ready").Value("checks.listener.status") == "healthy" }, stack.Patience, 50*time.Millisecond,
		"the feed of the sockets comes back as well")
}

func TestConnectionsThatDie(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	line := newCable(t, db)
	s := stack.On(t, db, line.through(db))
	anna := s.SignUp("Anna")
	path := projects.Create(t, anna, "Survivor")
	projects := func(name string) int {
		return testdb.Value[int](db, "select count(*) from public.projects where name = $1", name)
	}
	// Use all connections of the pool once, so that all of them exist when they are killed.
	warm := func() {
		client.AtOnce(t, 16, func(int) (client.Response, error) { return anna.Try("GET", path, nil) })
	}

	t.Run("BetweenRequestsNoReadNotices", func(t *testing.T) {
		for round := range 5 {
			warm()
			killed := testdb.Value[int](db, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and usename = 'kijko_server'")
			require.Positive(t, killed)
			for _, r := range client.AtOnce(t, 16, func(int) (client.Response, error) { return anna.Try("GET", path, nil) }) {
				require.Equal(t, 200, r.Status, "round %d, %d killed: %s", round, killed, r.Body)
			}
		}
	})
	t.Run("AfterACommitTheRetryMeetsTheAnswer", func(t *testing.T) {
		line.cutAt("Committed", true)
		keyed := anna.In(t).With("Idempotency-Key", "committed")
		keyed.Do("POST", "/projects", map[string]any{"name": "Committed"}).Problem(503, "SERVICE_UNAVAILABLE")
		require.Equal(t, 1, line.count(), "the call was cut")
		require.Equal(t, 1, projects("Committed"), "Postgres had done it")
		r := keyed.Do("POST", "/projects", map[string]any{"name": "Committed"}).Want(201)
		require.Equal(t, "true", r.Header.Get("Idempotency-Replayed"))
		require.Equal(t, 1, projects("Committed"))
	})
	t.Run("BeforeTheCommitTheRetryDoesIt", func(t *testing.T) {
		line.cutAt("Not begun", false)
		keyed := anna.In(t).With("Idempotency-Key", "not begun")
		keyed.Do("POST", "/projects", map[string]any{"name": "Not begun"}).Problem(503, "SERVICE_UNAVAILABLE")
		require.Equal(t, 2, line.count())
		require.Zero(t, projects("Not begun"))
		require.Empty(t, keyed.Do("POST", "/projects", map[string]any{"name": "Not begun"}).Want(201).Header.Get("Idempotency-Replayed"))
		require.Equal(t, 1, projects("Not begun"))
	})
	t.Run("WithoutAKeyTheServerTriesNothingTwice", func(t *testing.T) {
		line.cutAt("No key given", true)
		anna.In(t).Do("POST", "/projects", map[string]any{"name": "No key given"}).Problem(503, "SERVICE_UNAVAILABLE")
		require.Equal(t, 1, projects("No key given"), "done once, and the answer was lost")
		anna.In(t).Do("POST", "/projects", map[string]any{"name": "No key given"}).Problem(409, "PROJECT_NAME_EXISTS")
	})
	t.Run("AReadIsAskedAgain", func(t *testing.T) {
		line.cutAt("check-me", true)
		require.Equal(t, false, anna.In(t).Get("/projects/check-name?name=check-me").Want(200).Value("exists"))
		require.Equal(t, 4, line.count())
	})
}

func TestAStopIsInOrder(t *testing.T) {
	t.Parallel()
	// Half of the grace period is for notifying the sockets.
	s := stack.New(t, func(c *config.Config) { c.ShutdownGrace = 4 * time.Second })
	anna := newTenant(t, s, "Anna")
	path := "/projects/" + anna.ids["projectId"]
	var sockets []*websocket.Conn
	for range 4 {
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.BaseURL, "http")+openapi.Prefix+path+"/ws?token="+anna.Token, nil)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, _, err = conn.ReadMessage()
		require.NoError(t, err)
		sockets = append(sockets, conn)
	}

	// A request that waits in Postgres for a lock that this test holds.
	lock, err := s.DB.Connect("postgres").Begin(t.Context())
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), "select from public.projects where id = $1 for update", anna.ids["projectId"])
	require.NoError(t, err)
	type outcome struct {
		r   client.Response
		err error
	}
	running := make(chan outcome, 1)
	go func() {
		r, err := anna.Try("PUT", path, map[string]any{"description": "the last word"})
		running <- outcome{r, err}
	}()
	require.Eventually(t, func() bool {
		return testdb.Value[bool](s.DB, "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')")
	}, stack.Patience, 5*time.Millisecond)

	stopped := make(chan struct{})
	go func() {
		s.Close()
		close(stopped)
	}()
	// While the server notifies the sockets, the process still answers, and its readiness probe says that it wants no more traffic.
	require.Eventually(t, func() bool {
		r, err := s.Try(http.MethodGet, "//health/ready", nil)
		return err == nil && r.Status == 503
	}, stack.Patience, 2*time.Millisecond, "readiness says no while stopping")
	for i, conn := range sockets {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(stack.Patience)))
		for err = nil; err == nil; {
			_, _, err = conn.ReadMessage()
		}
		require.True(t, websocket.IsCloseError(err, websocket.CloseServiceRestart), "socket %d: %v", i, err)
	}
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", s.App.Addr(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, stack.Patience, 5*time.Millisecond, "no new connection is taken")
	select {
	case <-stopped:
		require.FailNow(t, "the server stopped under a running request")
	default:
	}

	require.NoError(t, lock.Commit(context.Background()))
	done := <-running
	require.NoError(t, done.err)
	done.r.Want(200)
	select {
	case <-stopped:
	case <-time.After(stack.Patience):
		require.FailNow(t, "the server did not stop")
	}
	require.Equal(t, "the last word", testdb.Value[string](s.DB, "select description from public.projects where id = $1", anna.ids["projectId"]))
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*) from pg_stat_activity where datname = current_database() and usename = 'kijko_server'") == 0
	}, stack.Patience, 5*time.Millisecond, "its connections are gone")
}

func TestAServerThatIsStoppedBeforeItServesStops(t *testing.T) {
	t.Parallel()
	cfg := stack.Settings(t, testdb.New(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 8 {
		a, err := app.New(context.WithoutCancel(ctx), cfg, app.Options{})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			require.Fail(t, "it stays")
		}
	}
}

// A file store that accepts nothing is reported as exactly that. Operations that need no files still work.
func TestTheFileStoreFails(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	full := func(is bool) {
		for i := range 256 { // a file in place of each folder of keys
			name := filepath.Join(folder, hex.EncodeToString([]byte{byte(i)}))
			require.NoError(t, os.RemoveAll(name))
			if is {
				require.NoError(t, os.WriteFile(name, nil, 0o600))
			}
		}
	}
	full(true)
	s := stack.New(t, func(c *config.Config) { c.StorageURL = "file://" + folder })
	anna := s.SignUp("Anna")
	path := projects.Create(t, anna, "Files")
	kind, body := projects.Form(t, [2]string{"a.ts", "let a"})
	writes := func() []client.Response {
		return []client.Response{
			anna.With("Content-Type", kind).Do("POST", "/files/upload", body),
			anna.Do("POST", "/files/upload", map[string]any{"files": []any{map[string]any{"name": "a.ts", "content": "let a"}}}),
			anna.Do("POST", path+"/text-sources", map[string]any{"content": "text"}),
		}
	}
	for _, r := range writes() {
		r.Problem(503, "STORAGE_UNAVAILABLE")
		require.NotEmpty(t, r.Header.Get("Retry-After"))
		require.NotContains(t, string(r.Body), "database")
		require.NotContains(t, string(r.Body), folder, "nothing of the inside")
	}
	ready := s.Get("//health/ready").Want(200)
	require.Equal(t, "unhealthy", ready.Value("checks.storage.status"))
	require.Equal(t, "degraded", ready.Value("status"))
	require.Equal(t, "healthy", ready.Value("checks.database.status"))
	anna.Get("/projects").Want(200)

	full(false)
	for _, r := range writes() {
		r.Want(r.Status)
		require.Less(t, r.Status, 300, "%s", r.Body)
	}
	stack.Eventually(t, "readiness sees the cure", func() bool {
		return s.Get("//health/ready").Value("checks.storage.status") == "healthy"
	})
}
