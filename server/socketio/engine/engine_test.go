package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/socketio/engine"
)

// site is the only allowed origin.
const site = "https://app.kijko.test"

// calm never pings while a test runs.
func calm() engine.Options {
	return engine.Options{PingInterval: time.Minute, CloseTimeout: 100 * time.Millisecond}
}

// echo sends every message back, except "close me".
type echo struct {
	session *engine.Session
	setup   *setup
}

func (e *echo) Received(m engine.Message) {
	switch string(m.Data) {
	case "close me":
		e.session.Close(4001, "as you wish")
	case "flood":
		for range 1000 {
			e.session.Send(engine.Message{Data: []byte(strings.Repeat("x", 4096))})
		}
	default:
		e.session.Send(m)
	}
}

func (e *echo) Closed(code int, reason string) { e.setup.closed <- fmt.Sprintf("%d %s", code, reason) }

// setup is a server on a free port.
type setup struct {
	t      *testing.T
	server *engine.Server
	url    string
	closed chan string

	mu       sync.Mutex
	sessions map[string]*engine.Session
}

func newSetup(t *testing.T, opt engine.Options, change ...func(*engine.Deps)) *setup {
	t.Helper()
	s := &setup{t: t, closed: make(chan string, 1000), sessions: map[string]*engine.Session{}}
	deps := engine.Deps{Options: opt, AllowOrigin: func(origin, _ string) bool { return origin == site }, Accept: func(session *engine.Session, _ engine.Request) engine.Receiver {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sessions[session.ID()] = session
		return &echo{session, s}
	}}
	for _, c := range change {
		c(&deps)
	}
	var err error
	s.server, err = engine.New(deps)
	require.NoError(t, err)
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: 64 << 10, ErrorHandler: func(c *fiber.Ctx, err error) error {
		var p *api.Problem
		if status, ok := err.(*fiber.Error); ok {
			return c.SendStatus(status.Code)
		}
		require.ErrorAs(t, err, &p)
		return c.Status(p.Status).SendString(p.Code)
	}})
	app.All("/socket.io/", s.server.Serve)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(listener) }()
	s.url = "http://" + listener.Addr().String() + "/socket.io/"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, s.server.Drain(ctx), "goroutines are left")
		_ = app.ShutdownWithTimeout(time.Second)
	})
	return s
}

func (s *setup) session(sid string) *engine.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sid]
}

// do sends one request and returns status and body.
func (s *setup) do(method, query, body string, header ...string) (int, string) {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url+query, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, string(content)
}

const polling = "?EIO=4&transport=polling"

type hello struct {
	SID          string
	Upgrades     []string
	PingInterval int
	PingTimeout  int
	MaxPayload   int
}

func (s *setup) hello(text string) hello {
	s.t.Helper()
	require.True(s.t, strings.HasPrefix(text, "0"), "%s", text)
	var members map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(text[1:]), &members))
	require.Len(s.t, members, 5)
	var h hello
	require.NoError(s.t, json.Unmarshal([]byte(text[1:]), &h))
	require.NotEmpty(s.t, h.SID)
	return h
}

// poller begins a session that polls and returns the query of its requests.
func (s *setup) poller() string {
	s.t.Helper()
	status, body := s.do("GET", polling, "")
	require.Equal(s.t, 200, status, "%s", body)
	return polling + "&sid=" + s.hello(body).SID
}

func (s *setup) get(query string) string {
	s.t.Helper()
	status, body := s.do("GET", query, "")
	require.Equal(s.t, 200, status, "%s", body)
	return body
}

func (s *setup) post(query, body string) {
	s.t.Helper()
	status, answer := s.do("POST", query, body)
	require.Equal(s.t, 200, status, "%s", answer)
	require.Equal(s.t, "ok", answer)
}

