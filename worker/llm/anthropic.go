package llm

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"
)

type anthropicProvider struct {
	client anthropic.Client
	key    string
}

func newAnthropic(client *http.Client, baseURL, key string) *anthropicProvider {
	return &anthropicProvider{key: key, client: anthropic.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(baseURL),
		option.WithHTTPClient(client), option.WithMaxRetries(0), option.WithoutOpenTelemetry())}
}

func (p *anthropicProvider) Generate(ctx context.Context, r Request) (Result, error) {
	key := or(r.Key, p.key)
	if key == "" {
		return Result{}, notConfigured()
	}
	ctx, x := withExchange(ctx, false)
	answer, err := p.client.Messages.New(ctx, anthropicRequest(r), option.WithAPIKey(key))
	if err != nil {
		return Result{}, failed(ctx, err, x, key)
	}
	if answer.ID == "" && answer.StopReason == "" && len(answer.Content) == 0 {
		if e := hollow(x, key); e != nil {
			return Result{}, e
		}
		return Result{}, notUnderstood(errors.New("llm: the answer is no message"))
	}
	var texts []string
	for _, block := range answer.Content {
		if block.Type == "text" {
			texts = append(texts, block.Text)
		}
	}
	result := Result{ID: answer.ID, Text: strings.Join(texts, "\n"), StopReason: string(answer.StopReason), Model: string(answer.Model),
		Usage:   anthropicUsage(answer.Usage.InputTokens, answer.Usage.CacheCreationInputTokens, answer.Usage.CacheReadInputTokens, answer.Usage.OutputTokens),
		Details: Details{CacheRead: count(answer.Usage.CacheReadInputTokens), CacheWritten: count(answer.Usage.CacheCreationInputTokens)}}
	return checkRefusal(result)
}

func (p *anthropicProvider) Stream(ctx context.Context, r Request, emit func(string) error) (Result, error) {
	key := or(r.Key, p.key)
	if key == "" {
		return Result{}, notConfigured()
	}
	ctx, x := withExchange(ctx, true)
	x.named = true
	stream := p.client.Messages.NewStreaming(ctx, anthropicRequest(r), option.WithAPIKey(key))
	defer func() { _ = stream.Close() }() // all relevant events have been read
	var result Result
	var text strings.Builder
	blocks, begun, ended := 0, false, false
	pass := func(piece string) error {
		if piece == "" {
			return nil
		}
		text.WriteString(piece)
		return emit(piece)
	}
	for !ended && stream.Next() {
		event := stream.Current()
		var err error
		switch event.Type {
		case "message_start":
			begun = true
			result.ID, result.Model = event.Message.ID, string(event.Message.Model)
			u := event.Message.Usage
			result.Usage = anthropicUsage(u.InputTokens, u.CacheCreationInputTokens, u.CacheReadInputTokens, u.OutputTokens)
			result.Details.grow(Details{CacheRead: count(u.CacheReadInputTokens), CacheWritten: count(u.CacheCreationInputTokens)})
		case "content_block_start":
			if event.ContentBlock.Type != "text" {
				continue
			}
			// As in a whole answer, blocks are joined by a newline.
			if blocks++; blocks > 1 {
				err = pass("\n")
			}
			if err == nil {
				err = pass(event.ContentBlock.Text)
			}
		case "content_block_delta":
			if event.Delta.Type == "text_delta" {
				err = pass(event.Delta.Text)
			}
		case "message_delta":
			result.StopReason = string(event.Delta.StopReason)
			u := event.Usage
			result.Usage.grow(anthropicUsage(u.InputTokens, u.CacheCreationInputTokens, u.CacheReadInputTokens, u.OutputTokens))
			result.Details.grow(Details{CacheRead: count(u.CacheReadInputTokens), CacheWritten: count(u.CacheCreationInputTokens)})
		case "message_stop":
			ended = true
		}
		if err != nil {
			return Result{Usage: result.Usage}, err
		}
	}
	result.Text = text.String()
	var err error
	switch {
	case ended:
		return checkRefusal(result)
	case stream.Err() != nil, x.within != nil:
		err = failed(ctx, stream.Err(), x, key)
	case ctx.Err() != nil:
		err = ofTransport(ctx, ctx.Err())
	default:
		err = brokeOff()
	}
	if e, ok := AsError(err); ok && begun {
		e.Usage = &result.Usage
	}
	return Result{Usage: result.Usage}, err
}

// checkRefusal turns an empty answer of a model that declined into an error.
func checkRefusal(r Result) (Result, error) {
	if r.StopReason == string(anthropic.StopReasonRefusal) && strings.TrimSpace(r.Text) == "" {
		e := blocked("the model declined to answer")
		e.Usage = &r.Usage
		return Result{}, e
	}
	return r, nil
}

// anthropicUsage adds up the counts that Anthropic reports separately: input_tokens does not include tokens that were written to its
// cache or read from it. The tokens of thinking are within output_tokens.
func anthropicUsage(input, written, read, output int64) Usage {
	return Usage{Input: count(input) + count(written) + count(read), Output: count(output)}.bounded()
}

func anthropicRequest(r Request) anthropic.MessageNewParams {
	p := anthropic.MessageNewParams{Model: r.Model, MaxTokens: int64(r.maxTokens()), StopSequences: r.StopSequences}
	if r.System != "" {
		p.System = []anthropic.TextBlockParam{{Text: r.System}}
	}
	if !r.WithoutSampling {
		p.Temperature, p.TopP, p.TopK = anthropicSampling(r.Parameters)
	}
	for _, m := range r.Messages {
		var blocks []anthropic.ContentBlockParamUnion
		for _, part := range m.Parts {
			if part.Image != nil {
				blocks = append(blocks, anthropic.NewImageBlockBase64(part.Image.MediaType, base64.StdEncoding.EncodeToString(part.Image.Data)))
				continue
			}
			blocks = append(blocks, anthropic.NewTextBlock(part.Text))
		}
		if m.Role == Assistant {
			p.Messages = append(p.Messages, anthropic.NewAssistantMessage(blocks...))
			continue
		}
		p.Messages = append(p.Messages, anthropic.NewUserMessage(blocks...))
	}
	return p
}

func anthropicSampling(r Parameters) (temperature, topP param.Opt[float64], topK param.Opt[int64]) {
	wanted := 1.0
	if r.Temperature != nil {
		wanted = *r.Temperature
	}
	if r.TopP != nil {
		topP = anthropic.Float(*r.TopP)
	}
	// Newer models refuse both parameters at once. A value of 1 means the same as leaving the parameter out.
	if r.TopP == nil || wanted != 1 {
		temperature = anthropic.Float(wanted)
	}
	if r.TopK != nil {
		topK = anthropic.Int(int64(*r.TopK))
	}
	return temperature, topP, topK
}
