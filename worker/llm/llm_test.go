package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
	"kijko/worker/seal"
)

// both names a model of each provider.
var both = map[string]string{llm.Anthropic: "claude-sonnet-4-6", llm.Google: "gemini-3-flash-preview"}

// eachProvider runs f against a double, for Anthropic and for Google, whole and streamed.
func eachProvider(t *testing.T, f func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error))) {
	for name, model := range both {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stream=%t", name, stream), func(t *testing.T) {
				t.Parallel()
				models := llmtest.New(t)
				p := provider(t, models.Config(), name)
				f(t, models, func(ctx context.Context, r llm.Request) (llm.Result, []string, error) {
					if r.Model == "" {
						r.Model = model
					}
					if r.Messages == nil {
						r.Messages = llm.Prompt("Hello")
					}
					if !stream {
						result, err := p.Generate(ctx, r)
						return result, nil, err
					}
					pieces := []string{}
					result, err := p.Stream(ctx, r, func(text string) error {
						pieces = append(pieces, text)
						return nil
					})
					return result, pieces, err
				})
			})
		}
	}
}

func provider(t *testing.T, c llm.Config, name string) llm.Provider {
	t.Helper()
	set, err := llm.New(c)
	require.NoError(t, err)
	p, err := set.For(name)
	require.NoError(t, err)
	return p
}

func ptr[T any](v T) *T { return &v }

func TestAnAnswer(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		models.Next(llmtest.Answer("One, ", "two, ", "three.").Tokens(1000, 500))
		result, pieces, err := ask(t.Context(), llm.Request{})
		require.NoError(t, err)
		require.Equal(t, "One, two, three.", result.Text)
		require.Equal(t, llm.Usage{Input: 1000, Output: 500}, result.Usage)
		require.Equal(t, "end_turn", result.StopReason)
		require.NotEmpty(t, result.ID)
		call := models.Calls()[0]
		require.Equal(t, result.Model, call.Model)
		require.Equal(t, llmtest.Key, call.Key)
		if pieces != nil {
			require.Equal(t, []string{"One, ", "two, ", "three."}, pieces)
		}
		models.Next(llmtest.Answer())
		result, pieces, err = ask(t.Context(), llm.Request{})
		require.NoError(t, err, "an empty answer is an answer")
		require.Empty(t, result.Text)
		require.Empty(t, pieces)
	})
}

func TestTheRequest(t *testing.T) {
	t.Parallel()
	conversation := []llm.Message{
		{Role: llm.User, Parts: []llm.Part{{Text: "Look: "}, {Image: &llm.Image{MediaType: "image/png", Data: []byte("png")}}}},
		{Role: llm.Assistant, Parts: []llm.Part{{Text: "I see."}}},
		{Role: llm.User, Parts: []llm.Part{{Text: "What?"}}},
	}
	full := llm.Request{System: "Be brief.", Messages: conversation, Key: "sk-of-an-organization", Parameters: llm.Parameters{Temperature: ptr(0.5),
		MaxTokens: ptr(100), TopP: ptr(0.25), TopK: ptr(7), StopSequences: []string{"a", "b", "c", "d", "e", "f"}}}
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		_, _, err := ask(t.Context(), full)
		require.NoError(t, err)
		_, _, err = ask(t.Context(), llm.Request{})
		require.NoError(t, err)
		_, _, err = ask(t.Context(), llm.Request{Parameters: llm.Parameters{TopP: ptr(0.5)}})
		require.NoError(t, err)
		first, second, third := models.Calls()[0], models.Calls()[1], models.Calls()[2]
		require.Equal(t, "sk-of-an-organization", first.Key, "an organization's own key pays")
		require.Equal(t, "Be brief.", first.System)
		require.Equal(t, []string{"Look: ", "I see.", "What?"}, first.Texts)
		require.Equal(t, 1, first.Images)
		if first.Provider == llm.Anthropic {
			require.Equal(t, []string{"user", "assistant", "user"}, first.Roles)
			require.Subset(t, first.Body, map[string]any{"temperature": 0.5, "max_tokens": 100., "top_p": 0.25, "top_k": 7.,
				"stop_sequences": []any{"a", "b", "c", "d", "e", "f"}})
			require.Subset(t, second.Body, map[string]any{"temperature": 1., "max_tokens": 4096.})
			for _, absent := range []string{"top_p", "top_k", "stop_sequences", "system"} {
				require.NotContains(t, second.Body, absent)
			}
			require.NotContains(t, third.Body, "temperature", "newer models refuse both at once")
			return
		}
		require.Equal(t, []string{"user", "model", "user"}, first.Roles)
		require.Equal(t, map[string]any{"temperature": 0.5, "maxOutputTokens": 100., "topP": 0.25, "topK": 7., "stopSequences": []any{"a", "b", "c", "d", "e"}},
			first.Body["generationConfig"], "of the stop sequences Google gets the first five")
		require.Equal(t, map[string]any{"temperature": 1., "maxOutputTokens": 4096.}, second.Body["generationConfig"])
		require.NotContains(t, second.Body, "systemInstruction")
	})
}

