// Package zulip announces ended runs in a stream of Zulip. What it relies on is in docs/peers/zulip.md.
package zulip

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kijko/worker/outbox"
)

// Config names the bot that writes, and the stream that it writes to.
type Config struct{ Site, Email, Key, Stream string }

// Zulip writes messages as a bot.
type Zulip struct {
	client        *outbox.Client
	email, stream string
}

// New makes a Zulip; nil without a site.
func New(c Config) (*Zulip, error) {
	switch {
	case c.Site == "":
		return nil, nil
	case !outbox.IsAddress(c.Site):
		return nil, errors.New("ZULIP_SITE: must be an http or https URL")
	case c.Email == "" || c.Key == "" || c.Stream == "":
		return nil, errors.New("ZULIP_EMAIL, ZULIP_API_KEY, ZULIP_STREAM: all are required with ZULIP_SITE")
	}
	credential := base64.StdEncoding.EncodeToString([]byte(c.Email + ":" + c.Key))
	return &Zulip{outbox.NewClient(c.Site, http.Header{"Authorization": {"Basic " + credential}}), c.Email, c.Stream}, nil
}

// Name is zulip.
func (z *Zulip) Name() string { return "zulip" }

// Close ends idle connections.
func (z *Zulip) Close() { z.client.Close() }

// Ping asks the server's settings, which need no login.
func (z *Zulip) Ping(ctx context.Context) error {
	a, err := z.client.Do(ctx, http.MethodGet, "/api/v1/server_settings", "", nil)
	if err == nil && !a.OK() {
		return a.Fault("server settings")
	}
	return err
}

// message is what is announced. Mark is a text in the content that no other announcement has.
type message struct{ topic, content, mark string }

// Send writes the announcement, unless an earlier attempt did.
func (z *Zulip) Send(ctx context.Context, d outbox.Delivery) error {
	m, err := compose(d)
	if err != nil {
		return outbox.Refused(err)
	}
	if d.IsRepeat() {
		if written, err := z.isWritten(ctx, m); err != nil || written {
			return err
		}
	}
	form := url.Values{"type": {"stream"}, "to": {z.stream}, "topic": {m.topic}, "content": {m.content}}
	a, err := z.client.Do(ctx, http.MethodPost, "/api/v1/messages", "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return err
	}
	return fault(a, "send a message")
}

// isWritten looks for the announcement among the newest messages of the bot in the topic. A bot that may not read is repeated to be safe.
func (z *Zulip) isWritten(ctx context.Context, m message) (bool, error) {
	narrow, err := json.Marshal([]map[string]string{{"operator": "stream", "operand": z.stream}, {"operator": "topic", "operand": m.topic}, {"operator": "sender", "operand": z.email}})
	if err != nil {
		return false, err
	}
	query := url.Values{"anchor": {"newest"}, "num_before": {"100"}, "num_after": {"0"}, "apply_markdown": {"false"}, "narrow": {string(narrow)}}
	a, err := z.client.Do(ctx, http.MethodGet, "/api/v1/messages?"+query.Encode(), "", nil)
	if err != nil {
		return false, err
	}
	if a.Status == http.StatusBadRequest {
		return false, nil
	}
	if err := fault(a, "read messages"); err != nil {
		return false, err
	}
	var found struct {
		Messages []struct {
			Content string `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(a.Body, &found); err != nil {
		return false, fmt.Errorf("read messages: %w", err)
	}
	for _, f := range found.Messages {
		if strings.Contains(f.Content, m.mark) {
			return true, nil
		}
	}
	return false, nil
}

// fault reads Zulip's errors: the time to wait stands in the body, in seconds.
func fault(a outbox.Answer, what string) error {
	if a.OK() {
		return nil
	}
	var said struct {
		Code       string  `json:"code"`
		RetryAfter float64 `json:"retry-after"`
	}
	_ = json.Unmarshal(a.Body, &said)
	err := fmt.Errorf("%s: answer %d %s", what, a.Status, said.Code)
	switch {
	case a.Status == http.StatusTooManyRequests && said.RetryAfter > 0:
		return outbox.Busy(err, time.Duration(min(said.RetryAfter, 1e6)*float64(time.Second)))
	case a.Status == http.StatusBadRequest && said.Code == "BAD_REQUEST":
		return outbox.Refused(err)
	}
	return a.Fault(what + " " + said.Code)
}

func compose(d outbox.Delivery) (message, error) {
	switch d.Kind {
	case "ingestion":
		var run outbox.Ingestion
		if err := json.Unmarshal(d.Payload, &run); err != nil {
			return message{}, fmt.Errorf("read an ingestion: %w", err)
		}
		return ingestion(run), nil
	case "execution":
		var run outbox.Execution
		if err := json.Unmarshal(d.Payload, &run); err != nil {
			return message{}, fmt.Errorf("read a run: %w", err)
		}
		return execution(run), nil
	}
	return message{}, fmt.Errorf("there is no announcement of kind %q", d.Kind)
}

func ingestion(run outbox.Ingestion) message {
	m := message{topic: topic(cmp.Or(run.Project, "Project "+short(run.ProjectID))), mark: run.RunID}
	about := "project " + code(cmp.Or(run.Project, run.ProjectID))
	if run.Outcome == "completed" {
		m.content = fmt.Sprintf(":check: Ingestion of %s finished in %s: %d files, %d tokens, %d chunks.", about, duration(run.Seconds*1000), run.Files, run.Tokens, run.Chunks)
	} else {
		m.content = fmt.Sprintf(":cross_mark: Ingestion of %s failed in phase %s: %s.", about, run.Phase, run.ErrorCode)
	}
	return m.end(run.Error)
}

func execution(run outbox.Execution) message {
	m := message{topic: topic(cmp.Or(run.Skill, "Skill "+short(run.SkillID))), mark: run.ExecutionID}
	about := fmt.Sprintf("skill %s by a %s", code(cmp.Or(run.Skill, run.SkillID, "that is gone")), run.Type)
	if run.Status == "completed" {
		m.content = fmt.Sprintf(":check: Run of %s finished in %s.", about, duration(run.DurationMS))
	} else {
		m.content = fmt.Sprintf(":cross_mark: Run of %s failed: %s.", about, run.ErrorCode)
	}
	return m.end(run.Error)
}

// end adds the error and the mark.
func (m message) end(failure string) message {
	if failure != "" {
		m.content += " " + code(failure)
	}
	m.content += " (run " + m.mark + ")"
	return m
}

// code makes a text of customers inline code, in which Zulip reads no mentions, links or commands.
func code(text string) string {
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "`", "'")), " ")
	return "`" + cut(text, 1000) + "`"
}

// topic has at most 60 characters.
func topic(text string) string { return cut(strings.Join(strings.Fields(text), " "), 60) }

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

func short(id string) string { return id[:min(8, len(id))] }

func duration(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}
