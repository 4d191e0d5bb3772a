package chat

import (
	"bufio"
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

func TestAnAnswerIsStreamed(t *testing.T) {
	t.Parallel()
	l := newLab(t).ingest()
	for i, c := range []struct{ query, accept string }{{"", "text/event-stream"}, {"?stream=true", "application/json"}} {
		l.models.Next(llmtest.Answer("The checker ", "[", "1", "] and not [", "3", "0] ", "`a[0]`").Tokens(3, 4))
		all := l.events(l.anna, l.context+c.query, map[string]any{"message": fmt.Sprintf("Where is TokenChecker, %d?", i)}, "Accept", c.accept)
		require.Equal(t, "start text sources done", names(all))
		require.Equal(t, "The checker [1] and not `a[0]`", said(all))
		message := all[len(all)-1].data["message"].(map[string]any)
		require.Equal(t, []any{said(all), all[0].data["messageId"], all[0].data["userMessageId"], all[0].data["chatId"]},
			[]any{message["content"], message["id"], message["userMessageId"], message["chatId"]})
		require.Equal(t, all[len(all)-2].data["sources"], message["sources"])
		require.Len(t, message["sources"], 1)
	}
	// No event has a part of a marker that is removed.
	l.models.Next(llmtest.Answer("a [", "9", "9] b"))
	for _, e := range l.events(l.anna, l.context, map[string]any{"message": "More?"}) {
		if e.name == "text" {
			require.NotContains(t, e.data["content"], "[")
		}
	}
	require.Equal(t, 3, l.used(l.anna))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.chat_questions"))
}

// What happens at the provider decides the answer. A question that got no text costs nothing, a text that was cut is kept.
func TestAFailingProviderCostsNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.ModelTimeout = 2 * time.Second })
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("Fine.") })
	cases := []struct {
		name   string
		reply  llmtest.Reply
		status int
		code   string
		kept   string
	}{
		{"429", llmtest.Reply{Status: 429, Message: "slow down", RetryAfter: "7"}, 429, "RATE_LIMITED", ""},
		{"529", llmtest.Fail(529, "overloaded"), 503, "SERVICE_UNAVAILABLE", ""},
		{"401", llmtest.Fail(401, "who are you"), 502, "INVALID_API_KEY", ""},
		{"500", llmtest.Fail(500, "oops"), 502, "API_ERROR", ""},
		{"HTML", llmtest.Reply{Raw: "<html><body>Bad gateway</body></html>"}, 0, "", ""},
		{"nothing", llmtest.Answer(""), 502, "API_ERROR", ""},
		{"silence", llmtest.Silence(), 504, "NETWORK_ERROR", ""},
		{"cut before", llmtest.Half(), 504, "NETWORK_ERROR", ""},
		{"cut", llmtest.Half("One, two [", "1"), 504, "NETWORK_ERROR", "One, two"},
		{"stalled", llmtest.Reply{Pieces: []string{"One, "}, Hold: true}, 504, "NETWORK_ERROR", "One, "},
		{"failed late", llmtest.Reply{Pieces: []string{"One"}, StreamError: "overloaded_error"}, 503, "SERVICE_UNAVAILABLE", "One"},
	}
	for i, c := range cases {
		for _, streamed := range []bool{false, true} {
			l.calmly()
			before := l.used(l.anna)
			thread, what := fmt.Sprintf("chat_case%d_%t", i, streamed), fmt.Sprintf("%s, streamed %t", c.name, streamed)
			l.models.Next(c.reply)
			var code string
			if streamed {
				all := l.events(l.anna, thread, map[string]any{"message": "Count"})
				last := all[len(all)-1]
				require.Equal(t, "error", last.name, what)
				code = fmt.Sprint(last.data["code"])
				require.Equal(t, strings.TrimSpace(c.kept), strings.TrimSpace(said(all)), what)
				require.NotNil(t, last.data["retryable"], what)
			} else {
				r := l.ask(l.anna, thread, "Count")
				require.GreaterOrEqual(t, r.Status, 400, what)
				if c.status > 0 {
					require.Equal(t, c.status, r.Status, "%s: %s", what, r.Body)
				}
				if c.name == "429" {
					require.Equal(t, "7", r.Header.Get("Retry-After"))
				}
				code = r.String("code")
			}
			if c.code != "" {
				require.Equal(t, c.code, code, what)
			}
			want := []string{"user: Count"}
			if c.kept != "" {
				want = append(want, "assistant: "+c.kept)
				before++
				require.True(t, l.messages(l.anna, thread)[1].Stopped, what)
			}
			require.Equal(t, want, l.history(l.anna, thread), what)
			require.Equal(t, before, l.used(l.anna), what)
		}
	}
	// The same text again is the same message.
	l.calmly()
	l.ask(l.anna, "chat_case0_false", "Count").Want(200)
	require.Equal(t, []string{"user: Count", "assistant: Fine."}, l.history(l.anna, "chat_case0_false"))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.chat_questions"))
}

