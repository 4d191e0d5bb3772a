// Package cxdb appends turns to contexts of cxdb, over its HTTP port. What it relies on is in docs/peers/cxdb.md.
package cxdb

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"kijko/worker/outbox"
)

// CXDB is a server of cxdb.
type CXDB struct{ client *outbox.Client }

// New makes a CXDB; nil without an address.
func New(address string) (*CXDB, error) {
	switch {
	case address == "":
		return nil, nil
	case !outbox.IsAddress(address):
		return nil, errors.New("CXDB_URL: must be an http or https URL")
	}
	return &CXDB{outbox.NewClient(address, http.Header{"X-Cxdb-Client-Tag": {"kijko"}})}, nil
}

// Name is cxdb.
func (c *CXDB) Name() string { return "cxdb" }

// Close ends idle connections.
func (c *CXDB) Close() { c.client.Close() }

// Ping asks the server's health.
func (c *CXDB) Ping(ctx context.Context) error {
	a, err := c.client.Do(ctx, http.MethodGet, "/healthz", "", nil)
	if err == nil && !a.OK() {
		return a.Fault("health")
	}
	return err
}

const (
	typeID      = "kijko.Turn"
	typeVersion = 1
	bundlePath  = "/v1/registry/bundles/kijko.turns-1"
)

// bundle declares the type of our turns. The server refuses another text under the same id, so a change is another bundle.
const bundle = `{"registry_version":1,"bundle_id":"kijko.turns-1","types":{"kijko.Turn":{"versions":{"1":{"fields":{` +
	`"1":{"name":"id","type":"string"},"2":{"name":"role","type":"string"},"3":{"name":"text","type":"string","optional":true},` +
	`"4":{"name":"at","type":"string"},"5":{"name":"organization_id","type":"string"},"6":{"name":"user_id","type":"string"},` +
	`"7":{"name":"execution_id","type":"string","optional":true},"8":{"name":"skill_id","type":"string","optional":true},"9":{"name":"model","type":"string","optional":true},` +
	`"10":{"name":"status","type":"string","optional":true},"11":{"name":"prompt_tokens","type":"u64","optional":true},` +
	`"12":{"name":"completion_tokens","type":"u64","optional":true},"13":{"name":"cost_cents","type":"u64","optional":true},` +
	`"14":{"name":"duration_ms","type":"u64","optional":true},"15":{"name":"error_code","type":"string","optional":true},"16":{"name":"skill","type":"string","optional":true},"17":{"name":"context_id","type":"string","optional":true}}}}}},"enums":{}}`

type turn struct {
	ID               string `json:"id"`
	Role             string `json:"role"`
	Text             string `json:"text,omitempty"`
	At               string `json:"at"`
	OrganizationID   string `json:"organization_id"`
	UserID           string `json:"user_id"`
	ExecutionID      string `json:"execution_id,omitempty"`
	SkillID          string `json:"skill_id,omitempty"`
	Model            string `json:"model,omitempty"`
	Status           string `json:"status,omitempty"`
	PromptTokens     *int64 `json:"prompt_tokens,omitempty"`
	CompletionTokens *int64 `json:"completion_tokens,omitempty"`
	CostCents        *int64 `json:"cost_cents,omitempty"`
	DurationMS       int64  `json:"duration_ms,omitempty"`
	ErrorCode        string `json:"error_code,omitempty"`
	Skill            string `json:"skill,omitempty"`
	ContextID        string `json:"context_id,omitempty"`
}

// Send appends the turns of the delivery to the context of its series, which it makes first where there is none. The server recognizes no
// repeat, so a repeat reads the context and appends the turns that are missing.
func (c *CXDB) Send(ctx context.Context, d outbox.Delivery) error {
	turns, err := turnsOf(d)
	if err != nil {
		return outbox.Refused(err)
	}
	held := func(string) bool { return false }
	switch {
	case d.Reference == "":
		if d.Reference, err = c.create(ctx, d); err != nil {
			return err
		}
	case d.IsRepeat():
		if held, err = c.held(ctx, d.Reference); err != nil {
			return err
		}
	}
	for _, t := range turns {
		if held(t.ID) {
			continue
		}
		if err := c.post(ctx, "/v1/contexts/"+d.Reference+"/append", map[string]any{"type_id": typeID, "type_version": typeVersion, "data": t}, nil); err != nil {
			return err
		}
	}
	return nil
}

