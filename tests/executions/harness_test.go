package executions

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// skillLab is a server with a double of the models, with people and their skills.
type skillLab struct {
	*stack.Stack
	t      *testing.T
	models *llmtest.Server
	anna   *client.Person
}

func newSkillLab(t *testing.T, options ...stack.Option) *skillLab {
	t.Helper()
	models := llmtest.New(t)
	s := stack.New(t, append([]stack.Option{usingModels(models)}, options...)...)
	l := &skillLab{Stack: s, t: t, models: models, anna: s.SignUp("Anna")}
	require.Eventually(t, func() bool {
		return testdb.Holds(s.DB, "select coalesce((select value ? 'anthropic' from private.installation where key = 'providers'), false)")
	}, 10*time.Second, 5*time.Millisecond, "the server tells the database what it offers")
	return l
}

func usingModels(models *llmtest.Server) stack.Option {
	return func(c *config.Config) {
		m := models.Config()
		c.AnthropicKey, c.AnthropicURL, c.GoogleKey, c.GoogleURL, c.LocalModel = m.AnthropicKey, m.AnthropicURL, m.GoogleKey, m.GoogleURL, "off"
	}
}

// skill makes a skill of a person. Further columns of the row may be given.
func (l *skillLab) skill(owner *client.Person, name string, columns ...string) string {
	l.t.Helper()
	names, values := []string{"user_id", "organization_id", "name", "prompt_template"}, []string{"$1", "$2", "$3", "'Write something nice about {{topic}}'"}
	for _, column := range columns {
		key, value, _ := strings.Cut(column, "=")
		names, values = append(names, key), append(values, value)
	}
	return testdb.Value[string](l.DB, "insert into public.skills ("+strings.Join(names, ", ")+") values ("+strings.Join(values, ", ")+") returning id::text",
		owner.ID, owner.OrgID, name)
}

func (l *skillLab) count(sql string, args ...any) int {
	l.t.Helper()
	return testdb.Value[int](l.DB, sql, args...)
}

// used is the number of api_calls that a person's organization has used.
func (l *skillLab) used(p *client.Person) int {
	l.t.Helper()
	return l.count("select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))", p.OrgID)
}

// status waits until a run has one of these states.
func (l *skillLab) status(p *client.Person, id string, statuses ...string) client.Response {
	l.t.Helper()
	var r client.Response
	require.Eventually(l.t, func() bool {
		r = p.Get("/executions/" + id).Want(200)
		for _, s := range statuses {
			if r.String("status") == s {
				return true
			}
		}
		return false
	}, 20*time.Second, 5*time.Millisecond, "waiting for %v", statuses)
	return r
}

// event is one of an event stream.
type event struct {
	Name string
	Data map[string]any
}

// readAlong opens a stream and sends its events to a channel as they come. The channel closes with the stream.
func readAlong(ctx context.Context, t *testing.T, p *client.Person, path, body string, key ...string) <-chan event {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.BaseURL+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+p.Token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Idempotency-Key", strings.Join(key, ""))
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	require.Contains(t, answer.Header.Get("Content-Type"), "text/event-stream")
	out := make(chan event, 1000)
	go func() {
		defer close(out)
		defer func() { _ = answer.Body.Close() }()
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 8<<20)
		var e event
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.Name = value
			case "data":
				if err := errors.Join(client.CheckEvent("POST", path, e.Name, value), json.Unmarshal([]byte(value), &e.Data)); err != nil {
					t.Error(err)
					return
				}
				out <- e
				e = event{}
			}
		}
	}()
	return out
}

// story reads a stream to its end: the names of its events in order (consecutive texts as one), the text, and the result.
func story(stream <-chan event) (names []string, text string, result map[string]any) {
	for e := range stream {
		if len(names) == 0 || names[len(names)-1] != e.Name {
			names = append(names, e.Name)
		}
		switch e.Name {
		case "text":
			text += e.Data["content"].(string)
		case "done":
			result, _ = e.Data["result"].(map[string]any)
		}
	}
	return names, text, result
}
