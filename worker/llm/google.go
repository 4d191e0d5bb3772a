package llm

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/genai"
)

type googleProvider struct {
	http    *http.Client
	baseURL string
	key     string
}

func newGoogle(client *http.Client, baseURL, key string) *googleProvider {
	return &googleProvider{http: client, baseURL: baseURL, key: key}
}

// client is cheap to make: the connections belong to the HTTP client, and the SDK keeps the key in its own client.
func (p *googleProvider) client(ctx context.Context, key string) (*genai.Client, error) {
	client, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: key, Backend: genai.BackendGeminiAPI, HTTPClient: p.http,
		HTTPOptions: genai.HTTPOptions{BaseURL: p.baseURL, RetryOptions: &genai.HTTPRetryOptions{Attempts: genai.Ptr[int32](1)}}})
	if err != nil {
		return nil, &Error{Code: UnknownError, Message: "The client for Google could not be made."}
	}
	return client, nil
}

func (p *googleProvider) Generate(ctx context.Context, r Request) (Result, error) {
	key := or(r.Key, p.key)
	if key == "" {
		return Result{}, notConfigured()
	}
	client, err := p.client(ctx, key)
	if err != nil {
		return Result{}, err
	}
	ctx, x := withExchange(ctx, false)
	contents, config := googleRequest(r)
	answer, err := client.Models.GenerateContent(ctx, r.Model, contents, config)
	if err != nil {
		return Result{}, failed(ctx, err, x, key)
	}
	if len(answer.Candidates) == 0 && answer.PromptFeedback == nil {
		if e := hollow(x, key); e != nil {
			return Result{}, e
		}
	}
	g := gathering{model: r.Model}
	g.add(answer)
	return g.result()
}

func (p *googleProvider) Stream(ctx context.Context, r Request, emit func(string) error) (Result, error) {
	key := or(r.Key, p.key)
	if key == "" {
		return Result{}, notConfigured()
	}
	client, err := p.client(ctx, key)
	if err != nil {
		return Result{}, err
	}
	ctx, x := withExchange(ctx, true)
	contents, config := googleRequest(r)
	g := gathering{model: r.Model}
	fail := func(err error) (Result, error) {
		err = failed(ctx, err, x, key)
		if e, ok := AsError(err); ok && g.counted {
			e.Usage = &g.r.Usage
		}
		return Result{Usage: g.r.Usage}, err
	}
	for answer, err := range client.Models.GenerateContentStream(ctx, r.Model, contents, config) {
		if err != nil {
			return fail(err)
		}
		if text := g.add(answer); text != "" {
			if err := emit(text); err != nil {
				return Result{Usage: g.r.Usage}, err
			}
		}
	}
	switch {
	case x.within != nil:
		return fail(errors.New("llm: no event"))
	case ctx.Err() != nil:
		return fail(ctx.Err())
	}
	// A stream with data and without a candidate is one that the provider withheld.
	if g.finish == "" && g.withheld == "" && (g.any || !g.begun) {
		e := brokeOff()
		if g.counted {
			e.Usage = &g.r.Usage
		}
		return Result{}, e
	}
	return g.result()
}

// gathering builds an answer from its pieces; a whole answer is one piece.
type gathering struct {
	model    string
	r        Result
	text     strings.Builder
	finish   genai.FinishReason
	withheld string
	// begun: a piece came; any: there was a candidate; counted: there were token counts.
	begun, any, counted bool
}

func (g *gathering) add(answer *genai.GenerateContentResponse) (text string) {
	if answer == nil {
		return ""
	}
	g.begun = true
	g.r.ID, g.r.Model = or(answer.ResponseID, g.r.ID), or(answer.ModelVersion, g.r.Model)
	if u := answer.UsageMetadata; u != nil {
		g.counted = true
		g.r.Usage.grow(googleUsage(u))
		g.r.Details.grow(Details{CacheRead: count(u.CachedContentTokenCount), Reasoning: count(u.ThoughtsTokenCount)})
	}
	if f := answer.PromptFeedback; f != nil && f.BlockReason != "" {
		g.withheld = string(f.BlockReason)
	}
	if len(answer.Candidates) == 0 || answer.Candidates[0] == nil {
		return ""
	}
	g.any = true
	first := answer.Candidates[0]
	g.finish = genai.FinishReason(or(string(first.FinishReason), string(g.finish)))
	if first.Content != nil {
		for _, part := range first.Content.Parts {
			// The model's thoughts are no part of its answer.
			if part != nil && !part.Thought {
				text += part.Text
			}
		}
	}
	g.text.WriteString(text)
	return text
}

// googleUsage adds up the counts that Google reports separately: thoughts are billed as output, and tokens that tools read are part of
// the input. If the total exceeds the known parts, the rest has to be paid for as well.
func googleUsage(u *genai.GenerateContentResponseUsageMetadata) Usage {
	usage := Usage{Input: count(u.PromptTokenCount) + count(u.ToolUsePromptTokenCount), Output: count(u.CandidatesTokenCount) + count(u.ThoughtsTokenCount)}
	if u.PromptTokenCount > 0 {
		usage.Output = max(usage.Output, count(u.TotalTokenCount)-usage.Input)
	}
	return usage.bounded()
}

func (g *gathering) result() (Result, error) {
	g.r.Text, g.r.Model = g.text.String(), or(g.r.Model, g.model)
	var refused *Error
	switch {
	case g.withheld != "":
		refused = blocked(g.withheld)
	case !g.any:
		refused = blocked("there is no candidate")
	}
	switch g.finish {
	case genai.FinishReasonStop, genai.FinishReasonUnspecified, "":
		g.r.StopReason = "end_turn"
	case genai.FinishReasonMaxTokens:
		g.r.StopReason = "max_tokens"
	default:
		refused = blocked(string(g.finish))
	}
	if refused != nil {
		if g.counted {
			refused.Usage = &g.r.Usage
		}
		return Result{}, refused
	}
	return g.r, nil
}

// maxStops is how many stop sequences Google accepts; further ones are dropped.
const maxStops = 5

func googleRequest(r Request) ([]*genai.Content, *genai.GenerateContentConfig) {
	config := &genai.GenerateContentConfig{MaxOutputTokens: int32(r.maxTokens()),
		StopSequences: r.StopSequences[:min(len(r.StopSequences), maxStops)]}
	if r.System != "" {
		config.SystemInstruction = &genai.Content{Parts: []*genai.Part{{Text: r.System}}}
	}
	if !r.WithoutSampling {
		config.Temperature, config.TopP, config.TopK = genai.Ptr[float32](1), float(r.TopP), float(r.TopK)
		if r.Temperature != nil {
			config.Temperature = float(r.Temperature)
		}
	}
	var contents []*genai.Content
	for _, m := range r.Messages {
		content := &genai.Content{Role: genai.RoleUser}
		if m.Role == Assistant {
			content.Role = genai.RoleModel
		}
		for _, part := range m.Parts {
			if part.Image != nil {
				content.Parts = append(content.Parts, &genai.Part{InlineData: &genai.Blob{MIMEType: part.Image.MediaType, Data: part.Image.Data}})
				continue
			}
			content.Parts = append(content.Parts, &genai.Part{Text: part.Text})
		}
		contents = append(contents, content)
	}
	return contents, config
}

func float[N int | float64](n *N) *float32 {
	if n == nil {
		return nil
	}
	return genai.Ptr(float32(*n))
}
