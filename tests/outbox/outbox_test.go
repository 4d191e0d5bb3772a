package outbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

func TestNeighborsAreOffByDefault(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, Stack: stack.New(t)}
	for _, name := range []string{"zulip", "cxdb", "lightning"} {
		require.Equal(t, "disabled", l.check(name))
	}
}

func TestNeighborsNeedAllTheirSettings(t *testing.T) {
	t.Parallel()
	for fault, change := range map[string]func(*config.Config){
		"ZULIP_EMAIL, ZULIP_API_KEY, ZULIP_STREAM: all are required with ZULIP_SITE": func(c *config.Config) { c.ZulipSite = "https://chat.example.nl" },
		"ZULIP_SITE: must be an http or https URL":                                   func(c *config.Config) { c.ZulipSite = "chat.example.nl" },
		"CXDB_URL: must be an http or https URL":                                     func(c *config.Config) { c.CXDBURL = "cxdb:9010" },
		"AGENT_LIGHTNING_URL: must be an http or https URL":                          func(c *config.Config) { c.LightningURL = "ftp://store" },
		`KIJKO_NEIGHBOR_TEXTS: there is no neighbor "slack"`:                         func(c *config.Config) { c.NeighborTexts = []string{"slack"} },
	} {
		cfg, err := config.Load()
		require.NoError(t, err)
		cfg.Debug = true
		change(&cfg)
		require.Contains(t, fmt.Sprint(cfg.Config.Faults()), fault)
	}
}

// Each neighbor gets what ended, without a word of Anna's.
func TestNeighborsGetNumbersAndNoTexts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	run := l.ingest("completed")
	l.zulip.next(t)
	failed := l.run("failed", "habit")
	l.zulip.next(t)
	l.lightning.next(t)
	l.cxdb.next(t)
	l.cxdb.next(t)
	stack.Eventually(t, "all deliveries are done", func() bool { return l.waiting() == 0 })

	messages := l.zulip.all()
	require.Equal(t, message{"stream", "builds", "Project " + l.project[:8],
		":check: Ingestion of project `" + l.project + "` finished in 0s: 7 files, 90 tokens, 8 chunks. (run " + run + ")"}, roundedToZero(messages[0]))
	require.Equal(t, message{"stream", "builds", "Skill " + l.skill[:8], ":cross_mark: Run of skill `" + l.skill + "` by a habit failed: PROVIDER_ERROR. (run " + failed + ")"}, messages[1])
	turns := l.cxdb.all()[0]
	require.Equal(t, []any{"user", "assistant", "failed", "PROVIDER_ERROR", 3.0, 4.0, "claude-sonnet-5", l.anna.OrgID, l.anna.ID, failed, nil},
		[]any{turns[0]["role"], turns[1]["role"], turns[1]["status"], turns[1]["error_code"], turns[1]["prompt_tokens"], turns[1]["completion_tokens"], turns[1]["model"],
			turns[1]["organization_id"], turns[1]["user_id"], turns[1]["execution_id"], turns[1]["text"]})
	s := l.lightning.all()[0]
	require.Equal(t, map[string]any{"service.name": "kijko", "agentlightning.rollout_id": "ro-1", "agentlightning.attempt_id": "at-1", "agentlightning.span_sequence_id": "1"}, s.Resource)
	require.Equal(t, []any{"chat claude-sonnet-5", "STATUS_CODE_ERROR", "claude-sonnet-5", int64(3), int64(4), "PROVIDER_ERROR", l.anna.ID},
		[]any{s.Name, s.Status, s.Attributes["gen_ai.request.model"], s.Attributes["gen_ai.usage.input_tokens"], s.Attributes["gen_ai.usage.output_tokens"], s.Attributes["error.type"],
			s.Attributes["user.id"]})
	require.Equal(t, "failed", l.lightning.statuses["ro-1"])
	everything, err := json.Marshal([]any{messages, l.cxdb.all(), l.lightning.all(), l.lightning.rollouts})
	require.NoError(t, err)
	require.NotContains(t, strings.ToLower(string(everything)), "secret")
	for _, name := range []string{"zulip", "cxdb", "lightning"} {
		require.Equal(t, "healthy", l.check(name))
	}
}

