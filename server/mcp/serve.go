package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/worker/exactjson"
)

// call is the request that a message came with. Handlers find it in their context.
type call struct {
	*api.Inside
	user, requestID string
	// here ends when the client leaves or the time is over. The context of a handler does not, in the versions with an initialization.
	here context.Context
}

type callKey struct{}

// handed are the headers that the SDK reads.
var handed = []string{"Accept", "Content-Type", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-Id"}

// serve answers POST /mcp.
func (f *Feature) serve(c *api.Call) error {
	if origin := string(c.Ctx.Request().Header.Peek(fiber.HeaderOrigin)); !f.s.Origins.AllowSocket(origin, string(c.Ctx.Request().Host())) {
		return api.NewProblem(http.StatusForbidden, "FORBIDDEN", "Pages of this site may not call MCP here. The operator can add the site to CORS_ORIGINS.", "")
	}
	about := describe(c.Body)
	if about.messages > maxBatch {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("A batch has at most %d messages.", maxBatch), "")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), longest)
	at := &call{Inside: c.Inside(), user: strings.Clone(c.Caller.UserID), requestID: strings.Clone(c.RequestID), here: ctx}
	ctx = context.WithValue(ctx, callKey{}, at)
	request, err := f.request(ctx, c)
	if err != nil {
		cancel()
		return err
	}
	handler := f.whole
	if about.reports {
		handler = f.streamed
	}
	w := &writer{header: http.Header{}, streaming: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				w.fail(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		handler.ServeHTTP(w, request)
	}()
	present, leave := c.Present(ctx)
	select {
	case <-done:
		leave()
	case <-w.streaming:
		leave()
		err := c.Events(func(ctx context.Context, s *api.EventStream) {
			defer context.AfterFunc(ctx, cancel)()
			w.attach(s)
			<-done
		})
		if err != nil { // the server stops
			cancel()
			<-done
		}
		return err
	case <-present.Done():
		leave()
		cancel()
		<-done
		if w.status() == 0 {
			return context.Cause(present)
		}
	}
	return f.answer(c, w)
}

// request is the request for the SDK. It shares no memory with Fiber's, which is reused while the SDK may still log or cancel.
func (f *Feature) request(ctx context.Context, c *api.Call) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.s.Origin+"/mcp", bytes.NewReader(bytes.Clone(c.Body)))
	if err != nil {
		return nil, err
	}
	for _, name := range handed {
		if value := c.Ctx.Request().Header.Peek(name); len(value) > 0 {
			request.Header.Set(name, string(value))
		}
	}
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "*/*")
	}
	return request, nil
}

// answer sends what the SDK wrote. Its refusals in plain text become problem documents.
func (f *Feature) answer(c *api.Call, w *writer) error {
	if err := w.fault; err != nil {
		return err
	}
	status, body := w.status(), w.whole.Bytes()
	if status == 0 {
		return errors.New("mcp: the SDK gave no answer")
	}
	if status >= http.StatusBadRequest && !strings.HasPrefix(w.header.Get("Content-Type"), "application/json") {
		return api.NewProblem(status, codeOf(status), "MCP: "+strings.TrimSpace(string(body))+".", "")
	}
	for _, name := range []string{"Content-Type", "Cache-Control"} {
		if value := w.header.Get(name); value != "" {
			c.Ctx.Set(name, value)
		}
	}
	if status == http.StatusAccepted {
		c.Ctx.Response().Header.Del(fiber.HeaderContentType)
		c.Ctx.Status(status)
		return nil
	}
	c.Ctx.Set(fiber.HeaderCacheControl, "no-store")
	return c.Ctx.Status(status).Send(body)
}

func codeOf(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "PAYLOAD_TOO_LARGE"
	case http.StatusMethodNotAllowed:
		return "METHOD_NOT_ALLOWED"
	case http.StatusInternalServerError:
		return "INTERNAL"
	}
	return "BAD_REQUEST"
}

// maxBatch bounds the messages of one request. Version 2025-03-26 alone has batches.
const maxBatch = 10

// about says what a body is.
type about struct {
	messages int
	// reports says that it calls a slow tool and wants to hear of its progress.
	reports bool
}

type message struct {
	Method string `json:"method"`
	Params struct {
		Name string `json:"name"`
		Meta struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	} `json:"params"`
}

func describe(body []byte) about {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		var batch []json.RawMessage
		_ = exactjson.Unmarshal(body, &batch) // the edge has checked that it is JSON
		return about{messages: len(batch)}
	}
	// Most messages bring no token, and the SDK reads all of them anyway.
	if !bytes.Contains(body, []byte("progressToken")) {
		return about{messages: 1}
	}
	var m message
	if exactjson.Unmarshal(body, &m) != nil {
		return about{messages: 1}
	}
	return about{messages: 1, reports: m.Method == "tools/call" && slow[m.Params.Name] && len(m.Params.Meta.Token) > 0}
}

// writer takes the SDK's answer: whole, or after the first flush of events piece by piece.
type writer struct {
	header    http.Header
	streaming chan struct{} // closed when a stream begins

	mu       sync.Mutex
	code     int
	whole    bytes.Buffer
	isStream bool
	to       *api.EventStream
	fault    error
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = status
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.whole.Write(p)
}

// Flush sends the events so far. Events are sent whole, so that no comment of the stream can stand inside one.
func (w *writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasPrefix(w.header.Get("Content-Type"), "text/event-stream") {
		return
	}
	if !w.isStream {
		w.isStream = true
		close(w.streaming)
	}
	w.send()
}

func (w *writer) attach(s *api.EventStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = s
	w.send()
}

// send is called under the lock. A write that fails has ended the stream's context, which cancels the call.
func (w *writer) send() {
	if w.to == nil || w.whole.Len() == 0 {
		return
	}
	_, _ = w.to.Write(w.whole.Bytes())
	w.whole.Reset()
}

func (w *writer) status() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code
}

func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = err
}
