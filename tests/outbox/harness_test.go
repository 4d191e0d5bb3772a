package outbox

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// lab is a server with neighbors. Anna owns a project and a skill.
type lab struct {
	*stack.Stack
	t              *testing.T
	anna           *client.Person
	project, skill string
	zulip          *zulip
	cxdb           *cxdb
	lightning      *lightning
}

// newLab starts the doubles and a server that knows them. texts names the neighbors that may get texts of customers.
func newLab(t *testing.T, texts ...string) *lab {
	t.Helper()
	l := &lab{t: t, zulip: newZulip(t), cxdb: newCXDB(t), lightning: newLightning(t)}
	l.Stack = stack.New(t, func(c *config.Config) {
		c.ZulipSite, c.ZulipEmail, c.ZulipKey, c.ZulipStream = l.zulip.URL, "bot@zulip.test", "a-key", "builds"
		c.CXDBURL, c.LightningURL, c.NeighborTexts = l.cxdb.URL, l.lightning.URL, texts
	})
	l.anna = l.SignUp("Anna")
	stack.Eventually(t, "the server declares its neighbors", func() bool {
		return testdb.Holds(l.DB, "select private.installation_value('neighbors') ? 'zulip'")
	})
	l.project = l.anna.Do("POST", "/projects", client.Object{"name": "Secret @**all** plan"}).Want(201).String("project.id")
	l.skill = testdb.Value[string](l.DB, `insert into public.skills (user_id, organization_id, name, prompt_template) values ($1, $2, 'Secret skill', 'Write something about {{topic}}') returning id::text`,
		l.anna.ID, l.anna.OrgID)
	l.DB.Exec(work)
	return l
}

// work makes work that has ended, in one transaction: a worker that runs beside finds nothing to take.
const work = `
create function public.ended_ingestion(p_org uuid, p_project uuid, p_outcome text) returns text language plpgsql as $$
declare
  v_id uuid;
begin
  insert into public.ingestion_runs (organization_id, project_id) values (p_org, p_project) returning id into v_id;
  if p_outcome = 'failed' then
    update public.ingestion_runs set outcome = 'failed', error_code = 'CLONE_FAILED', error_message = 'Secret reason' where id = v_id;
    return v_id;
  end if;
  for i in 1 .. 4 loop
    update public.ingestion_runs set phase = (array['parsing', 'chunking', 'optimization', 'indexing'])[i] where id = v_id;
  end loop;
  update public.ingestion_runs set outcome = 'completed', files_processed = 7, tokens_processed = 90, chunks_created = 8 where id = v_id;
  return v_id;
end $$;
create function public.ended_run(p_user uuid, p_org uuid, p_skill uuid, p_status text, p_kind text) returns text language plpgsql as $$
declare
  v_id uuid;
begin
  insert into public.skill_executions (user_id, organization_id, skill_id, execution_type, reference_id, input, model)
  values (p_user, p_org, p_skill, p_kind, case when p_kind <> 'manual' then gen_random_uuid() end, '{"topic": "Secret topic"}', 'claude-sonnet-5') returning id into v_id;
  update public.skill_executions set status = 'running' where id = v_id;
  update public.skill_executions set status = p_status, output = case when p_status = 'completed' then 'Secret answer' end, prompt_tokens = 3, completion_tokens = 4,
    cost_cents = 1, error_code = case when p_status = 'failed' then 'PROVIDER_ERROR' end, error_message = case when p_status = 'failed' then 'Secret reason' end
  where id = v_id;
  return v_id;
end $$`

// ingest ends an ingestion of the project.
func (l *lab) ingest(outcome string) (id string) {
	l.t.Helper()
	return testdb.Value[string](l.DB, "select public.ended_ingestion($1, $2, $3)", l.anna.OrgID, l.project, outcome)
}

// run ends a run of the skill.
func (l *lab) run(status, kind string) (id string) {
	l.t.Helper()
	return testdb.Value[string](l.DB, "select public.ended_run($1, $2, $3, $4, $5)", l.anna.ID, l.anna.OrgID, l.skill, status, kind)
}

// due makes waiting deliveries due now: a test must not wait for time.
func (l *lab) due() {
	l.DB.Exec("update jobs.stored_jobs set run_at = now() where queue = 'outbox'")
	l.DB.Exec("select pg_notify('kijko_jobs', '')")
}

