package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/openapi"
)

const streamDocument = `
openapi: 3.1.0
info: {title: test, version: '1'}
components:
  responses: {Problem: {description: problem}}
paths:
  /stream:
    post: {operationId: stream, responses: {'200': {description: ok}}}
  /wait:
    post: {operationId: wait, responses: {'200': {description: ok}}}
  /form:
    post:
      operationId: form
      x-max-body: 104857600
      requestBody:
        content:
          application/json: {schema: {type: object}}
          multipart/form-data: {schema: {type: object}}
      responses: {'200': {description: ok}}
`

// streaming is a server whose stream and wait are given by the test.
func streaming(t *testing.T, stream func(context.Context, *api.EventStream), wait func(context.Context) error) *bundle {
	t.Helper()
	return setup(t, func(d *api.Deps, _ *db.PoolOptions) {
		doc, err := openapi.LoadFrom(fstest.MapFS{"test.yaml": {Data: []byte(streamDocument)}})
		require.NoError(t, err)
		d.Document, d.KeepAlive = doc, 20*time.Millisecond
		d.Handlers = map[string]api.Handler{
			"stream": func(c *api.Call) error { return c.Events(stream) },
			"wait": func(c *api.Call) error {
				ctx, stop := c.Present(c.Context())
				defer stop()
				if err := wait(ctx); err != nil {
					return api.ProblemOf(err).Because(err)
				}
				return c.JSON("done")
			},
			"form": func(c *api.Call) error { return c.JSON("done") },
		}
	})
}

// dial opens a connection and sends requests on it, one after the other.
func (b *bundle) dial(t *testing.T, paths ...string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	for _, path := range paths {
		_, err = fmt.Fprintf(conn, "POST /api/v1%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nContent-Length: 0\r\n\r\n", path)
		require.NoError(t, err)
	}
	return conn
}

func TestEvents(t *testing.T) {
	t.Run("ArriveInOrderAndTheConnectionIsUsedAgain", func(t *testing.T) {
		b := streaming(t, func(_ context.Context, s *api.EventStream) {
			for i := range 3 {
				if s.Send("text", map[string]int{"n": i}) != nil {
					return
				}
			}
			require.Error(t, s.Send("text", func() {}), "what is no JSON is not sent")
		}, nil)
		conn := b.dial(t, "/stream", "/stream")
		reader := bufio.NewReader(conn)
		for range 2 {
			answer, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			require.Equal(t, "text/event-stream; charset=utf-8", answer.Header.Get("Content-Type"))
			require.Equal(t, "no", answer.Header.Get("X-Accel-Buffering"))
			body := new(strings.Builder)
			_, err = bufio.NewReader(answer.Body).WriteTo(body)
			require.NoError(t, err)
			require.Equal(t, "event: text\ndata: {\"n\":0}\n\nevent: text\ndata: {\"n\":1}\n\nevent: text\ndata: {\"n\":2}\n\n", body.String())
		}
	})
	t.Run("AQuietStreamSaysThatItIsAlive", func(t *testing.T) {
		b := streaming(t, func(ctx context.Context, _ *api.EventStream) { <-ctx.Done() }, nil)
		conn := b.dial(t, "/stream")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		lines := bufio.NewReader(answer.Body)
		for range 2 {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, ": alive\n", line)
			_, err = lines.ReadString('\n')
			require.NoError(t, err)
		}
	})
	t.Run("EndWhenTheClientGoes", func(t *testing.T) {
		ended, failed := make(chan struct{}), make(chan error, 1)
		b := streaming(t, func(ctx context.Context, s *api.EventStream) {
			defer close(ended)
			<-ctx.Done()
			for err := error(nil); err == nil; {
				err = s.Send("late", "x")
				if err != nil {
					failed <- err
				}
			}
		}, nil)
		conn := b.dial(t, "/stream")
		_, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		<-ended
		require.Error(t, <-failed)
	})
	t.Run("EndWhenTheServerStops", func(t *testing.T) {
		began, ended := make(chan struct{}), make(chan struct{})
		b := streaming(t, func(ctx context.Context, _ *api.EventStream) {
			close(began)
			<-ctx.Done()
			close(ended)
		}, nil)
		b.dial(t, "/stream")
		<-began
		grace, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, b.app.ShutdownWithContext(grace), context.DeadlineExceeded)
		select {
		case <-ended:
		default:
			t.Fatal("the stop waits for its streams")
		}
	})
	t.Run("APanicEndsOneStreamOnly", func(t *testing.T) {
		b := streaming(t, func(context.Context, *api.EventStream) { panic("a bug") }, nil)
		require.Empty(t, b.do(t, "POST", "/api/v1/stream", "").body)
		require.Equal(t, 200, b.do(t, "POST", "/api/v1/stream", "").status)
		require.Contains(t, b.log.String(), "a bug")
	})
}