// roundedToZero makes any duration 0s.
func roundedToZero(m message) message {
	m.Content = regexp.MustCompile(`finished in [0-9.a-z]+:`).ReplaceAllString(m.Content, "finished in 0s:")
	return m
}

func TestNeighborsGetTextsWhereTheOperatorAllowsIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, "zulip", "cxdb", "lightning")
	worker.Start(t, l.Stack)
	run := l.ingest("failed")
	l.zulip.next(t)
	require.Equal(t, message{"stream", "builds", "Secret @**all** plan", ":cross_mark: Ingestion of project `Secret @**all** plan` failed in phase repository_fetch: CLONE_FAILED. `Secret reason` (run " + run + ")"},
		l.zulip.all()[0], "inside inline code Zulip reads no mention")
	l.run("completed", "manual")
	l.lightning.next(t)
	l.cxdb.next(t)
	l.cxdb.next(t)
	turns := l.cxdb.all()[0]
	require.Equal(t, []any{`{"topic": "Secret topic"}`, "Secret answer", "Secret skill"}, []any{turns[0]["text"], turns[1]["text"], turns[1]["skill"]})
	s := l.lightning.all()[0]
	require.Equal(t, []any{"STATUS_CODE_OK", "user", `{"topic": "Secret topic"}`, "assistant", "Secret answer"},
		[]any{s.Status, s.Attributes["gen_ai.prompt.0.role"], s.Attributes["gen_ai.prompt.0.content"], s.Attributes["gen_ai.completion.0.role"], s.Attributes["gen_ai.completion.0.content"]})
	require.Equal(t, map[string]any{"topic": "Secret topic"}, l.lightning.rollouts[0]["input"].(map[string]any)["input"])
	require.Equal(t, "succeeded", l.lightning.statuses["ro-1"])
	require.Len(t, l.zulip.all(), 1, "a run that a person started is not announced")
}

// A neighbor that fails gets each delivery later, once.
func TestANeighborThatFailsGetsEachDeliveryOnceInTheEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	seen := make(chan string, 100)
	limited := func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.URL.Path
		writeJSON(w, 429, map[string]any{"result": "error", "code": "RATE_LIMIT_HIT", "retry-after": 28.5})
	}
	l.zulip.answer(limited)
	l.ingest("completed")
	require.Equal(t, "POST /api/v1/messages", <-seen)
	stack.Eventually(t, "the delivery waits as long as the body says", func() bool {
		return testdb.Holds(l.DB, "select due_at > now() + interval '20 seconds' and error like '%429%RATE_LIMIT_HIT%' from private.outbox where neighbor = 'zulip' and lease_token is null")
	})
	require.Equal(t, "degraded NEIGHBOR_UNREACHABLE", l.check("zulip"))

	// The message is written, and the answer is lost.
	l.zulip.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			l.zulip.serve(&dropped{w.Header()}, r)
			panic(http.ErrAbortHandler)
		}
		l.zulip.serve(w, r)
	})
	l.due()
	l.zulip.next(t)
	stack.Eventually(t, "the attempt counts as failed", func() bool {
		return testdb.Holds(l.DB, "select attempts = 2 and lease_token is null from private.outbox where neighbor = 'zulip'")
	})
	l.zulip.answer(nil)
	require.Equal(t, "degraded DELIVERY_FAILS", l.check("zulip"))
	l.due()
	stack.Eventually(t, "the third attempt finds the message", func() bool { return l.waiting() == 0 })
	require.Len(t, l.zulip.all(), 1)

	// The same for cxdb: the first turn is appended, and its answer is lost.
	var first atomic.Bool
	l.cxdb.answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/append") && first.CompareAndSwap(false, true) {
			l.cxdb.serve(&dropped{w.Header()}, r)
			panic(http.ErrAbortHandler)
		}
		l.cxdb.serve(w, r)
	})
	// And for Agent-Lightning: the span is taken, and its answer is lost.
	var second atomic.Bool
	l.lightning.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" && second.CompareAndSwap(false, true) {
			l.lightning.serve(&dropped{w.Header()}, r)
			panic(http.ErrAbortHandler)
		}
		l.lightning.serve(w, r)
	})
	l.run("completed", "manual")
	stack.Eventually(t, "both attempts failed", func() bool {
		return testdb.Value[int](l.DB, "select count(*)::int from private.outbox where error is not null and lease_token is null") == 2
	})
	l.due()
	stack.Eventually(t, "both arrive in the end", func() bool { return l.waiting() == 0 })
	require.Len(t, l.cxdb.all(), 1)
	require.Len(t, l.cxdb.all()[0], 2, "each turn once")
	require.Len(t, l.lightning.all(), 1)
	require.Equal(t, "succeeded", l.lightning.statuses["ro-1"])
	require.Len(t, l.lightning.rollouts, 1)
}