// Anna presses "Stop generating", which closes the connection.
func TestStoppingEndsTheCallAndKeepsTheText(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.models.Next(llmtest.Reply{Pieces: []string{"One, ", "two [1"}, Hold: true})
	ctx, cancel := context.WithCancel(t.Context())
	lines := bufio.NewScanner(l.open(ctx, l.anna, "chat_stop_1", map[string]any{"message": "Count"}).Body)
	for _, name := range []string{"start", "text"} {
		e, ok := l.next(lines)
		require.True(t, ok)
		require.Equal(t, name, e.name)
	}
	cancel()
	stack.Eventually(t, "the call to the provider ends", func() bool { return l.models.Aborted() == 1 })
	stack.Eventually(t, "the text is stored", func() bool { return len(l.history(l.anna, "chat_stop_1")) == 2 })
	stored := l.messages(l.anna, "chat_stop_1")[1]
	require.Equal(t, []any{true, "One, two"}, []any{stored.Stopped, stored.Content}, "without the beginning of a marker")
	require.Equal(t, 1, l.used(l.anna))

	l.models.Next(llmtest.Silence())
	ctx, cancel = context.WithCancel(t.Context())
	lines = bufio.NewScanner(l.open(ctx, l.anna, "chat_stop_2", map[string]any{"message": "Count"}).Body)
	_, ok := l.next(lines)
	require.True(t, ok)
	stack.Eventually(t, "the provider is asked", func() bool { now, _ := l.models.InFlight(); return now == 1 })
	cancel()
	stack.Eventually(t, "the unit goes back", func() bool { return l.used(l.anna) == 1 })
	require.Equal(t, []string{"user: Count"}, l.history(l.anna, "chat_stop_2"), "the question stays")

	// A chat that is deleted while its question is answered.
	l.models.Next(llmtest.Reply{Pieces: []string{"One, ", "two"}, Pause: 300 * time.Millisecond})
	lines = bufio.NewScanner(l.open(t.Context(), l.anna, "chat_stop_3", map[string]any{"message": "Count"}).Body)
	_, _ = l.next(lines)
	l.anna.Do("DELETE", "/chats/chat_stop_3", nil).Want(204)
	var last event
	for e, ok := l.next(lines); ok; e, ok = l.next(lines) {
		last = e
	}
	require.Equal(t, []any{"error", "CHAT_NOT_FOUND"}, []any{last.name, last.data["code"]})
	require.Equal(t, 1, l.used(l.anna))
}

// A client repeats its request under the same Idempotency-Key.
func TestARepeatedRequestIsOneQuestion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("Once.").After(200 * time.Millisecond) })
	body := map[string]any{"message": "Count"}
	keyed := l.anna.With("Idempotency-Key", "k1")
	ids := map[string]bool{}
	for _, r := range client.AtOnce(t, 4, func(int) (client.Response, error) { return keyed.Try("POST", "/contexts/chat_once_1/chat", body) }) {
		ids[client.JSON[answer](r.Want(200)).ID] = true
	}
	require.Len(t, ids, 1)
	require.Len(t, l.models.Calls(), 1)
	require.Equal(t, "start text sources done", names(l.events(l.anna, "chat_once_1", body, "Idempotency-Key", "k1")))
	require.Equal(t, []string{"user: Count", "assistant: Once."}, l.history(l.anna, "chat_once_1"))
	keyed.Do("POST", "/contexts/chat_once_1/chat", map[string]any{"message": "Other"}).Problem(409, "IDEMPOTENCY_CONFLICT")
	// After a failure the key is free again.
	l.models.Next(llmtest.Fail(503, ""))
	failing := l.anna.With("Idempotency-Key", "k2")
	failing.Do("POST", "/contexts/chat_once_2/chat", body).Problem(503, "SERVICE_UNAVAILABLE")
	failing.Do("POST", "/contexts/chat_once_2/chat", body).Want(200)
	require.Equal(t, 2, l.used(l.anna))
}

// Thirty persons ask at once. No connection to the database waits for the model, and what they hold is little.
func TestThirtyPersonsAskAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.DatabasePool = 4 })
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("A while.").After(2 * time.Second) })
	persons := make([]*client.Person, 30)
	for i := range persons {
		persons[i] = l.SignUp(fmt.Sprintf("Person%d", i))
	}
	done := make(chan []client.Response, 1)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() {
		done <- client.AtOnce(t, len(persons), func(i int) (client.Response, error) {
			return persons[i].Try("POST", "/contexts/chat_many_1/chat", map[string]any{"message": strings.Repeat("word ", 1000)})
		})
	}()
	stack.Eventually(t, "all of them wait for the model", func() bool { now, _ := l.models.InFlight(); return now == len(persons) })
	require.Zero(t, testdb.Value[int](l.DB, `select count(*)::int from pg_stat_activity where datname = current_database() and usename = 'kijko_server' and state <> 'idle'`))
	runtime.GC()
	runtime.ReadMemStats(&during)
	require.Less(t, int64(during.HeapAlloc)-int64(before.HeapAlloc), int64(64<<20))
	persons[0].Get("/chats").Want(200)
	for _, r := range <-done {
		require.Equal(t, "A while.", client.JSON[answer](r.Want(200)).Content)
	}
}