func TestPresent(t *testing.T) {
	t.Run("EndsWhenTheClientGoes", func(t *testing.T) {
		began, ended := make(chan struct{}), make(chan struct{})
		b := streaming(t, nil, func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		})
		conn := b.dial(t, "/wait")
		<-began
		require.NoError(t, conn.Close())
		<-ended
	})
	t.Run("TakesNothingOfTheNextRequest", func(t *testing.T) {
		var calls atomic.Int32
		gone := errors.New("gone")
		b := streaming(t, nil, func(ctx context.Context) error {
			calls.Add(1)
			select {
			case <-ctx.Done():
				return gone
			case <-time.After(20 * time.Millisecond):
				return nil
			}
		})
		reader := bufio.NewReader(b.dial(t, "/wait", "/wait", "/wait"))
		for range 3 {
			answer, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			require.Equal(t, 200, answer.StatusCode)
			_, err = reader.Discard(int(answer.ContentLength))
			require.NoError(t, err)
		}
		require.EqualValues(t, 3, calls.Load())
	})
}

// Unread bytes of a body are not the next request.
func TestTheRestOfABodyIsNoRequest(t *testing.T) {
	s := streaming(t, nil, nil)
	next := "GET /health/live HTTP/1.1\r\nHost: kijko.test\r\n\r\n"
	body := strings.Repeat("x", 66<<10) + strings.Repeat(next, 5000)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	for name, c := range map[string]struct{ path, header, body string }{
		"without a token":           {"/api/v1/form", fmt.Sprintf("Content-Length: %d", len(body)), body},
		"no such route":             {"/api/v1/nothing", fmt.Sprintf("Content-Length: %d", len(body)), body},
		"outside the API":           {"/nothing", fmt.Sprintf("Content-Length: %d", len(body)), body},
		"unread by the handler":     {"/api/v1/form", fmt.Sprintf("Authorization: Bearer ann\r\nContent-Length: %d", len(body)), body},
		"in chunks without a token": {"/api/v1/form", "Transfer-Encoding: chunked", chunked},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		require.NoError(t, err)
		_, _ = conn.Write([]byte("POST " + c.path + " HTTP/1.1\r\nHost: kijko.test\r\nContent-Type: multipart/form-data; boundary=x\r\n" + c.header + "\r\n\r\n" + c.body +
			"GET /health/live HTTP/1.1\r\nHost: kijko.test\r\nConnection: close\r\n\r\n"))
		said, _ := io.ReadAll(conn)
		require.NoError(t, conn.Close())
		if strings.Contains(c.header, "chunked") {
			require.LessOrEqual(t, strings.Count(string(said), "HTTP/1.1 "), 1, name)
			continue
		}
		require.Equal(t, 2, strings.Count(string(said), "HTTP/1.1 "), "%s: %s", name, said)
	}
}

func TestJSONBesideFilesIsBounded(t *testing.T) {
	b := streaming(t, nil, nil)
	require.Equal(t, 200, b.do(t, "POST", "/api/v1/form", `{"a": 1}`, "Content-Type", "application/json").status)
	large := `{"a": "` + strings.Repeat("x", 2<<20) + `"}`
	require.Equal(t, 413, b.do(t, "POST", "/api/v1/form", large, "Content-Type", "application/json").status)
	require.Equal(t, 200, b.do(t, "POST", "/api/v1/form", large, "Content-Type", "multipart/form-data; boundary=x").status)
}