func (l *lab) waiting() int {
	return testdb.Value[int](l.DB, "select count(*)::int from private.outbox")
}

// check is a check of /health/ready.
func (l *lab) check(name string) string {
	r := l.Get("/health/ready")
	return strings.TrimSuffix(r.String("checks."+name+".status")+" "+fmt.Sprint(r.Value("checks."+name+".code")), " <nil>")
}

// double is a neighbor's server. how, where it is set, answers in its place.
type double struct {
	*httptest.Server
	mu   sync.Mutex
	how  http.HandlerFunc
	wake chan struct{}
}

func (d *double) start(t *testing.T, serve http.HandlerFunc) {
	d.wake = make(chan struct{}, 1000)
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		how := d.how
		d.mu.Unlock()
		if how != nil {
			how(w, r)
		} else {
			serve(w, r)
		}
	}))
	t.Cleanup(d.Close)
}

func (d *double) answer(how http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.how = how
}

// next waits until the double has taken one more thing.
func (d *double) next(t *testing.T) {
	t.Helper()
	select {
	case <-d.wake:
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing arrived")
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// zulip keeps messages. It answers as docs/peers/zulip.md describes.
type zulip struct {
	double
	messages []message
	recorded []string
}

type message struct{ Type, To, Topic, Content string }

func newZulip(t *testing.T) *zulip {
	z := &zulip{}
	z.start(t, z.serve)
	return z
}

func (z *zulip) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/server_settings" {
		writeJSON(w, 200, map[string]any{"result": "success", "zulip_version": "10.4", "zulip_feature_level": 378})
		return
	}
	if email, key, ok := r.BasicAuth(); !ok || email != "bot@zulip.test" || key != "a-key" || r.URL.Path != "/api/v1/messages" {
		writeJSON(w, 401, map[string]any{"result": "error", "code": "INVALID_API_KEY"})
		return
	}
	_ = r.ParseForm()
	z.mu.Lock()
	defer z.mu.Unlock()
	if r.Method == http.MethodPost {
		m := message{r.PostForm.Get("type"), r.PostForm.Get("to"), r.PostForm.Get("topic"), r.PostForm.Get("content")}
		z.messages = append(z.messages, m)
		z.recorded = append(z.recorded, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
		writeJSON(w, 200, map[string]any{"result": "success", "id": len(z.messages)})
		z.wake <- struct{}{}
		return
	}
	var narrow []struct{ Operator, Operand string }
	if err := json.Unmarshal([]byte(r.Form.Get("narrow")), &narrow); err != nil || r.Form.Get("anchor") != "newest" {
		writeJSON(w, 400, map[string]any{"result": "error", "code": "BAD_REQUEST"})
		return
	}
	found := []map[string]any{}
	for _, m := range z.messages {
		fits := true
		for _, n := range narrow {
			fits = fits && map[string]string{"stream": m.To, "topic": m.Topic, "sender": "bot@zulip.test"}[n.Operator] == n.Operand
		}
		if fits {
			found = append(found, map[string]any{"content": m.Content})
		}
	}
	writeJSON(w, 200, map[string]any{"result": "success", "messages": found})
}

func (z *zulip) all() []message {
	z.mu.Lock()
	defer z.mu.Unlock()
	return append([]message(nil), z.messages...)
}

// cxdb keeps contexts. It answers as docs/peers/cxdb.md describes; payloads stay JSON where the server makes MessagePack, which the view
// of raw bytes does not show.
type cxdb struct {
	double
	bundle   string
	contexts [][]map[string]any
}

func newCXDB(t *testing.T) *cxdb {
	c := &cxdb{}
	c.start(t, c.serve)
	return c
}

func (c *cxdb) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/healthz":
		_, _ = io.WriteString(w, "ok")
	case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/v1/registry/bundles/"):
		if c.bundle != "" && c.bundle != string(raw) {
			writeJSON(w, 422, map[string]any{"error": "bundle_id already exists with different content"})
			return
		}
		c.bundle = string(raw)
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/contexts/create":
		c.contexts = append(c.contexts, nil)
		writeJSON(w, 201, map[string]any{"context_id": len(c.contexts), "head_turn_id": 0, "head_depth": 0})
	case len(parts) == 4 && parts[1] == "contexts":
		id, err := strconv.Atoi(parts[2])
		if err != nil || id < 1 || id > len(c.contexts) {
			writeJSON(w, 404, map[string]any{"error": "context"})
			return
		}
		if parts[3] == "append" && r.Method == http.MethodPost {
			var body map[string]any
			if json.Unmarshal(raw, &body) != nil || body["type_id"] == nil || body["data"] == nil {
				writeJSON(w, 422, map[string]any{"error": "missing required field"})
				return
			}
			c.contexts[id-1] = append(c.contexts[id-1], body["data"].(map[string]any))
			writeJSON(w, 201, map[string]any{"context_id": id, "turn_id": len(c.contexts[id-1]), "depth": len(c.contexts[id-1])})
			c.wake <- struct{}{}
			return
		}
		turns := []map[string]any{}
		for i, turn := range c.contexts[id-1] {
			data, _ := json.Marshal(turn)
			turns = append(turns, map[string]any{"turn_id": i + 1, "bytes_b64": base64.StdEncoding.EncodeToString(data)})
		}
		writeJSON(w, 200, map[string]any{"meta": map[string]any{}, "turns": turns})
	default:
		writeJSON(w, 404, map[string]any{"error": "not found"})
	}
}

