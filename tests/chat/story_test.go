package chat

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// Anna asks about her context; Ben and Stan have nothing of it.
func TestAnnaAsksAboutHerContext(t *testing.T) {
	t.Parallel()
	l := newLab(t).ingest()

	l.models.Next(llmtest.Answer("Tokens are checked in one ", "place [1], not in the other [", "12].").Tokens(512, 96))
	got := client.JSON[answer](l.ask(l.anna, l.context, map[string]any{"message": "  Where does checkToken check a token?  "}).Want(200))
	require.Equal(t, "Tokens are checked in one place [1], not in the other.", got.Content, "a marker without a source is removed")
	require.Equal(t, []any{"assistant", "claude-3-5-sonnet-20241022", l.context, false}, []any{got.Role, got.Model, got.ChatID, got.ModelFallback})
	require.Equal(t, []int{512, 96, 608}, []int{got.Usage.InputTokens, got.Usage.OutputTokens, got.Usage.TotalTokens})
	call := l.models.Calls()[0]
	require.Contains(t, call.Text, "Where does checkToken check a token?")
	require.NotContains(t, call.System, "checkToken", "no text of a user is in the system prompt")
	require.Len(t, got.Sources, 1)
	source := got.Sources[0]
	require.Equal(t, given(call)["1"], source.Path)
	require.Equal(t, "src/auth.ts", source.Path, "the best passage comes first")
	require.Equal(t, []any{1, "auth.ts", 1}, []any{source.Index, source.Name, source.IngestionNumber})
	require.Contains(t, source.Excerpt, "TokenChecker")

	require.Equal(t, []string{"user: Where does checkToken check a token?", "assistant: " + got.Content}, l.history(l.anna, l.context))
	stored := l.messages(l.anna, l.context)
	require.Equal(t, got.Sources, stored[1].Sources)
	require.Equal(t, []string{got.UserMessageID, got.ID, got.Timestamp}, []string{stored[0].ID, stored[1].ID, stored[1].Timestamp})
	activity := client.JSON[[]struct{ Type, Description string }](l.anna.Get("/contexts/" + l.context + "/activity?type=chat").Want(200))
	require.Equal(t, "asked about Where does checkToken check a token?", activity[0].Description)
	require.Equal(t, 1, l.used(l.anna))
	require.Empty(t, l.anna.Get("/chats").Want(200).Value("items"), "a default thread is not listed")

	// The next question comes with the last messages.
	l.models.Next(llmtest.Answer("Yes."))
	l.ask(l.anna, l.context, "Are you sure?").Want(200)
	call = l.models.Calls()[1]
	require.Equal(t, []string{"user", "assistant", "user"}, call.Roles)
	require.Equal(t, []string{"Where does checkToken check a token?", got.Content}, call.Texts[:2])

	// Ben has a thread of his own, Stan none.
	require.Empty(t, l.history(l.ben, l.context))
	l.ask(l.stan, l.context, "Hello?").Problem(404, "CONTEXT_NOT_FOUND")
	l.stan.Get("/contexts/"+l.context+"/chat").Problem(404, "CONTEXT_NOT_FOUND")
	l.As("").Get("/contexts/"+l.context+"/chat").Problem(401, "UNAUTHENTICATED")

	// A chat of the page: its first question begins it, a context is named once.
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("I see [1].") })
	without := client.JSON[answer](l.ask(l.anna, "chat_ml3x0k_4h2q8zc", "What is a `cart`?").Want(200))
	require.Equal(t, "I see.", without.Content)
	require.Empty(t, without.Sources, "without a context there are no sources")
	require.Equal(t, "What is a cart?", l.anna.Get("/chats/chat_ml3x0k_4h2q8zc").Want(200).String("metadata.title"))
	bound := client.JSON[answer](l.ask(l.anna, "chat_ml3x0k_4h2q8zc", map[string]any{"message": "And the Cart class?", "contextId": l.context}).Want(200))
	require.Len(t, bound.Sources, 1)
	other := l.anna.Do("POST", "/projects", map[string]any{"name": "Other"}).Want(201).String("project.id")
	l.ask(l.anna, "chat_ml3x0k_4h2q8zc", map[string]any{"message": "And there?", "contextId": other}).Problem(409, "CHAT_CONFLICT").Field("contextId")
	l.ask(l.stan, "chat_ml3x0k_4h2q8zc", map[string]any{"message": "Hello?", "contextId": l.context}).Problem(404, "CONTEXT_NOT_FOUND")
	require.Empty(t, l.history(l.ben, "chat_ml3x0k_4h2q8zc"))
	empty := client.JSON[answer](l.ask(l.anna, other, "Is this empty?").Want(200))
	require.Equal(t, "I see.", empty.Content)

	// What the page records as well is stored once.
	l.anna.Do("POST", "/chats", map[string]any{"id": "chat_page_1"}).Want(201)
	l.anna.Do("POST", "/chats/chat_page_1/messages", map[string]any{"role": "user", "content": "Twice?"}).Want(201)
	l.ask(l.anna, "chat_page_1", "Twice?").Want(200)
	require.Equal(t, []string{"user: Twice?", "assistant: I see."}, l.history(l.anna, "chat_page_1"))
	merged := l.anna.Do("PUT", "/chats/chat_page_1", map[string]any{"messages": []any{map[string]any{"role": "user", "content": "Twice?", "attachments": []any{}}}}).Want(200)
	require.Len(t, merged.Value("messages"), 2)

	// Bad questions.
	for _, c := range []struct {
		body  any
		field string
	}{
		{map[string]any{"message": " \n"}, "message"}, {map[string]any{"message": strings.Repeat("x", 32001)}, "message"}, {map[string]any{"message": "x", "model": "llama"}, "model"},
		{map[string]any{"message": "x", "attachmentIds": []string{l.context}}, "attachmentIds"}, {map[string]any{"message": "x", "sourceIds": []string{"y"}}, "sourceIds[0]"},
	} {
		l.ask(l.anna, l.context, c.body).Problem(400, "VALIDATION_ERROR").Field(c.field)
	}
	l.ask(l.anna, "chat_", "x").Problem(400, "VALIDATION_ERROR").Field("id")

	// Other models.
	gemini := client.JSON[answer](l.ask(l.anna, l.context, map[string]any{"message": "And Gemini?", "model": "gemini"}).Want(200))
	require.Equal(t, []any{"gemini-3-flash-preview", false}, []any{gemini.Model, gemini.ModelFallback})
	gpt := client.JSON[answer](l.ask(l.anna, l.context, map[string]any{"message": "And GPT?", "model": "gpt4o"}).Want(200))
	require.Equal(t, []any{"claude-3-5-sonnet-20241022", true}, []any{gpt.Model, gpt.ModelFallback})

	// Thirty a minute.
	l.DB.Exec("update private.rate_counters set hits = 30 where key like 'chat|%'")
	require.NotEmpty(t, l.ask(l.anna, l.context, "Once more?").Problem(429, "RATE_LIMITED").Header.Get("Retry-After"))
	l.calmly()
	l.DB.Exec("update public.subscriptions set plan_id = 'free' where organization_id = $1", l.anna.OrgID)
	l.DB.Exec("update public.usage_counters set used = 100000, granted = 100000 where organization_id = $1 and metric = 'oracle_queries'", l.anna.OrgID)
	quota := l.ask(l.anna, l.context, "Too many?").Problem(429, "QUOTA_EXCEEDED")
	require.Equal(t, []any{"oracle_queries", false}, []any{quota.Value("details.metric"), quota.Value("retryable")})
}