func TestAcceptChoosesBetweenEventsAndADocument(t *testing.T) {
	b := setup(t, func(d *api.Deps, _ *db.PoolOptions) {
		d.Handlers = map[string]api.Handler{"handler": func(c *api.Call) error { return c.JSON(c.WantsEvents()) }}
	})
	for accept, want := range map[string]string{
		"text/event-stream": "true", "TEXT/Event-Stream": "true", "text/event-stream;charset=utf-8": "true", "text/event-stream ; q=0.001": "true",
		"application/json, text/event-stream": "true", "text/event-stream, application/json": "true", "text/event-stream, */*": "true",
		"text/event-stream, */*;q=0.1": "true", "application/json;q=0.5, text/event-stream;q=0.5": "true", "text/*": "true", "text/html, text/event-stream": "true",
		"application/json;q=0.5, text/event-stream;q=0.51": "true", "*/*;q=0.1, text/event-stream;Q=0.2": "true", `text/event-stream;x="a,b;q=0";q=1`: "true",
		"application/json;q=0, text/event-stream;q=0.1": "true", "application/*;q=0.2, text/*;q=0.3": "true",
		"application/json, text/event-stream;q=0": "false", "application/json, text/event-stream;q=0.1": "false", "text/event-stream;q=0": "false",
		"text/event-stream;q=0.000, */*": "false", "text/*;q=1, text/event-stream;q=0": "false", "*/*": "false", "": "false", "application/json": "false", "text/html": "false",
		"application/*, text/event-stream;q=0.9": "false", "*/*;q=0.8, text/event-stream;q=0.7": "false", "*/*;q=0.8, text/event-stream;q=0.7, application/json;q=0.9": "false",
		"x-text/event-stream": "false", "text/event-streams": "false", `application/json;x="text/event-stream"`: "false", "text/event-stream;q=0, text/event-stream;q=0": "false",
		"application/json, text/event-stream ; q = 0.5": "false", "text/event-stream;q=2": "false", "text/event-stream;q=-0": "false", "text/event-stream;q=x": "false",
	} {
		require.Equal(t, want, b.do(t, "GET", "/api/v1/handler", "", "Accept", accept).body, accept)
	}
	lines, _, _ := b.raw(t, "GET /api/v1/handler HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nAccept: application/json\r\nAccept: text/event-stream\r\n\r\n")
	require.Equal(t, "true", lines.body, "a list in two lines")
}

// HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
func TestEventsForHTTP10(t *testing.T) {
	gone := make(chan struct{})
	b := streaming(t, func(ctx context.Context, s *api.EventStream) {
		for i := range 3 {
			if s.Send("text", map[string]int{"n": i}) != nil {
				return
			}
		}
	}, nil)
	for _, keep := range []string{"", "Connection: keep-alive\r\n"} {
		conn := b.dial(t)
		_, err := fmt.Fprintf(conn, "POST /api/v1/stream HTTP/1.0\r\nAuthorization: Bearer ann\r\nContent-Length: 2\r\n%s\r\n{}", keep)
		require.NoError(t, err)
		raw, err := io.ReadAll(conn)
		require.NoError(t, err)
		head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
		require.True(t, ok)
		require.True(t, strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n"), head)
		require.NotContains(t, head, "Transfer-Encoding")
		require.NotContains(t, head, "Content-Length")
		require.Contains(t, head, "Connection: close")
		require.Contains(t, head, "Content-Type: text/event-stream")
		require.Contains(t, head, "X-Request-Id: ")
		require.Equal(t, "event: text\ndata: {\"n\":0}\n\nevent: text\ndata: {\"n\":1}\n\nevent: text\ndata: {\"n\":2}\n\n", strings.ReplaceAll(body, ": alive\n\n", ""))
	}
	b = streaming(t, func(ctx context.Context, _ *api.EventStream) {
		<-ctx.Done()
		close(gone)
	}, nil)
	conn := b.dial(t)
	_, err := fmt.Fprint(conn, "POST /api/v1/stream HTTP/1.0\r\nAuthorization: Bearer ann\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	<-gone
}
