//go:build peers

package outbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// Zulip's own client sends the same message in the same request, and repeats at the pace that ours has in its first ten attempts.
func TestNeighborsOfPyPIZulip(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.ingest("completed")
	l.zulip.next(t)
	ours := l.zulip.all()[0]
	asked, err := json.Marshal(map[string]string{"type": ours.Type, "to": ours.To, "topic": ours.Topic, "content": ours.Content})
	require.NoError(t, err)
	peers.Zulip(t, l.zulip.URL, "bot@zulip.test", "a-key", "import json, zulip\nassert zulip.Client().send_message(json.loads("+pythonText(string(asked))+"))['result'] == 'success'")
	require.Equal(t, ours, l.zulip.all()[1])
	require.Equal(t, l.zulip.recorded[0], l.zulip.recorded[1])

	// Ours finds what the client wrote, as it finds what it wrote itself.
	found := peers.Zulip(t, l.zulip.URL, "bot@zulip.test", "a-key", `import json, zulip
r = zulip.Client().get_messages({"anchor": "newest", "num_before": 100, "num_after": 0, "apply_markdown": False, "narrow": [{"operator": "stream", "operand": "builds"}]})
print(len(r["messages"]))`)
	require.Equal(t, "2\n", found)

	var at []time.Time
	l.zulip.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			l.zulip.mu.Lock()
			at = append(at, time.Now())
			l.zulip.mu.Unlock()
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		l.zulip.serve(w, r)
	})
	peers.Zulip(t, l.zulip.URL, "bot@zulip.test", "a-key", "import zulip\nprint(zulip.Client().send_message({'type': 'stream', 'to': 'builds', 'topic': 't', 'content': 'c'}))")
	require.Len(t, at, 11, "ten repeats")
	for i := range 10 {
		require.GreaterOrEqual(t, at[i+1].Sub(at[i]), time.Second)
		require.Equal(t, time.Second, testdb.Value[time.Duration](l.DB, "select private.outbox_pause('zulip', $1)", i+1))
	}

	l.zulip.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			writeJSON(w, 429, map[string]any{"result": "error", "code": "RATE_LIMIT_HIT", "retry-after": 28.5})
			return
		}
		l.zulip.serve(w, r)
	})
	said := peers.Zulip(t, l.zulip.URL, "bot@zulip.test", "a-key", "import json, zulip\nprint(json.dumps(zulip.Client().send_message({'type': 'stream', 'to': 'builds', 'topic': 't', 'content': 'c'})))")
	require.Contains(t, said, `"retry-after": 28.5`, "the client gives the time back to its caller, who is ours")
}

func pythonText(s string) string {
	text, _ := json.Marshal(s) // a JSON text of ASCII is one of Python's too
	return string(text)
}

// The real store of Agent-Lightning takes rollouts and spans, and its own adapter reads the conversation.
func TestNeighborsOfPyPILightning(t *testing.T) {
	t.Parallel()
	store := peers.Lightning(t)
	l := &lab{t: t}
	l.Stack = stack.New(t, func(c *config.Config) { c.LightningURL, c.NeighborTexts = store, []string{"lightning"} })
	l.anna = l.SignUp("Anna")
	stack.Eventually(t, "the server declares its neighbors", func() bool {
		return testdb.Holds(l.DB, "select private.installation_value('neighbors') ? 'lightning'")
	})
	l.skill = testdb.Value[string](l.DB, `insert into public.skills (user_id, organization_id, name, prompt_template) values ($1, $2, 'A skill', 'Write something about {{topic}}') returning id::text`, l.anna.ID, l.anna.OrgID)
	worker.Start(t, l.Stack)
	done, failed := l.run("completed", "manual"), l.run("failed", "manual")
	stack.Eventually(t, "both runs are sent", func() bool { return l.waiting() == 0 })
	require.Equal(t, "healthy", l.check("lightning"))

	read := func(path string, into any) {
		r, err := http.Get(store + path)
		require.NoError(t, err)
		defer func() { _ = r.Body.Close() }()
		raw, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, 200, r.StatusCode, "%s", raw)
		require.NoError(t, json.Unmarshal(raw, into))
	}
	var rollouts struct {
		Items []struct {
			RolloutID string         `json:"rollout_id"`
			Status    string         `json:"status"`
			Metadata  map[string]any `json:"metadata"`
			Attempt   struct {
				Status string `json:"status"`
			} `json:"attempt"`
		} `json:"items"`
	}
	read("/v1/agl/rollouts", &rollouts)
	require.Len(t, rollouts.Items, 2)
	for _, r := range rollouts.Items {
		var spans struct {
			Items []struct {
				Name       string         `json:"name"`
				SequenceID int            `json:"sequence_id"`
				Attributes map[string]any `json:"attributes"`
			} `json:"items"`
		}
		read("/v1/agl/spans?rollout_id="+url.QueryEscape(r.RolloutID), &spans)
		require.Len(t, spans.Items, 1)
		s := spans.Items[0]
		require.Equal(t, []any{"chat claude-sonnet-5", 1, r.Metadata["kijko.execution_id"]}, []any{s.Name, s.SequenceID, s.Attributes["kijko.execution.id"]})
		want := client.Object{done: "succeeded", failed: "failed"}[r.Metadata["kijko.execution_id"].(string)]
		require.Equal(t, []any{want, want}, []any{r.Status, r.Attempt.Status})
	}

	// The same span again: the store skips it.
	l.DB.Exec("insert into private.outbox (organization_id, neighbor, kind, subject_id, series, attempts) values ($1, 'lightning', 'execution', $2, $2, 1)", l.anna.OrgID, done)
	l.DB.Exec("select private.queue_next_of_series('lightning', $1)", done)
	l.due()
	stack.Eventually(t, "it is sent again", func() bool { return l.waiting() == 0 })
	var all struct {
		Total int `json:"total"`
	}
	read("/v1/agl/rollouts", &all)
	require.Equal(t, 2, all.Total, "no other rollout is begun")
	for _, r := range rollouts.Items {
		read("/v1/agl/spans?rollout_id="+url.QueryEscape(r.RolloutID), &all)
		require.Equal(t, 1, all.Total)
	}
}
