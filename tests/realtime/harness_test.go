package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/db/devpg"
	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/openapi"
	"kijko/server/realtime"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// supabaseSecret signs keys of a Supabase project, where one is configured here.
const supabaseSecret = "a secret of at least thirty-two characters"

// live is a database with servers whose sockets watch it. The servers run realtime only; tokens are real ones.
type live struct {
	t        testing.TB
	db       *testdb.DB
	psql     *pgxpool.Pool // as the owner
	pem      string        // the issuer's key
	keys     *auth.Keys
	issuer   *auth.Issuer
	verifier *auth.Verifier
}

func newLive(t testing.TB) *live {
	t.Helper()
	return liveOn(t, testdb.New(t))
}

func liveOn(t testing.TB, db *testdb.DB) *live {
	t.Helper()
	l := &live{t: t, db: db, psql: db.Pool(devpg.Superuser)}
	var err error
	l.pem, err = auth.GenerateKey()
	require.NoError(t, err)
	l.keys, err = auth.ParseKeys(l.pem)
	require.NoError(t, err)
	l.issuer, err = auth.NewIssuer(auth.IssuerConfig{URL: "http://kijko.test", Keys: l.keys})
	require.NoError(t, err)
	l.verifier, err = auth.NewVerifier(auth.Config{Builtin: l.issuer, Supabase: &auth.SupabaseConfig{URL: "http://127.0.0.1:1", JWTSecret: supabaseSecret}})
	require.NoError(t, err)
	t.Cleanup(l.verifier.Close)
	return l
}

// Authenticate makes live the authenticator of its servers.
func (l *live) Authenticate(ctx context.Context, token string) (*api.Caller, error) {
	id, err := l.verifier.Verify(ctx, token)
	if err != nil {
		return nil, api.NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
	}
	return &api.Caller{UserID: id.UserID, SessionID: id.SessionID, OrgHint: id.OrgHint, Claims: id.Claims, ExpiresAt: id.ExpiresAt}, nil
}

// Verifier gives the sockets the reason of a refused token, as the product's authenticator does.
func (l *live) Verifier() *auth.Verifier { return l.verifier }

// node is one server process, reduced to its sockets.
type node struct {
	*realtime.Server
	live *live
	addr string
	pool *pgxpool.Pool // for the sockets' queries
	stop func()
}

func (l *live) node(change ...func(*realtime.Options)) *node {
	l.t.Helper()
	opt := realtime.Options{HandshakesPerMinute: 100_000, SocketsPerUser: 10_000, SocketsPerOrg: 10_000}
	for _, c := range change {
		c(&opt)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(l.t, err)
	pool := l.db.Pool("kijko_server")
	server, err := realtime.New(realtime.Deps{
		Pool: pool, ListenDSN: l.db.DSN("kijko_server"), Auth: l, Issuer: l.issuer,
		Origins: []string{"https://app.kijko.test", "http://localhost:*"},
		Log:     slog.New(slog.DiscardHandler), Options: opt,
	})
	require.NoError(l.t, err)
	document, err := openapi.Load()
	require.NoError(l.t, err)
	var ours []*openapi.Operation
	for _, op := range document.Operations {
		if slices.Contains([]string{"watchProject", "openSocket", "createRealtimeToken", "countConnections", "listAccessLog", "clearAccessLog", "listEvents"}, op.ID) {
			ours = append(ours, op)
		}
	}
	require.Len(l.t, ours, 7)
	app, err := api.New(api.Deps{Document: &openapi.Document{JSON: document.JSON, Operations: ours}, Exec: api.NewExecutor(l.db.Pool("kijko_server"), server.Waker()), Auth: l,
		Handlers: server.Handlers(), Mount: server.Routes})
	require.NoError(l.t, err)

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = app.Listener(listener) })
	running.Go(func() { _ = server.Run(ctx) })
	n := &node{Server: server, live: l, addr: listener.Addr().String(), pool: pool}
	n.stop = sync.OnceFunc(func() {
		cancel()
		_ = app.ShutdownWithTimeout(5 * time.Second)
		running.Wait()
	})
	l.t.Cleanup(n.stop)
	require.Eventually(l.t, func() bool {
		return server.Check().Probe(ctx).Status != "unhealthy"
	}, 10*time.Second, 5*time.Millisecond, "the feed did not start")
	return n
}

// actor is a person with an organization of their own and a session.
type actor struct {
	live               *live
	user, org, session string
}

func (l *live) actor() *actor {
	l.t.Helper()
	a := &actor{live: l}
	a.user = testdb.Value[string](l.db, `insert into public.users (email, email_verified_at) values ($1, now()) returning id::text`,
		uuid.NewString()+"@example.nl")
	a.org = testdb.Value[string](l.db, `select private.create_organization('Workspace', $1)::text`, a.user)
	a.session = a.signIn()
	return a
}

