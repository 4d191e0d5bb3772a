package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// skills runs one skill in three ways: by hand with the text as it streams, on a schedule, and by a signed webhook. It gives the skill's
// id.
func (d *demo) skills(ctx context.Context) (id string, err error) {
	var skill struct{ ID, Name string }
	if err := d.call(ctx, "POST", "/api/v1/skills", map[string]any{
		"name": "Release notes", "category": "generation",
		"promptTemplate": "Write release notes for {{product}} from these changes, for people who use it:\n{{changes}}",
		"inputSchema": []any{map[string]any{"name": "product", "type": "string", "default": "Kijko"},
			map[string]any{"name": "changes", "type": "string", "required": true}}}, &skill); err != nil {
		return "", err
	}
	d.say("\ncreated skill %q; running it:\n", skill.Name)
	if err := d.stream(ctx, skill.ID, "skills, habits and reflexes have arrived"); err != nil {
		return "", err
	}

	soon := time.Now().UTC().Add(time.Minute)
	if err := d.call(ctx, "POST", "/api/v1/habits", map[string]any{"skillId": skill.ID, "timezone": "UTC",
		"scheduleCron": fmt.Sprintf("%d %d * * *", soon.Minute(), soon.Hour()),
		"config":       map[string]any{"changes": "the changes of every day"}}, nil); err != nil {
		return "", err
	}
	d.say("\nscheduled it for %s UTC, every day", soon.Format("15:04"))

	if err := d.deliver(ctx, skill.ID); err != nil {
		return "", err
	}
	return skill.ID, d.executions(ctx, skill.ID, 3)
}

// stream runs the skill and shows the model's text while it is written.
func (d *demo) stream(ctx context.Context, skillID, changes string) error {
	body, err := json.Marshal(map[string]any{"inputs": map[string]any{"changes": changes}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", d.base+"/api/v1/skills/"+skillID+"/run", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"text/event-stream"}, "Authorization": {"Bearer " + d.token}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("running the skill: %d %s", res.StatusCode, text)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	fmt.Fprint(d.out, "  ")
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var event struct {
			Type, Content string
			Result        struct{ Status, Error string }
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return fmt.Errorf("an event that is no JSON: %w", err)
		}
		switch event.Type {
		case "text":
			fmt.Fprint(d.out, strings.ReplaceAll(event.Content, "\n", "\n  "))
		case "done":
			fmt.Fprintln(d.out)
			if event.Result.Status != "completed" {
				return fmt.Errorf("the run ended as %s: %s", event.Result.Status, event.Result.Error)
			}
			return nil
		}
	}
	return fmt.Errorf("the stream of the run ended early: %w", lines.Err())
}

// deliver makes a reflex and posts to its webhook as another service would, signed with the reflex's secret.
func (d *demo) deliver(ctx context.Context, skillID string) error {
	var reflex struct {
		WebhookURL    string
		TriggerConfig struct{ Secret string }
	}
	if err := d.call(ctx, "POST", "/api/v1/reflexes", map[string]any{"skillId": skillID, "triggerType": "webhook",
		"triggerConfig": map[string]any{"method": "POST"},
		"conditions":    map[string]any{"expression": "action == published"}}, &reflex); err != nil {
		return err
	}
	address, err := url.Parse(reflex.WebhookURL)
	if err != nil {
		return fmt.Errorf("the webhook's address: %w", err)
	}
	payload := []byte(`{"action": "published", "changes": "a release was published"}`)
	mac := hmac.New(sha256.New, []byte(reflex.TriggerConfig.Secret))
	mac.Write(payload)
	req, err := http.NewRequestWithContext(ctx, "POST", d.base+address.Path, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Triggered bool
		Reason    string
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || !answer.Triggered {
		return fmt.Errorf("the webhook answered %d %s: %w", res.StatusCode, answer.Reason, err)
	}
	d.say("posted a signed webhook to its reflex")
	return nil
}

// executions waits until all runs have ended and shows the usage of each.
func (d *demo) executions(ctx context.Context, skillID string, want int) error {
	began := time.Now()
	for {
		var page struct {
			Executions []struct {
				ExecutionType, Status, ErrorMessage string
				TokensUsed, DurationMs, CostCents   int
			}
		}
		if err := d.call(ctx, "GET", "/api/v1/executions?skillId="+skillID, nil, &page); err != nil {
			return err
		}
		ended := 0
		for _, e := range page.Executions {
			if e.Status == "failed" || e.Status == "cancelled" {
				return fmt.Errorf("the %s run %s: %s", e.ExecutionType, e.Status, e.ErrorMessage)
			}
			if e.Status == "completed" {
				ended++
			}
		}
		if ended < want {
			d.line(false, "  %d of %d runs have ended; waiting for the schedule, %.0f s", ended, want, time.Since(began).Seconds())
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			continue
		}
		d.line(true, "  %-10s %-10s %8s %10s %8s", "run", "status", "tokens", "took", "cost")
		for _, e := range page.Executions {
			d.say("  %-10s %-10s %8s %8d ms %6.2f $", e.ExecutionType, e.Status, thousands(e.TokensUsed), e.DurationMs, float64(e.CostCents)/100)
		}
		return nil
	}
}