// refused demands a status and, with 400 and 403, the protocol's code.
func (s *setup) refused(wantStatus, wantCode int, method, query, body string, header ...string) {
	s.t.Helper()
	status, answer := s.do(method, query, body, header...)
	require.Equal(s.t, wantStatus, status, "%s %s: %s", method, query, answer)
	var refusal struct {
		Code    int
		Message string
	}
	require.NoError(s.t, json.Unmarshal([]byte(answer), &refusal), "%s", answer)
	require.Equal(s.t, wantCode, refusal.Code, "%s", answer)
	require.NotEmpty(s.t, refusal.Message)
}

// ends waits until a session of the server has been closed and returns how.
func (s *setup) ends() string {
	s.t.Helper()
	select {
	case how := <-s.closed:
		return how
	case <-time.After(5 * time.Second):
		require.FailNow(s.t, "no session was closed")
	}
	return ""
}

// socket is a client's WebSocket.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

func (s *setup) tryDial(query string) (*socket, error) {
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+query, nil)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return &socket{s.t, conn}, nil
}

func (s *setup) dial(query string) *socket {
	s.t.Helper()
	w, err := s.tryDial(query)
	require.NoError(s.t, err)
	return w
}

// direct begins a session over a WebSocket.
func (s *setup) direct() (*socket, hello) {
	s.t.Helper()
	w := s.dial("?EIO=4&transport=websocket")
	return w, s.hello(w.next())
}

// upgrade opens a WebSocket for the session of a poller.
func (s *setup) upgrade(query string) *socket {
	s.t.Helper()
	return s.dial(strings.Replace(query, "polling", "websocket", 1))
}

