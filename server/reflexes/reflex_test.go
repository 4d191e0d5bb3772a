package reflexes

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The body of a watched call is kept with the execution and sent to a model: secrets are removed
// before.
func TestSecretsOfCallsAreHidden(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``: `{}`, `{"a"`: `{}`, `{"x": "` + strings.Repeat("x", maxCallBody) + `"}`: `{}`,
		`{"name":"n","password":"p","nested":[{"apiKey":"k","api_key":1,"key":"k","code":"c","keyboard":"q","webhookSecret":{"a":1}}],"n":1e3}`: `{"name":"n","password":"[hidden]",
			"nested":[{"apiKey":"[hidden]","api_key":"[hidden]","key":"[hidden]","code":"[hidden]","keyboard":"q","webhookSecret":"[hidden]"}],"n":1e3}`,
	} {
		got, err := json.Marshal(hideSecrets([]byte(body)))
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
}

func TestUnwatchedCalls(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/auth/login", "/auth", "/webhooks/reflex/1", "/events", "/ai/messages", "/executions/1/retry", "/skill-executions", "/skills/1/execute", "/skills/1/run", "/habits/1/run-now",
		"/skills/test", "/reflexes/1/test", "/oauth/x"} {
		require.Regexp(t, unwatched, path)
	}
	for _, path := range []string{"/projects", "/authors", "/eventsource", "/skills", "/skills/1", "/projects/1/testing"} {
		require.NotRegexp(t, unwatched, path)
	}
}

func TestQueriesBecomePayloads(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{"": `{}`, "a=1&b=x&b=y&c": `{"a":"1","b":["x","y"],"c":""}`, "a=%zz": `{"a":"%zz"}`, "a=1;b=2%": `{"a":"1;b=2%"}`,
		"a=%2&b=%2b%+": `{"a":"%2","b":"+% "}`, "%": `{"%":""}`} {
		got, err := queryPayload(query)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
	for _, query := range []string{"%00=1", "a=%ff"} {
		_, err := queryPayload(query)
		require.Error(t, err)
	}
	require.Equal(t, "x", cut("x"))
	require.Len(t, cut(strings.Repeat("x", 300)), 100)
}
