package api_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/openapi"
)

const cookieDocument = `
openapi: 3.1.0
info: {title: test, version: '1'}
components:
  responses: {Problem: {description: problem}}
paths:
  /file: {get: {operationId: file, x-cookie: session, x-function: test_who, responses: {'200': {description: ok}}}}
  /change: {post: {operationId: change, x-cookie: session, x-function: test_who, responses: {'200': {description: ok}}}}
  /beacon: {post: {operationId: beacon, x-access: optional, x-cookie: attribution, x-function: test_who, responses: {'200': {description: ok}}}}
  /other: {get: {operationId: other, x-function: test_who, responses: {'200': {description: ok}}}}
`

// AuthenticateCookie accepts "ann" as Ann's session. "ended" is an ended one; this server did
// not make any other value.
func (b *bundle) AuthenticateCookie(_ context.Context, value string) (*api.Caller, error) {
	switch value {
	case "ann":
		return b.caller, nil
	case "ended":
		return nil, api.NewProblem(401, "SESSION_REVOKED", "This session has ended.", "")
	}
	return nil, nil
}

func TestTheSessionCookieOpensWhatTheDocumentSays(t *testing.T) {
	doc, err := openapi.LoadFrom(fstest.MapFS{"test.yaml": {Data: []byte(cookieDocument)}})
	require.NoError(t, err)
	b := setup(t, func(d *api.Deps, _ *db.PoolOptions) { d.Document, d.Handlers = doc, nil })
	const ours, other = "https://app.example.nl", "https://evil.example"
	for _, test := range []struct {
		what, method, path, cookie, origin, bearer string
		status                                     int
		code                                       string
		known                                      bool
	}{
		{"a file by the cookie, without an origin", "GET", "/file", "ann", "", "", 200, "", true},
		{"a file from a page of another site, which cannot read the answer", "GET", "/file", "ann", other, "", 200, "", true},
		{"a file with a cookie that is not ours", "GET", "/file", "bob", "", "", 401, "UNAUTHENTICATED", false},
		{"a file with the cookie of an ended session", "GET", "/file", "ended", "", "", 401, "SESSION_REVOKED", false},
		{"a change from a page of ours", "POST", "/change", "ann", ours, "", 200, "", true},
		{"a change from a page of another site", "POST", "/change", "ann", other, "", 403, "ORIGIN_NOT_ALLOWED", false},
		{"a change without an origin", "POST", "/change", "ann", "", "", 403, "ORIGIN_NOT_ALLOWED", false},
		{"a change without any credential, from anywhere", "POST", "/change", "", other, "", 401, "UNAUTHENTICATED", false},
		{"a beacon from a page of ours", "POST", "/beacon", "ann", ours, "", 200, "", true},
		{"a beacon from elsewhere is anonymous", "POST", "/beacon", "ann", other, "", 200, "", false},
		{"a beacon of an ended session is anonymous", "POST", "/beacon", "ended", ours, "", 200, "", false},
		{"a beacon with a good token", "POST", "/beacon", "", other, "Bearer ann", 200, "", true},
		{"a beacon with a bad token is anonymous, also beside a good cookie", "POST", "/beacon", "ann", ours, "Bearer bob", 200, "", false},
		{"an operation that takes no cookie", "GET", "/other", "ann", ours, "", 401, "UNAUTHENTICATED", false},
		{"a bad token beside a good cookie", "GET", "/file", "ann", ours, "Bearer bob", 401, "UNAUTHENTICATED", false},
		{"a good token beside a bad cookie", "GET", "/file", "bob", ours, "Bearer ann", 200, "", true},
		{"a good token needs no origin", "POST", "/change", "ann", other, "Bearer ann", 200, "", true},
	} {
		t.Run(test.what, func(t *testing.T) {
			cookie := ""
			if test.cookie != "" {
				cookie = "theme=dark; kijko_session=" + test.cookie
			}
			got := b.do(t, test.method, "/api/v1"+test.path, "", "Authorization", test.bearer, "Cookie", cookie, "Origin", test.origin)
			require.Equal(t, test.status, got.status, got.body)
			if test.code != "" {
				require.Equal(t, test.code, got.json(t)["code"])
				return
			}
			require.Equal(t, test.known, got.json(t)["user"] != nil, got.body)
		})
	}
}

func TestTheDocumentCannotMisspellTheUseOfTheCookie(t *testing.T) {
	for _, words := range []string{"x-cookie: yes please", "x-cookie: attribution"} {
		_, err := openapi.LoadFrom(fstest.MapFS{"test.yaml": {Data: []byte(`
openapi: 3.1.0
components: {responses: {Problem: {description: problem}}}
paths: {/a: {get: {operationId: a, ` + words + `, responses: {'200': {description: ok}}}}}
`)}})
		require.ErrorContains(t, err, "x-cookie")
	}
}
