package llm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"kijko/worker/token"
)

// LocalLabel begins every answer of the local model, so that it is never mistaken for a real answer.
const LocalLabel = "[Kijko's local model, for development: no model provider is configured]"

// local answers without any provider, always the same for the same request. It repeats the end of the prompt, counts tokens with the
// project's tokenizer, and respects max_tokens and stop_sequences, so that all code around a model can be tried on a laptop. If the system
// prompt asks for a block in a given form, it proposes one (proposal).
type local struct{ delay time.Duration }

// maxEcho is how many bytes of the prompt it repeats.
const maxEcho = 2000

func (l local) Generate(ctx context.Context, r Request) (Result, error) {
	return l.Stream(ctx, r, func(string) error { return nil })
}

func (l local) Stream(ctx context.Context, r Request, emit func(string) error) (Result, error) {
	result := l.answer(r)
	timer := time.NewTimer(l.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Result{}, ofTransport(ctx, ctx.Err())
	}
	for piece := range strings.SplitAfterSeq(result.Text, " ") {
		if ctx.Err() != nil {
			return Result{}, ofTransport(ctx, ctx.Err())
		}
		if piece == "" {
			continue
		}
		if err := emit(piece); err != nil {
			return Result{}, err
		}
	}
	return result, nil
}

func (l local) answer(r Request) Result {
	digest := sha256.New()
	var asked string
	input, images := token.Count(r.System), 0
	fmt.Fprintf(digest, "%q %q", r.Model, r.System)
	for _, m := range r.Messages {
		for _, part := range m.Parts {
			if part.Image != nil {
				images++
				digest.Write(part.Image.Data)
				continue
			}
			input += token.Count(part.Text)
			fmt.Fprintf(digest, "%s %q", m.Role, part.Text)
			if m.Role == User {
				asked = part.Text
			}
		}
	}
	if len(asked) > maxEcho {
		asked = asked[len(asked)-maxEcho:]
		for !utf8.RuneStart(asked[0]) {
			asked = asked[1:]
		}
	}
	text := LocalLabel + "\n\n"
	if images > 0 {
		text += fmt.Sprintf("I was shown %d image(s). ", images)
	}
	if block := proposal(r.System, asked); block != "" {
		text += "This is what I propose:\n\n" + block
	} else {
		text += "You asked:\n\n" + asked
	}
	stop := "end_turn"
	for _, sequence := range r.StopSequences {
		if before, _, found := strings.Cut(text, sequence); found && sequence != "" {
			text, stop = before, "stop_sequence"
		}
	}
	if short, cut := firstTokens(text, r.maxTokens()); cut {
		text, stop = short, "max_tokens"
	}
	return Result{ID: "msg_local_" + hex.EncodeToString(digest.Sum(nil)[:12]), Text: text, StopReason: stop, Model: r.Model,
		Usage: Usage{int64(input), int64(token.Count(text))}}
}

// firstTokens cuts the text to at most n tokens, between two runes.
func firstTokens(text string, n int) (string, bool) {
	if token.Count(text) <= n {
		return text, false
	}
	runes := []rune(text)
	low, high := 0, len(runes)
	for low < high {
		middle := (low + high + 1) / 2
		if token.Count(string(runes[:middle])) <= n {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return string(runes[:low]), true
}