func (w *socket) say(text string) {
	w.t.Helper()
	require.NoError(w.t, w.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

func (w *socket) read() (int, string, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	kind, raw, err := w.conn.ReadMessage()
	return kind, string(raw), err
}

func (w *socket) next() string {
	w.t.Helper()
	_, text, err := w.read()
	require.NoError(w.t, err)
	return text
}

// closed reads and discards frames until the server has closed with this code.
func (w *socket) closed(code int) {
	w.t.Helper()
	for {
		_, _, err := w.read()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		require.ErrorAs(w.t, err, &closed)
		require.Equal(w.t, code, closed.Code, "%s", closed.Text)
		return
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	s := newSetup(t, engine.Options{CloseTimeout: 100 * time.Millisecond})
	t.Run("OverPolling", func(t *testing.T) {
		status, body := s.do("GET", polling, "")
		require.Equal(t, 200, status)
		h := s.hello(body)
		require.Equal(t, hello{h.SID, []string{"websocket"}, 25000, 20000, 1000000}, h, "the customary numbers")
		require.GreaterOrEqual(t, len(h.SID), 20)
		response, err := http.Get(s.url + polling)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, "text/plain; charset=UTF-8", response.Header.Get("Content-Type"))
		require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	})
	t.Run("OverAWebSocket", func(t *testing.T) {
		_, h := s.direct()
		require.Equal(t, hello{h.SID, []string{}, 25000, 20000, 1000000}, h)
	})
	t.Run("Refusals", func(t *testing.T) {
		query := s.poller()
		for _, c := range []struct {
			name         string
			status, code int
			method       string
			query        string
			header       []string
		}{
			{"NoTransport", 400, 0, "GET", "?EIO=4", nil},
			{"UnknownTransport", 400, 0, "GET", "?EIO=4&transport=abc", nil},
			{"TransportNamedLikeAProperty", 400, 0, "GET", "?EIO=4&transport=constructor", nil},
			{"UnknownSession", 400, 1, "GET", polling + "&sid=nobody", nil},
			{"EmptySession", 400, 1, "GET", polling + "&sid=", nil},
			{"PostAsHandshake", 400, 2, "POST", polling, nil},
			{"PutAsHandshake", 400, 2, "PUT", polling, nil},
			{"WebSocketWithoutUpgrade", 400, 3, "GET", "?EIO=4&transport=websocket", nil},
			{"WebSocketOfAnotherVersion", 400, 3, "GET", "?EIO=4&transport=websocket", []string{"Connection", "Upgrade", "Upgrade", "websocket",
				"Sec-WebSocket-Version", "12", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}},
			{"WebSocketWithoutAKey", 400, 3, "GET", "?EIO=4&transport=websocket", []string{"Connection", "Upgrade", "Upgrade", "websocket",
				"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "x"}},
			{"WrongMethodOnASession", 400, 3, "DELETE", query, nil},
			{"ForeignSite", 403, 4, "GET", polling, []string{"Origin", "https://evil.example"}},
			{"ForeignSiteOnASession", 403, 4, "POST", query, []string{"Origin", "https://evil.example"}},
			{"NoVersion", 400, 5, "GET", "?transport=polling", nil},
			{"OldVersion", 400, 5, "GET", "?EIO=3&transport=polling", nil},
			{"StrangeVersion", 400, 5, "GET", "?EIO=abc&transport=polling", nil},
		} {
			t.Run(c.name, func(*testing.T) { s.refused(c.status, c.code, c.method, c.query, "", c.header...) })
		}
		for _, query := range []string{"?transport=websocket", "?EIO=abc&transport=websocket", "?EIO=4", "?EIO=4&transport=abc",
			"?EIO=4&transport=websocket&sid=nobody", "?EIO=4&transport=polling"} {
			_, err := s.tryDial(query)
			require.Error(t, err, query)
		}
	})
	t.Run("TheOwnSiteIsWelcome", func(t *testing.T) {
		status, _ := s.do("GET", polling, "", "Origin", site)
		require.Equal(t, 200, status)
	})
	t.Run("NobodyAccepts", func(t *testing.T) {
		_, err := engine.New(engine.Deps{})
		require.Error(t, err)
	})
}

func TestMessages(t *testing.T) {
	t.Parallel()
	s := newSetup(t, calm())
	t.Run("OverPolling", func(t *testing.T) {
		for _, body := range []string{"4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA==", "4€ ☃ 𝄞", "4"} {
			query := s.poller()
			s.post(query, body)
			require.Equal(t, body, s.get(query))
		}
	})
	t.Run("AWaitingGetHasItAtOnce", func(t *testing.T) {
		query := s.poller()
		answer := make(chan string, 1)
		go func() { answer <- s.get(query) }()
		s.post(query, "4now")
		require.Equal(t, "4now", <-answer)
	})
	t.Run("OverAWebSocket", func(t *testing.T) {
		w, _ := s.direct()
		for _, text := range []string{"4hello", "4" + strings.Repeat("m", 200), "4" + strings.Repeat("l", 70_000)} {
			w.say(text)
			require.Equal(t, text, w.next())
		}
		require.NoError(t, w.conn.WriteMessage(websocket.BinaryMessage, []byte{1, 2, 3, 4}))
		kind, raw, err := w.read()
		require.NoError(t, err)
		require.Equal(t, websocket.BinaryMessage, kind)
		require.Equal(t, "\x01\x02\x03\x04", raw)
		w.say("6") // noop: nothing happens
		w.say("4still")
		require.Equal(t, "4still", w.next())
	})
	t.Run("MalformedOverPolling", func(t *testing.T) {
		for _, body := range []string{"abc", "", "4ok\x1e", "0{}", "2", "5", "7", "b!!!", "4\xff\xfe"} {
			query := s.poller()
			s.refused(400, 3, "POST", query, body)
			require.Contains(t, s.get(query), "1", "a session that ended says so once: after %q", body)
			s.refused(400, 1, "GET", query, "")
			require.Equal(t, "4000 protocol error", s.ends())
		}
	})
	t.Run("MalformedOverAWebSocket", func(t *testing.T) {
		for text, code := range map[string]int{"abc": 4000, "": 4000, "2": 4000, "bAQID": 4000, "4\xff": 1007} {
			w, _ := s.direct()
			w.say(text)
			w.closed(code)
			s.ends()
		}
	})
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	opt := calm()
	opt.PingInterval = 100 * time.Millisecond
	s := newSetup(t, opt)
	t.Run("OverPolling", func(t *testing.T) {
		query := s.poller()
		for range 3 {
			require.Equal(t, "2", s.get(query))
			s.post(query, "3")
		}
		s.post(query, "1")
	})
	t.Run("OverAWebSocket", func(t *testing.T) {
		w, _ := s.direct()
		for range 3 {
			require.Equal(t, "2", w.next())
			w.say("3")
		}
		_ = w.conn.Close()
	})
	t.Run("SilenceEndsASession", func(t *testing.T) {
		opt.PingTimeout = 100 * time.Millisecond
		s := newSetup(t, opt)
		query := s.poller()
		w, _ := s.direct()
		w.closed(4008)
		require.Eventually(t, func() bool {
			status, body := s.do("GET", query, "")
			return status == 400 || strings.HasSuffix(body, "1")
		}, 5*time.Second, 20*time.Millisecond)
		for range 2 {
			require.Equal(t, "4008 Heartbeat timeout", s.ends())
		}
	})
	t.Run("NothingIsLeft", func(t *testing.T) {
		require.Eventually(t, func() bool { return s.server.Size() == 0 }, 5*time.Second, 10*time.Millisecond)
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := newSetup(t, calm())
	t.Run("ByThePollingClient", func(t *testing.T) {
		query := s.poller()
		answer := make(chan string, 1)
		go func() { answer <- s.get(query) }()
		s.post(query, "1")
		require.Equal(t, "6", <-answer)
		s.refused(400, 1, "GET", query, "")
		require.Equal(t, "1000 ", s.ends())
	})
	t.Run("ByTheClientOfAWebSocket", func(t *testing.T) {
		w, _ := s.direct()
		w.say("1")
		w.closed(1000)
		require.Equal(t, "1000 ", s.ends())
		w, _ = s.direct()
		require.NoError(t, w.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, "away"), time.Now().Add(time.Second)))
		w.closed(1001)
		require.Equal(t, "1001 ", s.ends())
	})
	t.Run("ByALostConnection", func(t *testing.T) {
		w, _ := s.direct()
		_ = w.conn.NetConn().Close()
		require.Equal(t, "1006 connection lost", s.ends())
	})
	t.Run("ByTheServer", func(t *testing.T) {
		w, _ := s.direct()
		w.say("4first")
		w.say("4close me")
		require.Equal(t, "4first", w.next())
		w.closed(4001)
		require.Equal(t, "4001 as you wish", s.ends())
		query := s.poller()
		s.post(query, "4first\x1e4close me\x1e4never heard")
		s.refused(400, 3, "POST", query, "4too late")
		require.Equal(t, "4first\x1e1", s.get(query), "what was said before the end arrives before it")
		s.refused(400, 1, "GET", query, "")
		require.Equal(t, "4001 as you wish", s.ends())
	})
	t.Run("NobodyFetchesTheEnd", func(t *testing.T) {
		opt := calm()
		opt.Linger = time.Millisecond
		s := newSetup(t, opt)
		query := s.poller()
		s.post(query, "4close me")
		require.Eventually(t, func() bool {
			status, body := s.do("DELETE", query, "")
			return status == 400 && strings.Contains(body, "unknown")
		}, 5*time.Second, 10*time.Millisecond)
		s.ends()
	})
	t.Run("TwoGetsAtATime", func(t *testing.T) {
		query := s.poller()
		answer := make(chan string, 2)
		for range 2 {
			go func() {
				_, body := s.do("GET", query, "")
				answer <- body
			}()
		}
		got := []string{<-answer, <-answer}
		require.Contains(t, got, "1")
		require.Contains(t, got, `{"code":3,"message":"Bad request"}`)
		s.refused(400, 1, "GET", query, "")
		require.Equal(t, "4000 two polls at a time", s.ends())
	})
	t.Run("AGetThatWasGivenUp", func(t *testing.T) {
		query := s.poller()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+query, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		require.Error(t, err)
		s.refused(400, 3, "GET", query, "")
		s.refused(400, 1, "GET", query, "")
		require.Equal(t, "4000 two polls at a time", s.ends())
	})
	t.Run("TwoPostsAtATime", func(t *testing.T) {
		query := s.poller()
		conn, err := net.Dial("tcp", strings.Split(strings.TrimPrefix(s.url, "http://"), "/")[0])
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "POST /socket.io/%s HTTP/1.1\r\nHost: kijko.test\r\nContent-Length: 100000\r\n\r\n4%s", query, strings.Repeat("s", 70_000))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			status, _ := s.do("POST", query, "4fast")
			return status == 400
		}, 3*time.Second, 5*time.Millisecond)
		require.Equal(t, "4000 two posts at a time", s.ends())
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSetup(t, calm())
	t.Run("MovesWithoutLosingAnything", func(t *testing.T) {
		query := s.poller()
		answer := make(chan string, 1)
		go func() { answer <- s.get(query) }()
		w := s.upgrade(query)
		w.say("2probe")
		require.Equal(t, "3probe", w.next())
		require.Equal(t, "6", <-answer, "the poll that waits ends")
		require.Equal(t, "6", s.get(query), "and so does a further one")
		s.post(query, "4between")
		w.say("5")
		require.Equal(t, "4between", w.next())
		w.say("4hello")
		require.Equal(t, "4hello", w.next())

		s.refused(400, 3, "GET", query, "")
		s.refused(400, 3, "POST", query, "4x")
		s.upgrade(query).closed(4000)
		w.say("4unharmed")
		require.Equal(t, "4unharmed", w.next())
		w.say("1")
		w.closed(1000)
		s.ends()
	})
	t.Run("OneTriesAtATime", func(t *testing.T) {
		query := s.poller()
		first := s.upgrade(query)
		first.say("2probe")
		require.Equal(t, "3probe", first.next())
		s.upgrade(query).closed(4000)
		first.say("5")
		first.say("4hello")
		require.Equal(t, "4hello", first.next())
	})
	t.Run("AWrongProbeLeavesThePollerAlone", func(t *testing.T) {
		query := s.poller()
		for _, text := range []string{"4hello", "2", "abc"} {
			w := s.upgrade(query)
			w.say(text)
			_, _, err := w.read()
			require.Error(t, err)
		}
		w := s.upgrade(query)
		w.say("2probe")
		w.next()
		w.say("4instead of 5")
		_, _, err := w.read()
		require.Error(t, err)
		s.post(query, "4hello")
		require.Equal(t, "4hello", s.get(query))
	})
	t.Run("TheEndOfTheSessionEndsIt", func(t *testing.T) {
		query := s.poller()
		w := s.upgrade(query)
		w.say("2probe")
		w.next()
		s.post(query, "1")
		_, _, err := w.read()
		require.Error(t, err)
	})
	t.Run("UnfinishedIsDropped", func(t *testing.T) {
		opt := calm()
		opt.UpgradeTimeout = 500 * time.Millisecond
		s := newSetup(t, opt)
		query := s.poller()
		w := s.upgrade(query)
		w.say("2probe")
		require.Equal(t, "3probe", w.next())
		_, _, err := w.read()
		require.Error(t, err)
		s.post(query, "4hello")
		require.Equal(t, "4hello", s.get(query))
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("Bodies", func(t *testing.T) {
		opt := calm()
		opt.MaxPayload = 200_000 // above the size that Fiber reads into memory
		s := newSetup(t, opt)
		query := s.poller()
		fits := "4" + strings.Repeat("a", opt.MaxPayload-1)
		s.post(query, fits)
		require.Equal(t, fits, s.get(query))
		status, _ := s.do("POST", query, fits+"a")
		require.Equal(t, 413, status)
		body, feed := io.Pipe() // of unknown length
		go func() {
			_, _ = feed.Write([]byte(fits + "a"))
			_ = feed.Close()
		}()
		response, err := http.Post(s.url+query, "text/plain", body)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, 413, response.StatusCode)
		s.post(query, "4lives")
		require.Equal(t, "4lives", s.get(query))

		w, _ := s.direct()
		w.say(fits + "a")
		w.closed(1009)
		require.Equal(t, "1009 message too big", s.ends())
	})
	t.Run("SessionsOfAnAddress", func(t *testing.T) {
		opt := calm()
		opt.SessionsPerIP = 2
		s := newSetup(t, opt, func(d *engine.Deps) { d.ClientIP = func(c *fiber.Ctx) string { return c.Get("X-From") } })
		for range 2 {
			status, _ := s.do("GET", polling, "", "X-From", "a")
			require.Equal(t, 200, status)
		}
		status, body := s.do("GET", polling, "", "X-From", "a")
		require.Equal(t, 429, status)
		require.Equal(t, "RATE_LIMITED", body)
		query := s.poller() // from another client
		s.post(query, "1")
		status, _ = s.do("GET", polling, "", "X-From", "b")
		require.Equal(t, 200, status)
	})
	t.Run("SessionsInAll", func(t *testing.T) {
		opt := calm()
		opt.MaxSessions = 1
		s := newSetup(t, opt)
		query := s.poller()
		status, body := s.do("GET", polling, "")
		require.Equal(t, 503, status)
		require.Equal(t, "SERVICE_UNAVAILABLE", body)
		s.dial("?EIO=4&transport=websocket").closed(1013)
		s.post(query, "1")
		s.poller()
	})
	t.Run("ARate", func(t *testing.T) {
		s := newSetup(t, calm(), func(d *engine.Deps) {
			d.Admit = func(string) error { return api.NewProblem(429, "RATE_LIMITED", "Too many.", "") }
		})
		status, body := s.do("GET", polling, "")
		require.Equal(t, 429, status)
		require.Equal(t, "RATE_LIMITED", body)
	})
	t.Run("WhoDoesNotFetchIsCutOff", func(t *testing.T) {
		s := newSetup(t, calm())
		query := s.poller()
		s.post(query, "4flood")
		require.Equal(t, "4009 Slow consumer", s.ends())
		require.Equal(t, "1", s.get(query))
	})
	t.Run("WhoDoesNotReadIsCutOff", func(t *testing.T) {
		opt := calm()
		opt.WriteTimeout = 200 * time.Millisecond
		s := newSetup(t, opt)
		w, _ := s.direct()
		for range 20 {
			if w.conn.WriteMessage(websocket.TextMessage, []byte("4flood")) != nil {
				break
			}
		}
		require.Contains(t, s.ends(), "4009")
	})
}

func TestQueue(t *testing.T) {
	t.Parallel()
	opt := calm()
	opt.MaxQueuedMessages = 3
	s := newSetup(t, opt)
	query := s.poller()
	session := s.session(query[strings.LastIndex(query, "=")+1:])
	for i := range 10 {
		session.Send(engine.Message{Data: fmt.Appendf(nil, "progress %d", i), Series: "progress"})
		session.Send(engine.Message{Data: fmt.Appendf(nil, "replay %d", i), Free: true})
	}
	session.Send(engine.Message{Head: "la", Data: []byte("st")})
	got := strings.Split(s.get(query), "\x1e")
	require.Len(t, got, 12, "replays do not count, and of a series the newest remains")
	require.Equal(t, []string{"4progress 9", "4replay 9", "4last"}, got[9:])
	session.Close(1000, "done")
	session.Send(engine.Message{Data: []byte("after the end")})
	require.Equal(t, "1", s.get(query))
}

func TestAnAnswerToAPollHoldsABoundedPart(t *testing.T) {
	t.Parallel()
	opt := calm()
	opt.MaxPayload = 1000
	s := newSetup(t, opt)
	begin := func() (string, *engine.Session) {
		query := s.poller()
		return query, s.session(query[strings.LastIndex(query, "=")+1:])
	}
	count := func(query string) int { return len(strings.Split(s.get(query), "\x1e")) }
	t.Run("OfPackets", func(t *testing.T) {
		query, session := begin()
		var want, got []string
		for i := range 40 {
			want = append(want, fmt.Sprintf("4event %d", i))
			session.Send(engine.Message{Data: fmt.Appendf(nil, "event %d", i), Free: i%2 == 0})
		}
		for _, size := range []int{16, 16, 8} {
			part := strings.Split(s.get(query), "\x1e")
			require.Len(t, part, size)
			got = append(got, part...)
		}
		require.Equal(t, want, got)
	})
	t.Run("OfBytes", func(t *testing.T) {
		query, session := begin()
		for _, size := range []int{400, 400, 400, 5000, 10} {
			session.Send(engine.Message{Data: []byte(strings.Repeat("x", size))})
		}
		require.Equal(t, []int{2, 1, 1, 1}, []int{count(query), count(query), count(query), count(query)})
	})
	t.Run("WhatWasTakenMakesRoomAndTheNewestOfASeriesStays", func(t *testing.T) {
		query, session := begin()
		for i := range 256 {
			require.True(t, session.Send(engine.Message{Data: fmt.Appendf(nil, "%d", i), Series: map[bool]string{true: "s"}[i == 40]}))
		}
		require.Equal(t, 16, count(query))
		require.Equal(t, 16, count(query), "the first sixteen are received by now")
		for range 16 {
			require.True(t, session.Send(engine.Message{Data: []byte("more")}))
		}
		require.True(t, session.Send(engine.Message{Data: []byte("newest"), Series: "s"}))
		var rest []string
		for len(rest) < 240 {
			rest = append(rest, strings.Split(s.get(query), "\x1e")...)
		}
		require.Equal(t, "4newest", rest[239])
		require.NotContains(t, rest, "440")
	})
	t.Run("WhatIsLeftAtTheEndIsFetchedBeforeTheClose", func(t *testing.T) {
		query, session := begin()
		for range 20 {
			session.Send(engine.Message{Data: []byte("x")})
		}
		session.Close(1000, "done")
		require.Equal(t, 16, count(query))
		require.Equal(t, "4x\x1e4x\x1e4x\x1e4x\x1e1", s.get(query))
		s.refused(400, 1, "GET", query, "")
	})
	t.Run("AnUpgradeTakesTheRest", func(t *testing.T) {
		query, session := begin()
		for range 40 {
			session.Send(engine.Message{Data: []byte("x")})
		}
		require.Equal(t, 16, count(query))
		w := s.dial(strings.Replace(query, "polling", "websocket", 1))
		w.say("2probe")
		require.Equal(t, "3probe", w.next())
		w.say("5")
		for range 24 {
			require.Equal(t, "4x", w.next())
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSetup(t, calm())
	query := s.poller()
	answer := make(chan string, 1)
	go func() { answer <- s.get(query) }()
	w, _ := s.direct()
	other := s.poller()
	require.Eventually(t, func() bool { return s.server.Size() == 3 }, time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.server.Drain(ctx) }()
	require.Equal(t, "1", <-answer)
	w.closed(1012)
	require.NoError(t, <-ended)
	require.Equal(t, "1", s.get(other), "who was between two polls may still hear it")
	status, _ := s.do("GET", polling, "")
	require.Equal(t, 503, status)
	s.dial("?EIO=4&transport=websocket").closed(1013)
	for range 3 {
		require.Equal(t, "1012 service restart", s.ends())
	}
}