// Whatever a model writes, a citation names a passage that it was given, and the text has no other marker.
func TestNoCitationNamesAFileThatTheModelWasNotGiven(t *testing.T) {
	t.Parallel()
	l := newLab(t).ingest()
	words := []string{"token", "cart", "checker", "order", "line", "shop", "request", "article", "nothing"}
	parts := []string{"Tokens ", "are ", "[1]", "[2]", "[3]", "[4]", "[12]", "[1, 7]", "[", "9", "]", " [2", "-9] ", "\n", "here"}
	random := rand.New(rand.NewPCG(7, 8))
	replies := make([]llmtest.Reply, 500)
	for i := range replies {
		pieces := []string{"I found ", "this: "}
		for range 1 + random.IntN(12) {
			pieces = append(pieces, parts[random.IntN(len(parts))])
		}
		replies[i] = llmtest.Answer(pieces...)
	}
	// The reply of a question is found by its number.
	l.models.Always(func(c llmtest.Call) llmtest.Reply {
		n, err := strconv.Atoi(c.Text[strings.LastIndex(c.Text, "#")+1:])
		if err != nil {
			return llmtest.Fail(500, "no question")
		}
		return replies[n]
	})
	answers := make([]answer, len(replies))
	const at = 10
	for batch := range len(replies) / at {
		if batch%3 == 0 {
			l.calmly()
		}
		for i, r := range client.AtOnce(t, at, func(i int) (client.Response, error) {
			n := batch*at + i
			return l.anna.Try("POST", fmt.Sprintf("/contexts/chat_q_%d/chat", n), map[string]any{"contextId": l.context,
				"message": fmt.Sprintf("What about %s and %s, question #%d", words[n%len(words)], words[n/len(words)%len(words)], n)})
		}) {
			answers[batch*at+i] = client.JSON[answer](r.Want(200))
		}
	}
	calls := map[int]llmtest.Call{}
	for _, c := range l.models.Calls() {
		n, err := strconv.Atoi(c.Text[strings.LastIndex(c.Text, "#")+1:])
		require.NoError(t, err)
		calls[n] = c
	}
	cited := 0
	for n, a := range answers {
		passages, sources := given(calls[n]), map[string]bool{}
		for _, s := range a.Sources {
			cited++
			sources[strconv.Itoa(s.Index)] = true
			require.Equal(t, passages[strconv.Itoa(s.Index)], s.Path, "%q", a.Content)
			require.NotEmpty(t, s.Path, "%q", a.Content)
		}
		for _, m := range marker.FindAllStringSubmatch(a.Content, -1) {
			require.True(t, sources[m[1]], "%q of %q has no source", m[0], a.Content)
		}
	}
	require.Greater(t, cited, 200)
	require.Equal(t, 500, l.used(l.anna))
}