// dropped is an answer that no client gets.
type dropped struct{ header http.Header }

func (d *dropped) Header() http.Header         { return d.header }
func (d *dropped) WriteHeader(int)             {}
func (d *dropped) Write(p []byte) (int, error) { return len(p), nil }

// No request waits for a neighbor: with one that never answers, Anna works on, and her deliveries wait.
func TestANeighborThatHangsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	l.zulip.answer(func(http.ResponseWriter, *http.Request) { <-hang })
	l.ingest("failed")
	l.anna.Do("PATCH", "/projects/"+l.project, map[string]any{"name": "Renamed"}).Want(200)
	require.Equal(t, 1, l.waiting())
	require.Equal(t, "degraded", l.check("zulip")[:8], "the check has its own time limit")
	require.Equal(t, 200, l.Get("/health/ready").Status)
}

// A worker that is killed between the message and the record of it loses nothing, and the message is written once.
func TestAKilledWorkerLosesNoDelivery(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	program := worker.Program(t)
	start := func() *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+l.Config.DatabaseWorker, "DATABASE_WORKER_URL="+l.Config.DatabaseWorker, "KIJKO_DATA_DIR="+t.TempDir(), "DEBUG=true",
			"ENCRYPTION_KEY="+l.Config.EncryptionKey, "ZULIP_SITE="+l.zulip.URL, "ZULIP_EMAIL=bot@zulip.test", "ZULIP_API_KEY=a-key", "ZULIP_STREAM=builds", "KIJKO_LOG_LEVEL=error")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	l.zulip.answer(func(w http.ResponseWriter, r *http.Request) {
		l.zulip.serve(&dropped{w.Header()}, r)
		<-hang
	})
	first := start()
	l.ingest("completed")
	l.zulip.next(t)
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	l.zulip.answer(nil)
	start()
	stack.Eventually(t, "another worker finishes the delivery", func() bool { return l.waiting() == 0 })
	require.Len(t, l.zulip.all(), 1)
}

// A chat is one context of cxdb, its messages are the turns, in order, also where it is stored whole.
func TestChatsGoToOneContextOfCXDB(t *testing.T) {
	t.Parallel()
	l := newLab(t, "cxdb")
	worker.Start(t, l.Stack)
	l.DB.Exec(`insert into public.chat_sessions (organization_id, user_id, id) values ($1, $2, 'chat_1_a')`, l.anna.OrgID, l.anna.ID)
	write := func(from, to int) {
		l.DB.Exec(`insert into public.chat_messages (organization_id, user_id, chat_id, seq, role, content, model, input_tokens, output_tokens)
			select $1, $2, 'chat_1_a', n, case when n % 2 = 1 then 'user' else 'model' end, 'Message ' || n, case when n % 2 = 0 then 'claude-sonnet-5' end, case when n % 2 = 0 then 5 end,
			case when n % 2 = 0 then 6 end from generate_series($3::int, $4::int) n`, l.anna.OrgID, l.anna.ID, from, to)
	}
	write(1, 6)
	write(7, 8)
	stack.Eventually(t, "all turns are appended", func() bool { return l.waiting() == 0 })
	require.Len(t, l.cxdb.all(), 1)
	turns := l.cxdb.all()[0]
	require.Len(t, turns, 8)
	for i, turn := range turns {
		require.Equal(t, []any{map[int]string{0: "user", 1: "assistant"}[i%2], fmt.Sprintf("Message %d", i+1)}, []any{turn["role"], turn["text"]})
	}
	require.Equal(t, []any{"claude-sonnet-5", 5.0, 6.0, "completed"}, []any{turns[7]["model"], turns[7]["prompt_tokens"], turns[7]["completion_tokens"], turns[7]["status"]})
}
