package client

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Response is an answer, read to its end and held against the document.
type Response struct {
	t       testing.TB
	Request string
	Status  int
	Header  http.Header
	Body    []byte
}

// Want requires a status and shows the body otherwise.
func (r Response) Want(status int) Response {
	r.t.Helper()
	require.Equal(r.t, status, r.Status, "%s answered %s", r.Request, r.Body)
	return r
}

// Problem requires a problem document with this status and code.
func (r Response) Problem(status int, code string) Response {
	r.t.Helper()
	r.Want(status)
	require.Equal(r.t, "application/problem+json", r.Header.Get("Content-Type"), "%s", r.Body)
	require.Equal(r.t, code, r.String("code"), "%s", r.Body)
	require.NotEmpty(r.t, r.String("detail"))
	require.Equal(r.t, r.String("detail"), r.String("message"))
	return r
}

// Field requires that the problem names this field; "" requires that it names none.
func (r Response) Field(field string) Response {
	r.t.Helper()
	var p struct{ Field string }
	r.Into(&p)
	require.Equal(r.t, field, p.Field, "%s", r.Body)
	return r
}

// Equal requires a body that equals this value as JSON.
func (r Response) Equal(value any) {
	r.t.Helper()
	want, err := json.Marshal(value)
	require.NoError(r.t, err)
	require.JSONEq(r.t, string(want), string(r.Body), "%s", r.Request)
}

// Into decodes the body.
func (r Response) Into(value any) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal(r.Body, value), "%s answered %s", r.Request, r.Body)
}

// JSON decodes the body as a T.
func JSON[T any](r Response) T {
	r.t.Helper()
	var value T
	r.Into(&value)
	return value
}

// Value finds a member by its dotted path (details.limit); nil if it is absent. It does not look into arrays.
func (r Response) Value(path string) any {
	r.t.Helper()
	var at any
	r.Into(&at)
	for _, name := range strings.Split(path, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

// String is Value, which must be text.
func (r Response) String(path string) string {
	r.t.Helper()
	text, ok := r.Value(path).(string)
	require.True(r.t, ok, "%s is no text in %s", path, r.Body)
	return text
}

// Tokens decodes a TokenResponse.
func (r Response) Tokens() Tokens {
	r.t.Helper()
	return JSON[Tokens](r)
}

// Cookie gives a cookie that the answer sets, or nil.
func (r Response) Cookie(name string) *http.Cookie {
	for _, cookie := range (&http.Response{Header: r.Header}).Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}