// The table of contract 20, section 6.6, with the retries of section 6.2.
func TestFailuresOfTheProvider(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		for _, c := range []struct {
			status    int
			code      llm.Code
			message   string
			retryable bool
		}{
			{400, llm.BadRequest, "the provider's sentence", false},
			{401, llm.InvalidAPIKey, "The provider refuses the API key. Please check the configuration.", false},
			{403, llm.APIError, "the provider's sentence", false},
			{404, llm.APIError, "the provider's sentence", false},
			{413, llm.APIError, "the provider's sentence", false},
			{429, llm.RateLimited, "The provider's rate limit is exceeded. Please try again later.", true},
			{500, llm.APIError, "the provider's sentence", true},
			{502, llm.APIError, "the provider's sentence", true},
			{503, llm.ServiceUnavailable, "The provider is temporarily unavailable. Please try again later.", true},
			{504, llm.APIError, "the provider's sentence", true},
			{529, llm.ServiceUnavailable, "The provider is temporarily unavailable. Please try again later.", true},
		} {
			before := len(models.Calls())
			models.Next(llmtest.Fail(c.status, "the provider's sentence"))
			_, pieces, err := ask(t.Context(), llm.Request{})
			e, ok := llm.AsError(err)
			require.True(t, ok, "%d: %v", c.status, err)
			require.Equal(t, []any{c.code, c.message, c.status, c.retryable}, []any{e.Code, e.Message, e.Status, e.Retryable()})
			require.Empty(t, pieces)
			require.Len(t, models.Calls(), before+1, "%d: the SDK does not try again by itself", c.status)
		}
		models.Next(llmtest.Reply{Status: 429, RetryAfter: "7"}, llmtest.Reply{Status: 502, Raw: "<html>no</html>"},
			llmtest.Fail(400, "your key sk-of-an-organization is not good"), llmtest.Fail(400, strings.Repeat("x", 10_000)))
		_, _, err := ask(t.Context(), llm.Request{})
		require.Equal(t, 7*time.Second, must(t, err).RetryAfter)
		_, _, err = ask(t.Context(), llm.Request{})
		require.Equal(t, "The provider answered with status 502.", must(t, err).Message, "a proxy's page is not shown")
		_, _, err = ask(t.Context(), llm.Request{Key: "sk-of-an-organization"})
		require.Equal(t, "your key [key] is not good", must(t, err).Message)
		require.NotContains(t, fmt.Sprintf("%v %+v", err, err), "sk-of")
		_, _, err = ask(t.Context(), llm.Request{})
		require.Len(t, must(t, err).Message, 4000)
	})
}

func must(t *testing.T, err error) *llm.Error {
	t.Helper()
	e, ok := llm.AsError(err)
	require.True(t, ok, "%v", err)
	return e
}

func TestGoogleSaysABadKeyIn400(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Next(llmtest.Reply{Status: 400, Message: "API key not valid.", Reason: "API_KEY_INVALID"})
	_, err := provider(t, models.Config(), llm.Google).Generate(t.Context(), llm.Request{Model: "gemini-x", Messages: llm.Prompt("x")})
	require.Equal(t, llm.InvalidAPIKey, must(t, err).Code)
}

func TestBlockedAnswers(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		_, _, err := ask(t.Context(), llm.Request{}) // finds out which provider this double is
		require.NoError(t, err)
		reasons := []string{"SAFETY", "RECITATION", "PROMPT_SAFETY", "NO_CANDIDATE"}
		limit := "MAX_TOKENS"
		if models.Calls()[0].Provider == llm.Anthropic {
			reasons, limit = []string{"refusal"}, "max_tokens"
		}
		for _, reason := range reasons {
			models.Next(llmtest.Reply{StopReason: reason, Input: 3, Output: 2})
			_, _, err := ask(t.Context(), llm.Request{})
			e := must(t, err)
			require.Equal(t, llm.BadRequest, e.Code, reason)
			require.False(t, e.Retryable())
			require.Equal(t, &llm.Usage{Input: 3, Output: 2}, e.Usage, "what was counted has to be paid")
		}
		models.Next(llmtest.Reply{StopReason: limit, Pieces: []string{"cut"}})
		result, _, err := ask(t.Context(), llm.Request{})
		require.NoError(t, err, "an answer that was cut short is an answer")
		require.Equal(t, []string{"cut", "max_tokens"}, []string{result.Text, result.StopReason})
	})
}

