package llm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
)

// clock is a clock that advances only by sleeping.
type clock struct {
	now   time.Time
	slept []time.Duration
}

func (c *clock) policy() llm.Policy {
	p := llm.DefaultPolicy()
	p.Now = func() time.Time { return c.now }
	p.Sleep = func(ctx context.Context, d time.Duration) error {
		c.now, c.slept = c.now.Add(d), append(c.slept, d)
		return ctx.Err()
	}
	p.Delay = func(n int) time.Duration { return time.Second << n }
	return p
}

var question = llm.Request{Model: "claude-x", Messages: llm.Prompt("Hello")}

func TestPolicy(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*llmtest.Server, llm.Provider, *clock, llm.Policy) {
		t.Parallel()
		models := llmtest.New(t)
		c := &clock{now: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
		return models, provider(t, models.Config(), llm.Anthropic), c, c.policy()
	}
	t.Run("TheThirdAttemptSucceeds", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Fail(503, ""), llmtest.Fail(500, ""), llmtest.Answer("fine"))
		result, err := p.Generate(t.Context(), c.now, to, question)
		require.NoError(t, err)
		require.Equal(t, "fine", result.Text)
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second}, c.slept)
	})
	t.Run("FourAttemptsAreAll", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Fail(529, "") })
		_, err := p.Generate(t.Context(), c.now, to, question)
		require.Equal(t, llm.ServiceUnavailable, must(t, err).Code)
		require.Len(t, models.Calls(), 4)
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, c.slept)
	})
	t.Run("WhatWillNotHelpIsNotTried", func(t *testing.T) {
		models, to, c, p := setup(t)
		for _, status := range []int{400, 401, 403, 404} {
			models.Next(llmtest.Fail(status, ""))
			_, err := p.Generate(t.Context(), c.now, to, question)
			require.Error(t, err)
		}
		require.Len(t, models.Calls(), 4)
		require.Empty(t, c.slept)
	})
	t.Run("TheProvidersWishIsHeeded", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Reply{Status: 429, RetryAfter: "60"}, llmtest.Answer("fine"))
		_, err := p.Generate(t.Context(), c.now, to, question)
		require.NoError(t, err)
		require.Equal(t, []time.Duration{time.Minute}, c.slept)
	})
	t.Run("UnlessItIsTooLong", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Reply{Status: 429, RetryAfter: "241"})
		_, err := p.Generate(t.Context(), c.now, to, question)
		require.Equal(t, []any{llm.RateLimited, 241 * time.Second}, []any{must(t, err).Code, must(t, err).RetryAfter})
		require.Empty(t, c.slept)
	})
	t.Run("NoAttemptStartsLaterThanTheLast", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Fail(503, ""))
		_, err := p.Generate(t.Context(), c.now.Add(-240*time.Second), to, question)
		require.Error(t, err)
		require.Len(t, models.Calls(), 1, "the run began long ago, under another worker")
	})
	t.Run("AnAttemptHasItsTime", func(t *testing.T) {
		models, to, c, p := setup(t)
		p.Attempt = 100 * time.Millisecond
		models.Next(llmtest.Silence(), llmtest.Answer("fine"))
		result, err := p.Generate(t.Context(), c.now, to, question)
		require.NoError(t, err)
		require.Equal(t, "fine", result.Text)
	})
	t.Run("AStreamIsRepeatedBeforeItsFirstText", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Fail(529, ""), llmtest.Reply{StreamError: "overloaded_error"}, llmtest.Answer("fi", "ne"))
		text := ""
		_, err := p.Stream(t.Context(), c.now, to, question, func(piece string) error {
			text += piece
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, "fine", text)
	})
	t.Run("AndNotAfterwards", func(t *testing.T) {
		models, to, c, p := setup(t)
		models.Next(llmtest.Half("fi"))
		_, err := p.Stream(t.Context(), c.now, to, question, func(string) error { return nil })
		require.Equal(t, llm.NetworkError, must(t, err).Code)
		require.Len(t, models.Calls(), 1)
	})
	t.Run("CancellingEndsItAtOnce", func(t *testing.T) {
		models, to, c, p := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		models.Always(func(llmtest.Call) llmtest.Reply { cancel(); return llmtest.Silence() })
		_, err := p.Generate(ctx, c.now, to, question)
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, models.Calls(), 1)
	})
	t.Run("AlsoBetweenAttempts", func(t *testing.T) {
		models, to, c, p := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		p.Sleep = llm.DefaultPolicy().Sleep
		p.Delay = func(int) time.Duration { cancel(); return time.Hour }
		p.Last = 2 * time.Hour
		models.Next(llmtest.Fail(503, ""))
		_, err := p.Generate(ctx, c.now, to, question)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("WhoListensMayStop", func(t *testing.T) {
		_, to, c, p := setup(t)
		enough := errors.New("enough")
		_, err := p.Stream(t.Context(), c.now, to, question, func(string) error { return enough })
		require.ErrorIs(t, err, enough)
	})
}

func TestTheContractsWaits(t *testing.T) {
	t.Parallel()
	p := llm.DefaultPolicy()
	for n, low := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		for range 50 {
			d := p.Delay(n)
			require.GreaterOrEqual(t, d, low)
			require.LessOrEqual(t, d, min(low+time.Second, 10*time.Second))
		}
	}
	require.Equal(t, []any{4, 120 * time.Second, 240 * time.Second}, []any{p.Attempts, p.Attempt, p.Last})
	require.NoError(t, p.Sleep(t.Context(), time.Nanosecond))
}