// create declares the type of our turns, makes a context and keeps its id. A worker that dies before the id is kept leaves an empty context.
func (c *CXDB) create(ctx context.Context, d outbox.Delivery) (string, error) {
	a, err := c.client.Do(ctx, http.MethodPut, bundlePath, "application/json", []byte(bundle))
	if err != nil {
		return "", err
	}
	// A refused declaration stops nothing: a turn of an undeclared type is stored under the names of its members.
	if !a.OK() && a.Status != http.StatusConflict && a.Status != http.StatusUnprocessableEntity {
		return "", a.Fault("declare the type of turns")
	}
	var made struct {
		ContextID json.RawMessage `json:"context_id"`
	}
	if err := c.post(ctx, "/v1/contexts/create", map[string]string{"base_turn_id": "0"}, &made); err != nil {
		return "", err
	}
	// A number, or the text of one: versions differ.
	number, err := strconv.ParseUint(string(bytes.Trim(made.ContextID, `"`)), 10, 64)
	if err != nil {
		return "", errors.New("make a context: the answer names no context")
	}
	id := strconv.FormatUint(number, 10)
	return id, d.Keep(ctx, id)
}

// held reports which turns the end of a context has. The raw view needs no declared type.
func (c *CXDB) held(ctx context.Context, id string) (func(turn string) bool, error) {
	a, err := c.client.Do(ctx, http.MethodGet, "/v1/contexts/"+id+"/turns?limit=64&view=raw&bytes_render=base64", "", nil)
	if err != nil {
		return nil, err
	}
	if !a.OK() {
		return nil, a.Fault("read a context")
	}
	var found struct {
		Turns []struct {
			Bytes string `json:"bytes_b64"`
		} `json:"turns"`
	}
	if err := json.Unmarshal(a.Body, &found); err != nil {
		return nil, fmt.Errorf("read a context: %w", err)
	}
	return func(turn string) bool {
		for _, t := range found.Turns {
			if raw, err := base64.StdEncoding.DecodeString(t.Bytes); err == nil && bytes.Contains(raw, []byte(turn)) {
				return true
			}
		}
		return false
	}, nil
}

func (c *CXDB) post(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	a, err := c.client.Do(ctx, http.MethodPost, path, "application/json", raw)
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

const instant = "2006-01-02T15:04:05.000Z"

// message makes the turn of a message of a chat.
func message(d outbox.Delivery) ([]turn, error) {
	var m outbox.Message
	if err := json.Unmarshal(d.Payload, &m); err != nil {
		return nil, fmt.Errorf("read a message: %w", err)
	}
	t := turn{ID: m.MessageID, Role: "user", Text: m.Text, At: m.CreatedAt.UTC().Format(instant), OrganizationID: m.OrganizationID, UserID: m.UserID, ContextID: m.ContextID}
	if m.Role == "model" {
		t.Role, t.Model, t.PromptTokens, t.CompletionTokens, t.Status = "assistant", m.Model, m.PromptTokens, m.CompletionTokens, "completed"
		if m.Stopped {
			t.Status = "stopped"
		}
	}
	return []turn{t}, nil
}

// turnsOf makes the turns of a run, what was asked and what came of it, or the turn of a message.
func turnsOf(d outbox.Delivery) ([]turn, error) {
	switch d.Kind {
	case "execution":
	case "message":
		return message(d)
	default:
		return nil, fmt.Errorf("there is no turn of kind %q", d.Kind)
	}
	var run outbox.Execution
	if err := json.Unmarshal(d.Payload, &run); err != nil {
		return nil, fmt.Errorf("read a run: %w", err)
	}
	asked := turn{ID: run.ExecutionID + ":input", Role: "user", Text: run.Input, At: run.StartedAt.UTC().Format(instant), OrganizationID: run.OrganizationID,
		UserID: run.UserID, ExecutionID: run.ExecutionID, SkillID: run.SkillID, Skill: run.Skill}
	answered := turn{ID: run.ExecutionID + ":output", Role: "assistant", Text: run.Output, At: run.CompletedAt.UTC().Format(instant), OrganizationID: run.OrganizationID,
		UserID: run.UserID, ExecutionID: run.ExecutionID, SkillID: run.SkillID, Skill: run.Skill, Model: run.Model, Status: run.Status, PromptTokens: run.PromptTokens,
		CompletionTokens: run.CompletionTokens, CostCents: run.CostCents, DurationMS: run.DurationMS, ErrorCode: run.ErrorCode}
	if answered.Text == "" {
		answered.Text = run.Error
	}
	return []turn{asked, answered}, nil
}
