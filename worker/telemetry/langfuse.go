package telemetry

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// The attributes of a model call that are ours. All others have the names of the semantic conventions.
const (
	// WorkKey is what the model was called for, such as "skill".
	WorkKey = attribute.Key("kijko.work")
	// OrganizationKey is the organization that pays.
	OrganizationKey = attribute.Key("kijko.organization.id")
	// OutermostKey marks a span without a span of a model call above it.
	OutermostKey = attribute.Key("kijko.outermost")
	// InputCostKey and OutputCostKey are what the tokens cost, in millionths of a US cent.
	InputCostKey  = attribute.Key("kijko.cost.input_microcents")
	OutputCostKey = attribute.Key("kijko.cost.output_microcents")
	// CanceledType is the error.type of a call that its caller gave up.
	CanceledType = "CANCELED"
)

// The names that Langfuse's own SDKs send, version 5 (docs/peers/langfuse.md).
const (
	lfType        = attribute.Key("langfuse.observation.type")
	lfModel       = attribute.Key("langfuse.observation.model.name")
	lfParameters  = attribute.Key("langfuse.observation.model.parameters")
	lfUsage       = attribute.Key("langfuse.observation.usage_details")
	lfCost        = attribute.Key("langfuse.observation.cost_details")
	lfInput       = attribute.Key("langfuse.observation.input")
	lfOutput      = attribute.Key("langfuse.observation.output")
	lfLevel       = attribute.Key("langfuse.observation.level")
	lfStatus      = attribute.Key("langfuse.observation.status_message")
	lfFirst       = attribute.Key("langfuse.observation.completion_start_time")
	lfRoot        = attribute.Key("langfuse.internal.as_root")
	lfTraceName   = attribute.Key("langfuse.trace.name")
	lfTraceOrg    = attribute.Key("langfuse.trace.metadata.organization_id")
	lfEnvironment = attribute.Key("langfuse.environment")
	lfRelease     = attribute.Key("langfuse.release")
)

// The names of the semantic conventions that Langfuse's attributes are made of. The texts are not sent twice.
const (
	genOperation    = "gen_ai.operation.name"
	genRequestModel = "gen_ai.request.model"
	genModel        = "gen_ai.response.model"
	genFirst        = "gen_ai.response.time_to_first_chunk"
	genInput        = "gen_ai.input.messages"
	genOutput       = "gen_ai.output.messages"
	genSystem       = "gen_ai.system_instructions"
	genUsage        = "gen_ai.usage."
)

// parameters are those of a request that Langfuse shows, by the names that it shows.
var parameters = map[attribute.Key]string{"gen_ai.request.max_tokens": "max_tokens", "gen_ai.request.temperature": "temperature",
	"gen_ai.request.top_p": "top_p", "gen_ai.request.top_k": "top_k", "gen_ai.request.stop_sequences": "stop"}

// langfuseOf adds Langfuse's own attributes to the span of a model call. Its server reads names of the semantic conventions too, but not
// costs, and takes the texts for those of another form.
func langfuseOf(environment, release string) func(sdk.ReadOnlySpan) sdk.ReadOnlySpan {
	return func(span sdk.ReadOnlySpan) sdk.ReadOnlySpan {
		given := map[attribute.Key]attribute.Value{}
		out := make([]attribute.KeyValue, 0, len(span.Attributes())+16)
		for _, a := range span.Attributes() {
			given[a.Key] = a.Value
			switch a.Key {
			case genInput, genOutput, genSystem:
			default:
				out = append(out, a)
			}
		}
		text := func(key attribute.Key, value string) {
			if value != "" {
				out = append(out, key.String(value))
			}
		}
		object := func(key attribute.Key, value map[string]any) {
			if raw, err := json.Marshal(value); err == nil && len(value) > 0 {
				out = append(out, key.String(string(raw)))
			}
		}
		kind := "span"
		switch given[genOperation].AsString() {
		case "chat":
			kind = "generation"
		case "embeddings":
			kind = "embedding"
		}
		text(lfType, kind)
		text(lfTraceName, given[WorkKey].AsString())
		text(lfTraceOrg, given[OrganizationKey].AsString())
		text(lfEnvironment, environment)
		text(lfRelease, release)
		if given[OutermostKey].AsBool() {
			out = append(out, lfRoot.Bool(true))
		}
		if status := span.Status(); status.Code == codes.Error {
			level := "ERROR"
			if status.Description == CanceledType {
				level = "WARNING"
			}
			text(lfLevel, level)
			text(lfStatus, status.Description)
		}
		if kind == "span" {
			return withAttributes(span, out)
		}
		model := given[genModel].AsString()
		if model == "" {
			model = given[genRequestModel].AsString()
		}
		text(lfModel, model)
		chosen := map[string]any{}
		for key, name := range parameters {
			if value, ok := given[key]; ok {
				chosen[name] = value.AsInterface()
			}
		}
		object(lfParameters, chosen)
		object(lfUsage, usageDetails(given))
		object(lfCost, costDetails(given))
		text(lfInput, conversation(given[genSystem].AsString(), given[genInput].AsString()))
		text(lfOutput, answer(given[genOutput].AsString()))
		if first, ok := given[genFirst]; ok {
			at := span.StartTime().Add(time.Duration(first.AsFloat64() * float64(time.Second)))
			if raw, err := json.Marshal(at.UTC().Format("2006-01-02T15:04:05.000000Z")); err == nil {
				text(lfFirst, string(raw))
			}
		}
		return withAttributes(span, out)
	}
}