func (a *actor) signIn() string {
	a.live.t.Helper()
	return testdb.Value[string](a.live.db, `insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
		values ($1, $2, now() + interval '90 days', now() + interval '30 days') returning id::text`, a.user, a.org)
}

// joins makes the actor a member of another actor's organization and switches to it.
func (a *actor) joins(other *actor, role string) {
	a.live.t.Helper()
	a.live.db.Exec(`insert into public.memberships (organization_id, user_id, role) values ($1, $2, $3)`, other.org, a.user, role)
	a.org = other.org
	a.session = a.signIn()
}

func (a *actor) token() string { return a.tokenFor(time.Hour) }

// tokenFor signs a token that ends after d, which may be shorter than the issuer's own rule allows.
func (a *actor) tokenFor(d time.Duration) string {
	a.live.t.Helper()
	issuer := a.live.issuer
	if d != time.Hour {
		var err error
		// An issuer whose clock is behind makes tokens that end early.
		issuer, err = auth.NewIssuer(auth.IssuerConfig{URL: issuer.URL(), Keys: a.live.keys, Now: func() time.Time { return time.Now().Add(d - time.Hour) }})
		require.NoError(a.live.t, err)
	}
	token, err := issuer.Mint(auth.Access{UserID: a.user, SessionID: a.session, OrgID: a.org})
	require.NoError(a.live.t, err)
	return token.Raw
}

// project makes a project of the actor.
func (a *actor) project(privacy string) string {
	a.live.t.Helper()
	return testdb.Value[string](a.live.db, `insert into public.projects (organization_id, user_id, name, privacy)
		values ($1, $2, $3, $4) returning id::text`, a.org, a.user, "Project "+uuid.NewString()[:8], privacy)
}

// emit writes an event of a project without the server, by psql.
func (l *live) emit(project, eventType, data string) {
	l.t.Helper()
	_, err := l.psql.Exec(context.Background(), emitSQL, project, eventType, data)
	require.NoError(l.t, err)
}

const emitSQL = `select private.emit('project:' || $1::text, $2, $3::jsonb,
	(select organization_id from public.projects where id = $1::text::uuid), $1::text::uuid, 'project', 'ingestion_runs', null,
	case when $2 = 'progress_update' then 'progress:' || $1::text end)`

func progress(percent int) string {
	return fmt.Sprintf(`{"phase": "parsing", "progressPercent": %d}`, percent)
}

// wire is a frame as a client sees it.
type wire struct {
	Type      string          `json:"type"`
	Event     string          `json:"event"` // the name on the socket of a context
	Room      string          `json:"room"`
	Code      string          `json:"code"`
	Reason    string          `json:"reason"`
	ID        string          `json:"id"`
	Timestamp string          `json:"timestamp"`
	Snapshot  bool            `json:"snapshot"`
	Ref       string          `json:"ref"`
	Data      json.RawMessage `json:"data"`

	raw string
}

func (w wire) field(t testing.TB, name string) any {
	t.Helper()
	var data map[string]any
	require.NoError(t, json.Unmarshal(w.Data, &data))
	return data[name]
}

// watcher is a client's socket. A goroutine collects its frames; at the end it holds the close error.
type watcher struct {
	t      testing.TB
	conn   *websocket.Conn
	frames chan wire
	ended  chan struct{}
	err    *websocket.CloseError
}

type dial struct {
	query    string
	header   http.Header
	protocol []string
	path     string
}

// watch opens the W1 socket of a project with a token in the query.
func (n *node) watch(a *actor, project, query string) *watcher {
	n.live.t.Helper()
	q := "token=" + a.token()
	if query != "" {
		q += "&" + query
	}
	return n.open(project, dial{query: q})
}

// connect opens the socket with rooms, or with contextId in the query the socket of a context.
func (n *node) connect(a *actor, query string) *watcher {
	n.live.t.Helper()
	q := "token=" + a.token()
	if query != "" {
		q += "&" + query
	}
	return n.open("", dial{query: q, path: "/api/v1/ws"})
}

// inRooms is a socket that has joined rooms and has read every frame that this caused. Earlier commits are not sent to it.
func (n *node) inRooms(a *actor, rooms ...string) *watcher {
	n.live.t.Helper()
	n.reached()
	w := n.connect(a, "")
	w.expect("hello")
	for _, room := range rooms {
		w.join(room)
	}
	return w
}

func (w *watcher) join(room string) {
	w.t.Helper()
	w.say(`{"action":"join","room":"` + room + `"}`)
	got := w.until("room_joined")
	require.Equal(w.t, room, got[len(got)-1].Room)
}

