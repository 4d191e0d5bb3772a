// Package lightning sends runs of skills to the store of Agent-Lightning: a rollout with one attempt for each run, and a span of its model call
// over OTLP. What it relies on is in docs/peers/agent-lightning.md.
//
// It is no exporter of package telemetry. A span there is sent once and lost with the process, while the rows behind these are sent until the
// store has them. And the store takes only spans of a rollout that it knows, whose id it chose itself.
package lightning

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"kijko/worker/outbox"
)

// Lightning is a store of Agent-Lightning.
type Lightning struct{ client *outbox.Client }

// New makes a Lightning; nil without an address.
func New(address string) (*Lightning, error) {
	switch {
	case address == "":
		return nil, nil
	case !outbox.IsAddress(address):
		return nil, errors.New("AGENT_LIGHTNING_URL: must be an http or https URL")
	}
	return &Lightning{outbox.NewClient(address, http.Header{})}, nil
}

// Name is lightning.
func (l *Lightning) Name() string { return "lightning" }

// Close ends idle connections.
func (l *Lightning) Close() { l.client.Close() }

// Ping asks the store's health.
func (l *Lightning) Ping(ctx context.Context) error {
	a, err := l.client.Do(ctx, http.MethodGet, "/v1/agl/health", "", nil)
	if err == nil && !a.OK() {
		return a.Fault("health")
	}
	return err
}

// Send starts a rollout, sends its span and ends its attempt. The store recognizes a span that it has by its id, and the end of an attempt
// that ended changes nothing. So a repeat does harm only where the id of the rollout was lost with a worker: then the store keeps a rollout
// that never begins.
func (l *Lightning) Send(ctx context.Context, d outbox.Delivery) error {
	var run outbox.Execution
	if d.Kind != "execution" {
		return outbox.Refused(fmt.Errorf("there is no span of kind %q", d.Kind))
	}
	if err := json.Unmarshal(d.Payload, &run); err != nil {
		return outbox.Refused(fmt.Errorf("read a run: %w", err))
	}
	if d.Reference == "" {
		var err error
		if d.Reference, err = l.start(ctx, run); err != nil {
			return err
		}
		if err := d.Keep(ctx, d.Reference); err != nil {
			return err
		}
	}
	rollout, attempt, _ := strings.Cut(d.Reference, "/")
	sent, err := proto.Marshal(span(run, rollout, attempt))
	if err != nil {
		return outbox.Refused(fmt.Errorf("write a span: %w", err))
	}
	a, err := l.client.Do(ctx, http.MethodPost, "/v1/traces", "application/x-protobuf", sent)
	if err != nil {
		return err
	}
	if !a.OK() {
		return a.Fault("send a span")
	}
	status := "succeeded"
	if run.Status == "failed" {
		status = "failed"
	}
	return l.post(ctx, "/v1/agl/rollouts/"+url.PathEscape(rollout)+"/attempts/"+url.PathEscape(attempt), map[string]any{"status": status}, nil)
}

// start makes a rollout with its attempt, whose ids the store chooses.
func (l *Lightning) start(ctx context.Context, run outbox.Execution) (string, error) {
	about := map[string]any{"kijko.execution_id": run.ExecutionID, "kijko.organization_id": run.OrganizationID, "kijko.skill_id": run.SkillID}
	input := map[string]any{"execution_id": run.ExecutionID, "skill_id": run.SkillID}
	if run.Input != "" {
		input["input"] = json.RawMessage(run.Input)
		if !json.Valid([]byte(run.Input)) {
			input["input"] = run.Input // It was cut.
		}
	}
	var made struct {
		RolloutID string `json:"rollout_id"`
		Attempt   struct {
			AttemptID string `json:"attempt_id"`
		} `json:"attempt"`
	}
	if err := l.post(ctx, "/v1/agl/rollouts", map[string]any{"input": input, "metadata": about}, &made); err != nil {
		return "", err
	}
	if made.RolloutID == "" || made.Attempt.AttemptID == "" || strings.Contains(made.RolloutID, "/") {
		return "", errors.New("start a rollout: the answer names no rollout and attempt")
	}
	return made.RolloutID + "/" + made.Attempt.AttemptID, nil
}

func (l *Lightning) post(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	a, err := l.client.Do(ctx, http.MethodPost, path, "application/json", raw)
	if err != nil {
		return err
	}
	if !a.OK() {
		return a.Fault("POST " + path)
	}
	if into != nil {
		if err := json.Unmarshal(a.Body, into); err != nil {
			return fmt.Errorf("POST %s: %w", path, err)
		}
	}
	return nil
}

// The resource attributes by which the store finds the rollout of a span.
const (
	rolloutID = "agentlightning.rollout_id"
	attemptID = "agentlightning.attempt_id"
	sequence  = "agentlightning.span_sequence_id"
)

// span is the model call of a run. Its ids follow from the run, so that a repeat has the same.
func span(run outbox.Execution, rollout, attempt string) *collector.ExportTraceServiceRequest {
	id, _ := uuid.Parse(run.ExecutionID)
	hash := sha256.Sum256(id[:])
	s := &trace.Span{TraceId: id[:], SpanId: hash[:8], Name: strings.TrimSpace("chat " + valid(run.Model)), Kind: trace.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: uint64(run.StartedAt.UnixNano()), EndTimeUnixNano: uint64(run.CompletedAt.UnixNano()),
		Status: &trace.Status{Code: trace.Status_STATUS_CODE_OK},
		Attributes: []*common.KeyValue{text("gen_ai.operation.name", "chat"), text("kijko.execution.id", run.ExecutionID), text("kijko.execution.type", run.Type),
			text("kijko.organization.id", run.OrganizationID), text("user.id", run.UserID)}}
	add := func(key, value string) {
		if value != "" {
			s.Attributes = append(s.Attributes, text(key, value))
		}
	}
	count := func(key string, value *int64) {
		if value != nil {
			s.Attributes = append(s.Attributes, number(key, *value))
		}
	}
	add("gen_ai.request.model", run.Model)
	add("gen_ai.response.model", run.Model)
	add("kijko.skill.id", run.SkillID)
	add("kijko.skill.name", run.Skill)
	count("gen_ai.usage.input_tokens", run.PromptTokens)
	count("gen_ai.usage.output_tokens", run.CompletionTokens)
	count("kijko.cost.cents", run.CostCents)
	// The store's adapters read conversations from these names, which are older than gen_ai.input.messages.
	if run.Input != "" {
		add("gen_ai.prompt.0.role", "user")
		add("gen_ai.prompt.0.content", run.Input)
	}
	if run.Output != "" {
		add("gen_ai.completion.0.role", "assistant")
		add("gen_ai.completion.0.content", run.Output)
	}
	if run.Status == "failed" {
		s.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: valid(run.Error)}
		add("error.type", run.ErrorCode)
	}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: []*common.KeyValue{text("service.name", "kijko"), text(rolloutID, rollout), text(attemptID, attempt), text(sequence, "1")}},
		ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "kijko"}, Spans: []*trace.Span{s}}},
	}}}
}

// valid keeps one text that is no UTF-8 from costing the whole request.
func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(value)}}}
}

func number(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}