func TestBlocksAreJoinedByANewline(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	p := provider(t, models.Config(), llm.Anthropic)
	models.Next(llmtest.Reply{Pieces: []string{"one", "two"}, Blocks: true}, llmtest.Reply{Pieces: []string{"one", "two"}, Blocks: true})
	whole, err := p.Generate(t.Context(), llm.Request{Model: "claude-x", Messages: llm.Prompt("x")})
	require.NoError(t, err)
	text := ""
	streamed, err := p.Stream(t.Context(), llm.Request{Model: "claude-x", Messages: llm.Prompt("x")}, func(piece string) error {
		text += piece
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"one\ntwo", "one\ntwo", "one\ntwo"}, []string{whole.Text, streamed.Text, text})
}

func TestGoogleWithoutUsage(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Next(llmtest.Reply{Pieces: []string{"x"}, NoUsage: true}, llmtest.Reply{StopReason: "SAFETY", NoUsage: true})
	p := provider(t, models.Config(), llm.Google)
	result, err := p.Generate(t.Context(), llm.Request{Model: "gemini-x", Messages: llm.Prompt("x")})
	require.NoError(t, err)
	require.Zero(t, result.Usage)
	_, err = p.Generate(t.Context(), llm.Request{Model: "gemini-x", Messages: llm.Prompt("x")})
	require.Nil(t, must(t, err).Usage)
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		models.Next(llmtest.Half())
		_, _, err := ask(t.Context(), llm.Request{})
		require.Equal(t, []any{llm.NetworkError, true}, []any{must(t, err).Code, must(t, err).Retryable()}, "no answer at all")

		models.Next(llmtest.Half("One, ", "two"))
		_, pieces, err := ask(t.Context(), llm.Request{})
		require.Equal(t, []any{llm.NetworkError, true}, []any{must(t, err).Code, must(t, err).Retryable()}, "half an answer")
		if pieces != nil {
			require.Equal(t, []string{"One, ", "two"}, pieces)
			require.Equal(t, int64(10), must(t, err).Usage.Input)
		}

		models.Next(llmtest.Reply{Raw: "{ no JSON"})
		_, _, err = ask(t.Context(), llm.Request{})
		require.Error(t, err)
		require.NotEqual(t, llm.BadRequest, must(t, err).Code)

		kind, code, status := "overloaded_error", llm.ServiceUnavailable, 529
		if models.Calls()[0].Provider == llm.Google {
			kind, code, status = "UNAVAILABLE", llm.ServiceUnavailable, 503
		}
		if pieces != nil {
			models.Next(llmtest.Reply{Pieces: []string{"One"}, StreamError: kind, Message: "no"}, llmtest.Reply{StreamError: "unheard_of"})
			_, pieces, err = ask(t.Context(), llm.Request{})
			require.Equal(t, []any{code, status, true}, []any{must(t, err).Code, must(t, err).Status, must(t, err).Retryable()})
			require.Equal(t, []string{"One"}, pieces)
			_, _, err = ask(t.Context(), llm.Request{})
			require.Equal(t, llm.APIError, must(t, err).Code)
		}
	})
}

func TestSilence(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		for _, reply := range []llmtest.Reply{llmtest.Silence(), {Pieces: []string{"One"}, Hold: true}} {
			aborted := models.Aborted()
			models.Next(reply)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, _, err := ask(ctx, llm.Request{})
			cancel()
			require.Equal(t, []any{llm.Timeout, true}, []any{must(t, err).Code, must(t, err).Retryable()})
			require.Eventually(t, func() bool { return models.Aborted() == aborted+1 }, 5*time.Second, time.Millisecond, "the request is given up")
		}
		aborted := models.Aborted()
		models.Next(llmtest.Silence())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, _, err := ask(ctx, llm.Request{})
		require.ErrorIs(t, err, context.Canceled)
		require.Eventually(t, func() bool { return models.Aborted() == aborted+1 }, 5*time.Second, time.Millisecond, "cancelling aborts the request")
	})
}