func (n *node) open(project string, d dial) *watcher {
	n.live.t.Helper()
	w, response, err := n.tryOpen(project, d)
	if err != nil && response != nil {
		require.NoError(n.live.t, err, "status %d", response.StatusCode)
	}
	require.NoError(n.live.t, err)
	return w
}

func (n *node) tryOpen(project string, d dial) (*watcher, *http.Response, error) {
	if d.path == "" {
		d.path = "/api/v1/projects/%s/ws"
	}
	dialer := websocket.Dialer{Subprotocols: d.protocol, HandshakeTimeout: 10 * time.Second}
	if strings.Contains(d.path, "%s") {
		d.path = fmt.Sprintf(d.path, project)
	}
	conn, response, err := dialer.Dial("ws://"+n.addr+d.path+"?"+d.query, d.header)
	if err != nil {
		return nil, response, err
	}
	w := &watcher{t: n.live.t, conn: conn, frames: make(chan wire, 20_000), ended: make(chan struct{})}
	go w.read()
	n.live.t.Cleanup(func() { _ = conn.Close() })
	return w, response, nil
}

func (w *watcher) read() {
	defer close(w.ended)
	defer close(w.frames)
	for {
		_, raw, err := w.conn.ReadMessage()
		if err != nil {
			if !errors.As(err, &w.err) {
				w.err = &websocket.CloseError{Code: 1006, Text: err.Error()}
			}
			return
		}
		var f wire
		if err := json.Unmarshal(raw, &f); err != nil {
			f = wire{Type: "unreadable: " + string(raw)}
		}
		f.raw = string(raw)
		if f.Event != "" {
			f.Type = f.Event
		}
		w.frames <- f
	}
}

// next is the next frame, of whatever type.
func (w *watcher) next() wire {
	w.t.Helper()
	select {
	case f, ok := <-w.frames:
		if !ok {
			require.FailNow(w.t, "the socket was closed", "%v", w.err)
		}
		return f
	case <-time.After(stack.Patience):
		require.FailNow(w.t, "no frame came")
	}
	return wire{}
}

// until reads up to and including the first frame of a type and returns all of them.
func (w *watcher) until(eventType string) []wire {
	w.t.Helper()
	var got []wire
	for {
		f := w.next()
		got = append(got, f)
		if f.Type == eventType {
			return got
		}
	}
}

func (w *watcher) expect(eventType string) wire {
	w.t.Helper()
	f := w.next()
	require.Equal(w.t, eventType, f.Type, "data %s", f.Data)
	return f
}

// closed waits for the end and returns code and reason.
func (w *watcher) closed() (int, string) {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(stack.Patience):
		require.FailNow(w.t, "the socket was not closed")
	}
	return w.err.Code, w.err.Text
}

// rest holds the frames received and not read when the socket ended.
func (w *watcher) rest() []wire {
	var got []wire
	for f := range w.frames {
		got = append(got, f)
	}
	return got
}

func (w *watcher) say(text string) {
	w.t.Helper()
	require.NoError(w.t, w.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

// barrier proves that everything sent so far has been received: it sends a ping and reads up to the pong.
func (w *watcher) barrier() []wire {
	w.t.Helper()
	w.say(`{"action":"ping"}`)
	got := w.until("pong")
	return got[:len(got)-1]
}

func types(frames []wire) []string {
	out := make([]string, len(frames))
	for i, f := range frames {
		out[i] = f.Type
	}
	return out
}

// counted waits until the server has so many sockets.
func (n *node) counted(want int) {
	n.live.t.Helper()
	require.Eventually(n.live.t, func() bool { return n.Stats().Sockets == want }, stack.Patience, 5*time.Millisecond)
}

// reached waits until the server has dispatched everything that was committed.
func (n *node) reached() {
	n.live.t.Helper()
	require.Eventually(n.live.t, func() bool {
		var pending bool
		var head int64
		err := n.live.psql.QueryRow(context.Background(), `select exists (select from private.event_inbox), coalesce(max(id), 0) from public.events`).Scan(&pending, &head)
		return err == nil && !pending && n.Stats().LastEventID == head
	}, stack.Patience, 20*time.Millisecond)
}

// begin opens a transaction as the owner, as psql would.
func (l *live) begin() pgx.Tx {
	l.t.Helper()
	conn, err := pgx.Connect(context.Background(), l.db.Owner())
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(context.Background())
	require.NoError(l.t, err)
	return tx
}

func get(t testing.TB, n *node, path string, header http.Header) (*http.Response, map[string]any) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+n.addr+path, nil)
	require.NoError(t, err)
	request.Header = header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var body map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&body))
	return response, body
}

func (n *node) post(t testing.TB, path, token, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+n.addr+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, answer
}