// usageDetails gives tokens by kind. Langfuse adds up kinds, so those that were cached or thought are no part of the others.
func usageDetails(given map[attribute.Key]attribute.Value) map[string]any {
	count := func(name string) int64 { return given[attribute.Key(genUsage+name)].AsInt64() }
	if _, ok := given[genUsage+"input_tokens"]; !ok {
		return nil
	}
	input, output := count("input_tokens"), count("output_tokens")
	details := map[string]any{"total": input + output}
	part := func(of *int64, n int64, name string) {
		if n = min(n, *of); n > 0 {
			*of -= n
			details[name] = n
		}
	}
	part(&input, count("cache_read.input_tokens"), "cache_read_input_tokens")
	part(&input, count("cache_creation.input_tokens"), "cache_creation_input_tokens")
	part(&output, count("reasoning.output_tokens"), "output_reasoning_tokens")
	details["input"], details["output"] = input, output
	return details
}

func costDetails(given map[attribute.Key]attribute.Value) map[string]any {
	input, ok := given[InputCostKey]
	if !ok {
		return nil
	}
	output := given[OutputCostKey]
	return map[string]any{"input": dollars(input.AsInt64()), "output": dollars(output.AsInt64()), "total": dollars(input.AsInt64() + output.AsInt64())}
}

// dollars writes millionths of a cent as dollars, exactly.
func dollars(microcents int64) json.Number {
	const dollar = 100_000_000
	whole, rest := microcents/dollar, microcents%dollar
	digits := json.Number(strconv.FormatInt(whole, 10))
	if rest == 0 {
		return digits
	}
	fraction := strconv.FormatInt(dollar+rest, 10)[1:]
	return digits + "." + json.Number(strings.TrimRight(fraction, "0"))
}

// message is a turn in the form of the semantic conventions.
type message struct {
	Role  string `json:"role"`
	Parts []part `json:"parts"`
}

type part struct {
	Type    string `json:"type"`
	Content string `json:"content"`
}

func textOf(parts []part) string {
	var texts []string
	for _, p := range parts {
		if p.Type == "text" {
			texts = append(texts, p.Content)
		} else {
			texts = append(texts, "["+p.Type+"]")
		}
	}
	return strings.Join(texts, "\n")
}

// conversation makes the list of turns that Langfuse shows as a chat; "" where no texts are given.
func conversation(system, input string) string {
	var turns []message
	if input == "" || json.Unmarshal([]byte(input), &turns) != nil {
		return ""
	}
	type turn struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var shown []turn
	var instructions []part
	if system != "" && json.Unmarshal([]byte(system), &instructions) == nil {
		shown = append(shown, turn{"system", textOf(instructions)})
	}
	for _, t := range turns {
		shown = append(shown, turn{t.Role, textOf(t.Parts)})
	}
	raw, err := json.Marshal(shown)
	if err != nil {
		return ""
	}
	return string(raw)
}

func answer(output string) string {
	var turns []message
	if output == "" || json.Unmarshal([]byte(output), &turns) != nil || len(turns) == 0 {
		return ""
	}
	return textOf(turns[0].Parts)
}