// A member who leaves takes nothing along and leaves nothing behind for others.
func TestARemovedMemberHasNoThreads(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("An answer.") })
	l.ask(l.ben, "chat_ben_1", map[string]any{"message": "A secret of Ben", "contextId": l.context}).Want(200)
	l.ask(l.ben, l.context, "Another secret of Ben").Want(200)
	l.ask(l.anna, "chat_ben_1", "A question of Anna").Want(200)
	require.NotContains(t, string(l.anna.Get("/chats").Body)+string(l.anna.Get("/chats/chat_ben_1").Body)+string(l.anna.Get("/contexts/"+l.context+"/chat").Body), "secret of Ben")
	// In his own organization he has other chats, also under the same id.
	own := l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]string{"org_id": l.ben.OrgID}).Want(200).Tokens().AccessToken)
	require.Equal(t, 0., own.Get("/chats").Want(200).Value("total"))
	own.Do("POST", "/chats", map[string]any{"id": "chat_ben_1"}).Want(201)
	l.DB.Exec("delete from public.memberships where organization_id = $1 and user_id = $2", l.anna.OrgID, l.ben.ID)
	require.NotEqual(t, 200, l.ben.Get("/chats/chat_ben_1").Status)
	own.Do("POST", "/contexts/chat_ben_1/chat", map[string]any{"message": "x", "contextId": l.context}).Problem(404, "CONTEXT_NOT_FOUND")
	own.Get("/contexts/"+l.context+"/chat").Problem(404, "CONTEXT_NOT_FOUND")
	require.NotContains(t, string(own.Get("/chats/chat_ben_1").Want(200).Body), "secret")
}

// A new installation has no provider: the passages are shown as what they are.
func TestWithoutAProviderPassagesAreShown(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.AnthropicKey, c.GoogleKey = "", "" }).ingest()
	got := client.JSON[answer](l.ask(l.anna, l.context, map[string]any{"message": "Where is TokenChecker?", "model": "gpt4"}).Want(200))
	require.Equal(t, []any{"kijko-extractive", false, 0}, []any{got.Model, got.ModelFallback, got.Usage.TotalTokens})
	require.Contains(t, got.Content, "this is no analysis")
	require.Contains(t, got.Content, "checked here and nowhere else")
	require.Equal(t, "src/auth.ts", got.Sources[0].Path)
	require.Empty(t, l.models.Calls(), "the local model answers no chat")
	require.Equal(t, 1, l.used(l.anna))
	streamed := l.events(l.anna, l.context, map[string]any{"message": "Where is the Cart?"})
	require.Equal(t, "start text sources done", names(streamed))
	none := client.JSON[answer](l.ask(l.anna, "chat_none_1", "Hello?").Want(200))
	require.Contains(t, none.Content, "no passage")
	require.Equal(t, 3, l.used(l.anna))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.chat_questions"))
}