func (c *cxdb) all() [][]map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([][]map[string]any(nil), c.contexts...)
}

// lightning keeps rollouts and spans. It answers as docs/peers/agent-lightning.md describes.
type lightning struct {
	double
	rollouts []map[string]any
	statuses map[string]string
	spans    map[string]span // by id: the store skips one that it has
}

type span struct {
	Name, Status         string
	Resource, Attributes map[string]any
}

func newLightning(t *testing.T) *lightning {
	l := &lightning{statuses: map[string]string{}, spans: map[string]span{}}
	l.start(t, l.serve)
	return l
}

func (l *lightning) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var body map[string]any
	_ = json.Unmarshal(raw, &body)
	switch {
	case r.URL.Path == "/v1/agl/health":
		writeJSON(w, 200, map[string]any{"status": "ok"})
	case r.URL.Path == "/v1/agl/rollouts" && body != nil:
		l.rollouts = append(l.rollouts, body)
		id := fmt.Sprintf("ro-%d", len(l.rollouts))
		l.statuses[id] = "preparing"
		writeJSON(w, 201, map[string]any{"rollout_id": id, "attempt": map[string]any{"attempt_id": "at-1"}})
	case r.URL.Path == "/v1/traces":
		var sent collector.ExportTraceServiceRequest
		if r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(raw, &sent) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		l.take(&sent)
		w.Header().Set("Content-Type", "application/x-protobuf")
	case len(parts) == 6 && parts[4] == "attempts" && body != nil:
		if l.statuses[parts[3]] == "" {
			writeJSON(w, 500, map[string]any{"detail": "Internal server error", "error_type": "ValueError"})
			return
		}
		l.statuses[parts[3]] = body["status"].(string)
		writeJSON(w, 200, map[string]any{"attempt_id": parts[5]})
		l.wake <- struct{}{}
	default:
		writeJSON(w, 404, map[string]any{"detail": "Not Found"})
	}
}

func (l *lightning) take(sent *collector.ExportTraceServiceRequest) {
	for _, rs := range sent.ResourceSpans {
		s := span{Resource: map[string]any{}, Attributes: map[string]any{}}
		for _, a := range rs.Resource.Attributes {
			s.Resource[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			for _, one := range ss.Spans {
				s.Name, s.Status = one.Name, one.Status.Code.String()
				for _, a := range one.Attributes {
					if a.Value.GetIntValue() != 0 {
						s.Attributes[a.Key] = a.Value.GetIntValue()
					} else {
						s.Attributes[a.Key] = a.Value.GetStringValue()
					}
				}
				l.spans[fmt.Sprintf("%x/%x", one.TraceId, one.SpanId)] = s
			}
		}
	}
}

func (l *lightning) all() (spans []span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.spans {
		spans = append(spans, s)
	}
	return spans
}
