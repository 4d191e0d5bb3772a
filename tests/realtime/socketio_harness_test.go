package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/server/realtime"
	"kijko/server/socketio"
	"kijko/tests/stack"
)

// gate is a server process, reduced to Socket.IO.
type gateway struct {
	live     *live
	realtime *realtime.Server
	socketio *socketio.Server
	addr     string
	stop     func()
}

const gatewaySite = "https://app.kijko.test"

func (l *live) gateway(change ...func(*realtime.Options, *socketio.Options)) *gateway {
	l.t.Helper()
	opt := realtime.Options{HandshakesPerMinute: 100_000, SocketsPerUser: 10_000, SocketsPerOrg: 10_000, DrainSpread: 10 * time.Millisecond}
	var sio socketio.Options
	for _, c := range change {
		c(&opt, &sio)
	}
	g := &gateway{live: l}
	var err error
	g.realtime, err = realtime.New(realtime.Deps{
		Pool: l.db.Pool("kijko_server"), ListenDSN: l.db.DSN("kijko_server"), Auth: l, Issuer: l.issuer, Origins: []string{gatewaySite},
		Log: slog.New(slog.DiscardHandler), Options: opt,
	})
	require.NoError(l.t, err)
	g.socketio, err = socketio.New(socketio.Deps{Realtime: g.realtime, Origins: []string{gatewaySite}, Options: sio})
	require.NoError(l.t, err)
	document := &openapi.Document{}
	app, err := api.New(api.Deps{Document: document, Exec: api.NewExecutor(l.db.Pool("kijko_server"), g.realtime.Waker()), Auth: l,
		Origins: []string{gatewaySite}, Mount: g.socketio.Routes})
	require.NoError(l.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(l.t, err)
	g.addr = listener.Addr().String()

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = app.Listener(listener) })
	running.Go(func() { _ = g.realtime.Run(ctx) })
	g.stop = sync.OnceFunc(func() {
		grace, end := context.WithTimeout(context.Background(), 10*time.Second)
		defer end()
		require.NoError(l.t, g.realtime.Drain(grace), "connections are left")
		require.NoError(l.t, g.socketio.Drain(grace), "goroutines are left")
		_ = app.ShutdownWithTimeout(5 * time.Second)
		cancel()
		running.Wait()
	})
	l.t.Cleanup(g.stop)
	require.Eventually(l.t, func() bool { return g.realtime.Check().Probe(ctx).Status != "unhealthy" }, stack.Patience, 5*time.Millisecond)
	return g
}

// visitor is a client that speaks Engine.IO and Socket.IO by hand, over a WebSocket. It answers pings.
type visitor struct {
	t      testing.TB
	conn   *websocket.Conn
	frames chan string
	err    *websocket.CloseError // once frames is closed
	write  sync.Mutex
}

func (g *gateway) visit(t testing.TB, query string) *visitor {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/socket.io/?EIO=4&transport=websocket"+query, nil)
	require.NoError(t, err)
	v := &visitor{t: t, conn: conn, frames: make(chan string, 20_000)}
	t.Cleanup(func() { _ = conn.Close() })
	go v.read()
	require.True(t, strings.HasPrefix(v.next(), "0{"))
	return v
}

func (v *visitor) read() {
	defer close(v.frames)
	for {
		_, raw, err := v.conn.ReadMessage()
		if err != nil {
			closed, ok := err.(*websocket.CloseError) //nolint:errorlint // the library returns it bare
			if !ok {
				closed = &websocket.CloseError{Code: 1006, Text: err.Error()}
			}
			v.err = closed
			return
		}
		if string(raw) == "2" {
			v.write.Lock()
			_ = v.conn.WriteMessage(websocket.TextMessage, []byte("3"))
			v.write.Unlock()
			continue
		}
		v.frames <- string(raw)
	}
}

func (v *visitor) say(texts ...string) {
	v.t.Helper()
	v.write.Lock()
	defer v.write.Unlock()
	for _, text := range texts {
		require.NoError(v.t, v.conn.WriteMessage(websocket.TextMessage, []byte(text)))
	}
}

// try is say for a client that may be disconnected meanwhile.
func (v *visitor) try(text string) bool {
	v.write.Lock()
	defer v.write.Unlock()
	return v.conn.WriteMessage(websocket.TextMessage, []byte(text)) == nil
}

func (v *visitor) next() string {
	v.t.Helper()
	select {
	case text, ok := <-v.frames:
		if !ok {
			require.FailNow(v.t, "the connection was closed", "%v", v.err)
		}
		return text
	case <-time.After(stack.Patience):
		require.FailNow(v.t, "nothing came")
	}
	return ""
}

// until reads up to and including the first packet with this prefix, and returns the earlier ones too.
func (v *visitor) until(prefix string) []string {
	v.t.Helper()
	var got []string
	for {
		got = append(got, v.next())
		if strings.HasPrefix(got[len(got)-1], prefix) {
			return got
		}
	}
}

// packet reads up to the first packet with this prefix and gives the rest of it.
func (v *visitor) packet(prefix string) string {
	v.t.Helper()
	got := v.until(prefix)
	return strings.TrimPrefix(got[len(got)-1], prefix)
}

func (v *visitor) object(prefix string) map[string]any {
	v.t.Helper()
	var object map[string]any
	text := v.packet(prefix)
	require.NoError(v.t, json.Unmarshal([]byte(text), &object), "%s", text)
	return object
}

// ack sends an event that wants an answer and gives the answer.
func (v *visitor) ack(namespace, event string) map[string]any {
	v.t.Helper()
	v.say("42" + namespace + "77" + event)
	var answer []map[string]any
	text := v.packet("43" + namespace + "77")
	require.NoError(v.t, json.Unmarshal([]byte(text), &answer), "%s", text)
	require.Len(v.t, answer, 1)
	return answer[0]
}

// closed discards packets until the server has closed, and gives code and reason.
func (v *visitor) closed() (int, string) {
	v.t.Helper()
	deadline := time.After(stack.Patience)
	for {
		select {
		case _, open := <-v.frames:
			if !open {
				return v.err.Code, v.err.Text
			}
		case <-deadline:
			require.FailNow(v.t, "the connection was not closed")
		}
	}
}

// enter connects a namespace ("" is the default one) and gives the answer.
func (v *visitor) enter(namespace string, auth map[string]any) map[string]any {
	v.t.Helper()
	raw, err := json.Marshal(auth)
	require.NoError(v.t, err)
	if namespace != "" {
		namespace += ","
	}
	v.say("40" + namespace + string(raw))
	return v.object("40" + namespace)
}

// told parses an event: name, data, offset.
func (v *visitor) told(text string) (name string, data map[string]any, offset string) {
	v.t.Helper()
	var parts []json.RawMessage
	require.NoError(v.t, json.Unmarshal([]byte(text[strings.Index(text, "["):]), &parts), "%s", text)
	require.NoError(v.t, json.Unmarshal(parts[0], &name))
	require.NoError(v.t, json.Unmarshal(parts[1], &data))
	if len(parts) > 2 {
		require.NoError(v.t, json.Unmarshal(parts[2], &offset))
	}
	return name, data, offset
}

// wants gives the next event of that name and skips others before it.
func (v *visitor) wants(namespace, name string) (data map[string]any, offset string) {
	v.t.Helper()
	got := v.until("42" + namespace + `["` + name + `"`)
	_, data, offset = v.told(got[len(got)-1])
	return data, offset
}

// exchange sends one HTTP request to the gateway.
func (g *gateway) exchange(t testing.TB, method, query, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+g.addr+"/socket.io/"+query, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content), response.Header
}