func TestWhoListensMayStop(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	for name, model := range both {
		models := llmtest.New(t)
		models.Next(llmtest.Reply{Pieces: []string{"One", "two"}, Hold: true})
		_, err := provider(t, models.Config(), name).Stream(t.Context(), llm.Request{Model: model, Messages: llm.Prompt("x")}, func(string) error { return enough })
		require.ErrorIs(t, err, enough)
		require.Eventually(t, func() bool { return models.Aborted() == 1 }, 5*time.Second, time.Millisecond)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	for name, model := range both {
		p := provider(t, llm.Config{AnthropicURL: url, GoogleURL: url, AnthropicKey: llmtest.Key, GoogleKey: llmtest.Key}, name)
		r := llm.Request{Model: model, Messages: llm.Prompt("x")}
		_, err := p.Generate(t.Context(), r)
		require.Equal(t, []any{llm.NetworkError, "The provider could not be reached.", true}, []any{must(t, err).Code, must(t, err).Message, must(t, err).Retryable()})
		_, err = p.Stream(t.Context(), r, func(string) error { return nil })
		require.Equal(t, llm.NetworkError, must(t, err).Code)
		require.NotContains(t, fmt.Sprintf("%+v", err), llmtest.Key)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer(strings.Repeat("x", 33<<20)) })
	for name, model := range both {
		_, err := provider(t, models.Config(), name).Generate(t.Context(), llm.Request{Model: model, Messages: llm.Prompt("x")})
		require.Equal(t, "The provider's answer is too large.", must(t, err).Message, name)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	for name, model := range both {
		set, err := llm.New(llm.Config{AnthropicKey: llmtest.Key, GoogleKey: llmtest.Key, AnthropicURL: models.URL, GoogleURL: models.URL,
			Transport: redirector{to: models.URL}})
		require.NoError(t, err)
		p, err := set.For(name)
		require.NoError(t, err)
		_, err = p.Generate(t.Context(), llm.Request{Model: model, Messages: llm.Prompt("x")})
		require.Equal(t, llm.APIError, must(t, err).Code)
	}
	require.Empty(t, models.Calls(), "a key goes to no other host")
}

type redirector struct{ to string }

func (r redirector) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 307, Status: "307 Temporary Redirect", Header: http.Header{"Location": {r.to + request.URL.Path}}, Body: http.NoBody,
		Request: request}, nil
}

func TestWhoIsThere(t *testing.T) {
	t.Parallel()
	set, err := llm.New(llm.Config{GoogleKey: "k"})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"anthropic": false, "google": true, "local": false}, set.Offers())
	anthropic, err := set.For(llm.Anthropic)
	require.NoError(t, err, "an organization may bring its own key")
	for _, call := range []func() (llm.Result, error){
		func() (llm.Result, error) { return anthropic.Generate(t.Context(), llm.Request{}) },
		func() (llm.Result, error) { return anthropic.Stream(t.Context(), llm.Request{}, nil) },
		func() (llm.Result, error) {
			return provider(t, llm.Config{}, llm.Google).Generate(t.Context(), llm.Request{})
		},
		func() (llm.Result, error) {
			return provider(t, llm.Config{}, llm.Google).Stream(t.Context(), llm.Request{}, nil)
		},
		func() (llm.Result, error) { _, err := set.For(llm.Local); return llm.Result{}, err },
		func() (llm.Result, error) { _, err := set.For(""); return llm.Result{}, err },
	} {
		_, err := call()
		require.Equal(t, []any{llm.ProviderNotConfigured, false}, []any{must(t, err).Code, must(t, err).Retryable()})
	}
	_, err = set.For("openai")
	require.Equal(t, llm.ModelNotSupported, must(t, err).Code)
	require.NotEqual(t, seal.ProviderKey("a", llm.Google), seal.ProviderKey("b", llm.Google))
}

func TestWholeNumbersInEveryWayOfJSON(t *testing.T) {
	for text, want := range map[string][2]int{
		`{"max_tokens": 100, "top_k": 40}`:                {100, 40},
		`{"max_tokens": 100.0, "top_k": 4e1}`:             {100, 40},
		`{"max_tokens": 1.0e2, "top_k": 1e300}`:           {100, 1<<31 - 1},
		`{"top_p": 0.5, "max_tokens": 1e2, "top_k": 0.0}`: {100, 0},
	} {
		var p llm.Parameters
		require.NoError(t, json.Unmarshal([]byte(text), &p), text)
		require.Equal(t, want, [2]int{*p.MaxTokens, *p.TopK}, text)
	}
	var none llm.Parameters
	require.NoError(t, json.Unmarshal([]byte(`{"temperature": 0.5, "top_k": null}`), &none))
	require.Equal(t, llm.Parameters{Temperature: new(0.5)}, none)
	require.Error(t, json.Unmarshal([]byte(`{"top_k": "many"}`), &none))
}
