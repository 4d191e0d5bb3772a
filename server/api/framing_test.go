package api_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
)

// raw sends bytes on a new connection. It returns everything that comes back until the server closes it, or until one answer is whole.
func (b *bundle) raw(t *testing.T, bytes string) (answer, net.Conn, *bufio.Reader) {
	t.Helper()
	conn := b.dial(t)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := io.WriteString(conn, bytes)
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	method, _, _ := strings.Cut(bytes, " ")
	res, err := http.ReadResponse(reader, &http.Request{Method: method})
	require.NoError(t, err, bytes)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(body)}, conn, reader
}

func TestWhatIsNoRequestIsAProblemToo(t *testing.T) {
	b := setup(t, nil)
	const origin = "https://app.example.nl"
	for _, c := range []struct {
		name, request string
		status        int
		code          string
		cors          bool
	}{
		{"a lower-case method", "get /api/v1/who HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\n\r\n", 400, "BAD_REQUEST", true},
		{"a method in mixed case with a body", "Post /api/v1/count HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\nContent-Length: 2\r\n\r\n{}", 400, "BAD_REQUEST", true},
		{"an unknown method", "PROPFIND /api/v1/who HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\n\r\n", 400, "BAD_REQUEST", true},
		{"an unknown method outside the operations", "purge / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a method that no operation has", "TRACE /api/v1/who HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\n\r\n", 405, "METHOD_NOT_ALLOWED", true},
		{"no request line", "hello\r\nOrigin: " + origin + "\r\n\r\n", 400, "BAD_REQUEST", true},
		{"a method that is no token", "G@T / HTTP/1.1\r\nHost: x\r\norigin: " + origin + "\r\n\r\n", 400, "BAD_REQUEST", true},
		{"no version", "GET /api/v1/who\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST", false},
		{"version 2 by text", "GET /api/v1/who HTTP/2.0\r\nHost: x\r\nOrigin: " + origin + "\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED", true},
		{"version 0.9", "GET /api/v1/who HTTP/0.9\r\nHost: x\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED", false},
		{"a version that is none", "GET /api/v1/who HTTP/11\r\nHost: x\r\nOrigin: " + origin + "\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED", true},
		{"a path that claims a version", "GET /error-when-reading-request-headers:-unsupported-HTTP-version\r\n\r\n", 400, "BAD_REQUEST", false},
		{"no Host", "GET /api/v1/public HTTP/1.1\r\nOrigin: " + origin + "\r\n\r\n", 400, "BAD_REQUEST", true},
		{"two Hosts", "GET /api/v1/public HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\nhost: x\r\n\r\n", 400, "BAD_REQUEST", true},
		{"two Hosts in HTTP/1.0", "GET /api/v1/public HTTP/1.0\r\nHost: x\r\nHOST: y\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a Host that is a list", "GET /api/v1/public HTTP/1.1\r\nHost: x, y\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a Host with a path", "GET /api/v1/public HTTP/1.1\r\nHost: x/y\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a folded header", "GET /api/v1/public HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a header folded with a tab", "GET /api/v1/public HTTP/1.1\r\nHost: x\r\nX-A: a\r\n\tb\r\nX-B: c\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a blank before the first header", "GET /api/v1/public HTTP/1.1\r\n Host: x\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a blank before the colon", "GET /api/v1/public HTTP/1.1\r\nHost : x\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a header without a colon", "GET /api/v1/public HTTP/1.1\r\nHost: x\r\nnonsense\r\nX-A: b\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a line that ends with LF alone", "GET /api/v1/public HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a head that ends with LF alone", "GET /api/v1/public HTTP/1.1\r\nHost: x\r\n\n", 400, "BAD_REQUEST", false},
		{"two lengths", "POST /api/v1/count HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400, "BAD_REQUEST", false},
		{"a length that is none", "POST /api/v1/count HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\nContent-Length: x\r\n\r\n", 400, "BAD_REQUEST", true},
		{"headers beyond the limit", "GET /api/v1/who HTTP/1.1\r\nHost: x\r\nOrigin: " + origin + "\r\nX-A: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", 431, "HEADERS_TOO_LARGE", true},
		{"the origin behind such headers", "GET /api/v1/who HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("x", 40<<10) + "\r\nOrigin: " + origin + "\r\n\r\n", 431, "HEADERS_TOO_LARGE", true},
		{"such headers from another page", "GET /api/v1/who HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nX-A: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", 431, "HEADERS_TOO_LARGE", false},
		{"a body beyond the limit", "POST /api/v1/echo/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nOrigin: " + origin + "\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat(" ", 5000), 413, "PAYLOAD_TOO_LARGE", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _, _ := b.raw(t, c.request)
			require.Equal(t, c.status, a.status, a.body)
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
			problem := a.json(t)
			require.Equal(t, c.code, problem["code"])
			require.NotEmpty(t, problem["detail"])
			require.Equal(t, problem["detail"], problem["message"])
			require.EqualValues(t, c.status, problem["status"])
			require.NotEmpty(t, problem["requestId"])
			require.Equal(t, problem["requestId"], a.header.Get("X-Request-ID"))
			if c.cors {
				require.Equal(t, origin, a.header.Get("Access-Control-Allow-Origin"))
				require.Equal(t, "true", a.header.Get("Access-Control-Allow-Credentials"))
				require.Contains(t, a.header.Get("Access-Control-Expose-Headers"), "X-Request-ID")
			} else {
				require.Empty(t, a.header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
	t.Run("WhatIsWellFormedIsServed", func(t *testing.T) {
		for _, request := range []string{
			"GET /api/v1/public HTTP/1.1\r\nhOsT: x:8000\r\n\r\n",
			"GET /api/v1/public HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
			"GET /api/v1/public HTTP/1.1\r\nHost:\r\n\r\n",
			"GET /api/v1/public HTTP/1.0\r\n\r\n",
			"GET /api/v1/public HTTP/1.0\r\nHost: x\r\n\r\n",
			"\r\nGET /api/v1/public HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			a, _, _ := b.raw(t, request)
			require.Equal(t, 200, a.status, request)
		}
	})
	t.Run("AnUnknownMethodLeavesTheConnectionUsable", func(t *testing.T) {
		_, conn, reader := b.raw(t, "get /api/v1/public HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\nGET /evil HTTP/1.1\r\nX: y\r\n\r\n")
		_, err := io.WriteString(conn, "GET /api/v1/public HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		res, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode)
		require.NoError(t, res.Body.Close())
	})
}

func TestConditionsOfAGet(t *testing.T) {
	b := setup(t, func(d *api.Deps, _ *db.PoolOptions) {
		d.Checks = []api.Check{{Name: "database", Critical: true, Probe: unhealthy}}
	})
	tag := b.do(t, "GET", "/api/v1/echo/1", "").header.Get("ETag")
	require.True(t, strings.HasPrefix(tag, `W/"`))
	strong := strings.TrimPrefix(tag, "W/")
	for condition, status := range map[string]int{
		tag: 304, strong: 304, `"zzz", ` + tag: 304, `"zzz",W/"yyy",` + strong + `,"x"`: 304, "*": 304, " * ": 304, `"a,b", ` + tag: 304, tag + ",": 304,
		`"zzz"`: 200, `W/"zzz", "yyy"`: 200, strings.Trim(strong, `"`): 200, `"zzz ` + strings.Trim(strong, `"`) + `"`: 200, `"a, ` + strings.Trim(strong, `"`) + `, b"`: 200, "": 200,
	} {
		a := b.do(t, "GET", "/api/v1/echo/1", "", "If-None-Match", condition)
		require.Equal(t, status, a.status, condition)
		require.Equal(t, tag, a.header.Get("ETag"), condition)
		require.Equal(t, status == 200, a.body != "", condition)
		require.Equal(t, status, b.do(t, "HEAD", "/api/v1/echo/1", "", "If-None-Match", condition).status, condition)
	}
	two, _, _ := b.raw(t, "GET /api/v1/echo/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nIf-None-Match: \"zzz\"\r\nIf-None-Match: "+tag+"\r\n\r\n")
	require.Equal(t, 304, two.status, "a list in two lines")
	require.Equal(t, 404, b.do(t, "GET", "/api/v1/nothing", "", "If-None-Match", "*").status)
	require.Equal(t, 409, b.do(t, "GET", "/api/v1/refuse", "", "If-None-Match", "*").status)
	require.Equal(t, 503, b.do(t, "GET", "/health/ready", "", "If-None-Match", "*").status)
	require.Equal(t, 201, b.do(t, "POST", "/api/v1/echo/1", "{}", "If-None-Match", "*").status)
}

func unhealthy(context.Context) api.CheckResult { return api.CheckResult{Status: "unhealthy"} }

// A client that is still sending its body sees the answer, and not a reset connection.
func TestARefusedRequestWithABodyIsAnswered(t *testing.T) {
	b := setup(t, nil)
	body := strings.Repeat("x", 600<<10)
	for head, status := range map[string]int{
		"POST /api/v1/count HTTP/1.1\r\nContent-Length: 614400\r\n\r\n":             400,
		"POST /api/v1/count HTTP/2.0\r\nHost: x\r\nContent-Length: 614400\r\n\r\n":  505,
		"POST /api/v1/count HTTP/1.1 \r\nHost: x\r\nContent-Length: 614400\r\n\r\n": 505,
		"post /api/v1/count HTTP/1.1\r\nHost: x\r\nContent-Length: 614400\r\n\r\n":  400,
	} {
		a, _, _ := b.raw(t, head+body)
		require.Equal(t, status, a.status, head)
	}
}
