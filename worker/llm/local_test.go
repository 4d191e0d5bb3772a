package llm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/llm"
	"kijko/worker/token"
)

func TestTheLocalModel(t *testing.T) {
	t.Parallel()
	p := provider(t, llm.Config{Local: true}, llm.Local)
	ask := func(r llm.Request) llm.Result {
		result, err := p.Generate(t.Context(), r)
		require.NoError(t, err)
		return result
	}
	r := llm.Request{Model: "claude-x", System: "Be brief.", Messages: llm.Prompt("What is a habit?")}

	first := ask(r)
	require.True(t, strings.HasPrefix(first.Text, llm.LocalLabel), "it says what it is")
	require.Contains(t, first.Text, "What is a habit?")
	require.Equal(t, first, ask(r), "the same question has the same answer")
	require.Equal(t, []any{"claude-x", "end_turn"}, []any{first.Model, first.StopReason})
	require.Equal(t, llm.Usage{Input: int64(token.Count("Be brief.") + token.Count("What is a habit?")), Output: int64(token.Count(first.Text))}, first.Usage)
	require.NotEqual(t, first.ID, ask(llm.Request{Model: "claude-x", Messages: llm.Prompt("Something else")}).ID)

	text := ""
	streamed, err := p.Stream(t.Context(), r, func(piece string) error {
		text += piece
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{first.Text, first.Text}, []string{streamed.Text, text})

	r.MaxTokens = ptr(7)
	short := ask(r)
	require.Equal(t, []any{"max_tokens", int64(7)}, []any{short.StopReason, short.Usage.Output})
	r.MaxTokens, r.StopSequences = nil, []string{"", "asked"}
	require.Equal(t, "stop_sequence", ask(r).StopReason)

	long := ask(llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Text: strings.Repeat("é", 5000)},
		{Image: &llm.Image{MediaType: "image/png", Data: []byte("x")}}}}, {Role: llm.Assistant, Parts: []llm.Part{{Text: "not repeated"}}}}})
	require.Contains(t, long.Text, "1 image(s)")
	require.NotContains(t, long.Text, "not repeated")
	require.Less(t, len(long.Text), 2300)
	require.NotContains(t, long.Text, "\uFFFD")
}

func TestTheLocalModelTakesItsTime(t *testing.T) {
	t.Parallel()
	p := provider(t, llm.Config{Local: true, LocalDelay: time.Hour}, llm.Local)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := p.Generate(ctx, llm.Request{Messages: llm.Prompt("x")})
	require.ErrorIs(t, err, context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	_, err = provider(t, llm.Config{Local: true}, llm.Local).Stream(ctx, llm.Request{Messages: llm.Prompt("x")}, func(string) error {
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled, "also in the middle")
	enough := errors.New("enough")
	_, err = provider(t, llm.Config{Local: true}, llm.Local).Stream(t.Context(), llm.Request{Messages: llm.Prompt("x")}, func(string) error { return enough })
	require.ErrorIs(t, err, enough)
}
