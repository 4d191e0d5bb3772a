package llm

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"kijko/worker/exactjson"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
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
	ctx, x := withExchange(ctx)
	answer, err := p.client.Messages.New(ctx, anthropicRequest(r), option.WithAPIKey(key))
	if err != nil {
		return Result{}, anthropicFailure(ctx, err, x, key)
	}
	var texts []string
	for _, block := range answer.Content {
		if block.Type == "text" {
			texts = append(texts, block.Text)
		}
	}
	result := Result{ID: answer.ID, Text: strings.Join(texts, "\n"), StopReason: string(answer.StopReason), Model: string(answer.Model),
		Usage: Usage{answer.Usage.InputTokens, answer.Usage.OutputTokens}}
	return checkRefusal(result)
}

func (p *anthropicProvider) Stream(ctx context.Context, r Request, emit func(string) error) (Result, error) {
	key := or(r.Key, p.key)
	if key == "" {
		return Result{}, notConfigured()
	}
	ctx, x := withExchange(ctx)
	stream := p.client.Messages.NewStreaming(ctx, anthropicRequest(r), option.WithAPIKey(key))
	defer func() { _ = stream.Close() }() // all that matters of it has been read
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
			result.Usage = Usage{event.Message.Usage.InputTokens, event.Message.Usage.OutputTokens}
		case "content_block_start":
			if event.ContentBlock.Type != "text" {
				continue
			}
			// As in a whole answer: blocks are joined by a newline.
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
			result.Usage.Output = event.Usage.OutputTokens
			if event.Usage.InputTokens > 0 {
				result.Usage.Input = event.Usage.InputTokens
			}
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
	case stream.Err() != nil:
		err = anthropicFailure(ctx, stream.Err(), x, key)
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

// checkRefusal: a model that declines without a word has not answered.
func checkRefusal(r Result) (Result, error) {
	if r.StopReason == string(anthropic.StopReasonRefusal) && strings.TrimSpace(r.Text) == "" {
		e := blocked("the model declined to answer")
		e.Usage = &r.Usage
		return Result{}, e
	}
	return r, nil
}

func anthropicRequest(r Request) anthropic.MessageNewParams {
	p := anthropic.MessageNewParams{Model: r.Model, MaxTokens: int64(r.maxTokens()), StopSequences: r.StopSequences}
	if r.System != "" {
		p.System = []anthropic.TextBlockParam{{Text: r.System}}
	}
	temperature := 1.0
	if r.Temperature != nil {
		temperature = *r.Temperature
	}
	if r.TopP != nil {
		p.TopP = anthropic.Float(*r.TopP)
	}
	// Newer models refuse both at once; 1 is what absence means.
	if r.TopP == nil || temperature != 1 {
		p.Temperature = anthropic.Float(temperature)
	}
	if r.TopK != nil {
		p.TopK = anthropic.Int(int64(*r.TopK))
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

// streamedStatus gives the status that an error within a stream would have had as an answer; the stream itself began with 200.
var streamedStatus = map[string]int{"invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
	"request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504, "overloaded_error": 529}

func anthropicFailure(ctx context.Context, err error, x *exchange, key string) error {
	var answered *anthropic.Error
	if !errors.As(err, &answered) {
		return unanswered(ctx, err, x, key)
	}
	var body struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	// A proxy's page of HTML has no sentence for the user.
	_ = exactjson.Unmarshal([]byte(answered.RawJSON()), &body)
	status := answered.StatusCode
	if status < 300 {
		if status = streamedStatus[body.Error.Type]; status == 0 {
			status = http.StatusInternalServerError
		}
	}
	return ofStatus(status, body.Error.Message).finish(x, key)
}
