package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
)

// wire is between the pool and Postgres and counts round trips. The messages that a client sends until it must wait end in a Sync (extended
// protocol) or are a simple Query.
type wire struct {
	trips atomic.Int64
	mute  atomic.Bool // drops the clients' messages
	addr  string
}

func listen(t *testing.T, dsn string) *wire {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	network, address := pgNetwork(config.Host, config.Port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	w := &wire{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
			go func() { w.forward(client, server); _ = server.Close() }()
		}
	}()
	return w
}

func pgNetwork(host string, port uint16) (string, string) {
	return "unix", host + "/.s.PGSQL." + strconv.Itoa(int(port))
}

// forward passes whole messages on; only the start-up message has no type byte.
func (w *wire) forward(client io.Reader, server io.Writer) {
	for started := false; ; {
		header := make([]byte, 5)
		if !started {
			header = header[:4]
		}
		if _, err := io.ReadFull(client, header); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(header[len(header)-4:])-4)
		if _, err := io.ReadFull(client, rest); err != nil {
			return
		}
		if started && (header[0] == 'S' || header[0] == 'Q') {
			w.trips.Add(1)
		}
		started = true
		if w.mute.Load() {
			continue
		}
		if _, err := server.Write(append(header, rest...)); err != nil {
			return
		}
	}
}

// through puts a wire in front of the pool's database.
func through(t *testing.T, o *db.PoolOptions) *wire {
	t.Helper()
	w := listen(t, o.DSN)
	u, err := url.Parse("postgres://kijko_server@" + w.addr + "/")
	require.NoError(t, err)
	config, err := pgx.ParseConfig(o.DSN)
	require.NoError(t, err)
	u.Path, u.RawQuery = "/"+config.Database, "sslmode=disable"
	o.DSN, o.Size = u.String(), 1
	return w
}

// A machine that has crashed closes no connection. A handler's call has no deadline of its own, and must still end.
func TestADatabaseThatSaysNothingMoreEndsTheCall(t *testing.T) {
	var w *wire
	b := setup(t, func(_ *api.Deps, o *db.PoolOptions) {
		w = through(t, o)
		o.Timeout = time.Second
	})
	exec := api.NewExecutor(b.pool, nil)
	for _, readOnly := range []bool{true, false} {
		r := &api.Request{Caller: b.caller, SQL: api.CallSQL("test_who"), Args: []any{[]byte("{}")}, ReadOnly: readOnly}
		_, err := exec.Run(context.Background(), r)
		require.NoError(t, err)
		w.mute.Store(true)
		_, err = exec.Run(context.Background(), r)
		require.Error(t, err)
		p := api.ProblemOf(err)
		require.Equal(t, http.StatusServiceUnavailable, p.Status)
		require.Equal(t, "SERVICE_UNAVAILABLE", p.Code)
		w.mute.Store(false)
		// This pool has one place, and pgxpool may keep it for 15 s while it closes a connection that does not answer.
		require.Eventually(t, func() bool {
			_, err := exec.Run(context.Background(), r)
			return err == nil
		}, 20*time.Second, time.Millisecond, "the dead connection is not used again")
	}
}

func TestARequestIsOneRoundTrip(t *testing.T) {
	var w *wire
	b := setup(t, func(_ *api.Deps, o *db.PoolOptions) { w = through(t, o) })
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/v1/who", ""}, {"POST", "/api/v1/echo/x", `{"name": "Kijko"}`}, {"POST", "/api/v1/count", "{}"}, {"GET", "/api/v1/refuse", ""},
	} {
		b.do(t, c.method, c.path, c.body) // connects and prepares
		before := w.trips.Load()
		b.do(t, c.method, c.path, c.body)
		require.EqualValues(t, 1, w.trips.Load()-before, c.method+" "+c.path)
	}
}

// The overview reads counters, days, leases, seats and limits.
func TestTheOverviewOfUsageIsOneRoundTrip(t *testing.T) {
	var w *wire
	b := setup(t, func(_ *api.Deps, o *db.PoolOptions) { w = through(t, o) })
	exec := api.NewExecutor(b.pool, nil)
	r := &api.Request{Caller: b.caller, SQL: api.CallSQL("list_usage"), Args: []any{[]byte("{}")}, ReadOnly: true}
	_, err := exec.Run(t.Context(), r) // connects and prepares
	require.NoError(t, err)
	before := w.trips.Load()
	answer, err := exec.Run(t.Context(), r)
	require.NoError(t, err)
	require.Contains(t, string(answer.Body), "oracle_queries")
	require.EqualValues(t, 1, w.trips.Load()-before)
}

// knownKeys is the cached state of one API key in a process after its first use.
type knownKeys struct {
	caller *api.Caller
	used   atomic.Int64
}

func (k *knownKeys) Find(context.Context, string, string) (*api.Caller, error) { return k.caller, nil }
func (k *knownKeys) Take(context.Context, *api.Caller) (map[string]string, error) {
	return map[string]string{"X-RateLimit-Limit": "10"}, nil
}
func (k *knownKeys) GiveBack(*api.Caller)                { k.used.Add(-1) }
func (k *knownKeys) Used(*api.Caller, string, string)    { k.used.Add(1) }
func (k *knownKeys) Expired(*api.Caller, string, string) {}

func TestARequestWithAKeyIsOneRoundTrip(t *testing.T) {
	var w *wire
	keys := &knownKeys{}
	b := setup(t, func(d *api.Deps, o *db.PoolOptions) {
		w = through(t, o)
		d.Keys = keys
	})
	hash := sha256.Sum256([]byte("kijko_test"))
	var id string
	require.NoError(t, b.db.Connect("postgres").QueryRow(t.Context(), `insert into public.api_keys (organization_id, user_id, name, environment, prefix, key_hash, scopes)
		values ($1, $2, 'Key', 'live', repeat('x', 20), $3, '{write}') returning id::text`, b.caller.OrgHint, b.caller.UserID, hash[:]).Scan(&id))
	keys.caller = &api.Caller{UserID: b.caller.UserID, OrgHint: b.caller.OrgHint, SessionID: id, Key: &api.Key{ID: id, Hash: hash[:], Scope: "write"}}
	for i, c := range []struct {
		method, path, body string
		status             int
	}{{"GET", "/api/v1/who", "", 200}, {"POST", "/api/v1/echo/x", `{"name": "Kijko"}`, 201}} {
		require.Equal(t, c.status, b.do(t, c.method, c.path, c.body, "Authorization", "Bearer kijko_test").status, c.path) // connects and prepares
		before := w.trips.Load()
		require.Equal(t, c.status, b.do(t, c.method, c.path, c.body, "Authorization", "Bearer kijko_test").status, c.path)
		require.EqualValues(t, 1, w.trips.Load()-before, c.method+" "+c.path)
		require.EqualValues(t, 2*(i+1), keys.used.Load())
	}
}