// Anna sends files with her question.
func TestFilesComeWithAQuestion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	png := "\x89PNG\r\n\x1a\n" + strings.Repeat("x", 40)
	send := func(p *client.Person, thread string, files ...file) client.Response {
		content, body := form(t, files)
		return p.With("Content-Type", content).Do("POST", "/context/"+thread+"/chat/attachments", body)
	}
	type attachment struct {
		ID, Name, MimeType string
		Size               int
	}
	sent := client.JSON[[]attachment](send(l.anna, l.context, file{"a/notes.md", "A note of Anna"}, file{"till.png", png}).Want(201))
	require.Equal(t, []attachment{{sent[0].ID, "notes.md", "text/plain", 14}, {sent[1].ID, "till.png", "image/png", len(png)}}, sent)
	ids := []string{sent[0].ID, sent[1].ID}
	body := map[string]any{"message": "What is this?", "attachmentIds": ids}
	l.ask(l.ben, l.context, body).Problem(400, "VALIDATION_ERROR").Field("attachmentIds")
	body["model"] = "claude-2.1"
	l.ask(l.anna, l.context, body).Problem(400, "VALIDATION_ERROR").Field("attachmentIds")
	delete(body, "model")
	l.models.Next(llmtest.Answer("A till."))
	l.ask(l.anna, "chat_files_1", body).Want(200)
	call := l.models.Calls()[0]
	require.Equal(t, 1, call.Images)
	require.Contains(t, call.Text, "--- notes.md ---\nA note of Anna")
	l.ask(l.anna, l.context, body).Problem(400, "VALIDATION_ERROR").Field("attachmentIds")
	info := l.anna.Get("/chats/chat_files_1").Want(200)
	require.Len(t, client.JSON[struct {
		Messages []struct{ AttachmentInfo []attachment }
	}](info).Messages[0].AttachmentInfo, 2)
	require.NotContains(t, string(info.Body), testdb.Value[string](l.DB, "select min(storage_key) from public.chat_attachments"))
	l.anna.Do("POST", "/chats/chat_files_1/messages", map[string]any{"role": "user", "content": "x", "attachmentIds": ids}).Problem(400, "VALIDATION_ERROR").Field("attachmentIds")

	send(l.anna, l.context, file{"a.exe", "MZ\x00\x01"}).Problem(400, "VALIDATION_ERROR").Field("files[0]")
	send(l.anna, l.context).Problem(400, "VALIDATION_ERROR").Field("files")
	send(l.anna, l.context, make([]file, 11)...).Problem(400, "VALIDATION_ERROR")
	send(l.anna, l.context, file{"big.txt", strings.Repeat("x", 10<<20+1)}).Problem(413, "PAYLOAD_TOO_LARGE").Field("files[0]")
	send(l.stan, l.context, file{"a.md", "x"}).Problem(404, "CONTEXT_NOT_FOUND")
	long := client.JSON[[]attachment](send(l.anna, l.context, file{"long.txt", strings.Repeat("word ", 81_000)}).Want(201))
	l.ask(l.anna, l.context, map[string]any{"message": "Long?", "attachmentIds": []string{long[0].ID}}).Problem(400, "VALIDATION_ERROR").Field("attachmentIds")

	storage := func() int {
		return testdb.Value[int](l.DB, "select coalesce(sum(used), 0)::int from public.usage_counters where organization_id = $1 and metric = 'storage'", l.anna.OrgID)
	}
	require.Equal(t, 14+len(png)+405_000, storage())
	l.anna.Do("DELETE", "/chats/chat_files_1", nil).Want(204)
	require.Equal(t, 405_000, storage())
	require.Equal(t, 2, testdb.Value[int](l.DB, "select jsonb_array_length(convert_from(args, 'UTF8')::jsonb -> 'keys') from jobs.gue_jobs where job_type = 'blobs.delete'"))
}
