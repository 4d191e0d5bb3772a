package models

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// Of several members with one name the last is the one that the schema checks, that Go reads and that Postgres stores. It counts whole:
// nothing of an earlier one is merged into it.
func TestTheLastOfSeveralMembersCounts(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	send := func(body string) llmtest.Call {
		g.calmly()
		g.anna.Do("POST", "/ai/messages", fmt.Sprintf(`{"model":%q,%s`, llmtest.Sonnet, body[1:])).Want(200)
		calls := g.models.Calls()
		return calls[len(calls)-1]
	}
	hello := `"messages":[{"role":"user","content":"ok"}]`
	call := send(`{"parameters":{"max_tokens":99999,"top_k":3},"parameters":{"temperature":0.5},` + hello + `}`)
	require.Equal(t, []any{4096., 0.5, nil}, []any{call.Body["max_tokens"], call.Body["temperature"], call.Body["top_k"]})
	call = send(`{"messages":[{"role":"assistant","content":"no"},{"role":"user","content":"no"}],` + hello + `}`)
	require.Equal(t, []string{"ok"}, call.Texts)
	call = send(`{"messages":7,"systemPrompt":"a","systemPrompt":"b",` + hello + `}`)
	require.Equal(t, "b", call.System)
	g.calmly()
	g.anna.Do("POST", "/ai/messages", fmt.Sprintf(`{"model":%q,%s,"messages":7}`, llmtest.Sonnet, hello)).Problem(400, "VALIDATION_ERROR").Field("messages")

	created := g.anna.Do("POST", "/skills", `{"name":"a","name":"Twice","promptTemplate":"`+strings.Repeat("x", 20)+`","parameters":{"top_k":1},"parameters":{"max_tokens":9}}`).Want(201)
	require.Equal(t, "Twice", created.String("name"))
	require.Equal(t, map[string]any{"max_tokens": 9.}, created.Value("parameters"))
	// A sign-up with two addresses in one body counts the last one.
	g.Do("POST", "/auth/signup", `{"email":"one@example.nl","email":"two@example.nl","password":"aaaa-1111-BBBB","first_name":"T","last_name":"W"}`)
	require.Equal(t, 0, testdb.Value[int](g.DB, "select count(*)::int from public.users where email = 'one@example.nl'"))
}
