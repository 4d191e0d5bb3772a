package contexts

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fasthttp/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
)

// lab is a server, and Anna with a context. There is no worker: the test ends runs itself, with the files that it wants.
type lab struct {
	*stack.Stack
	psql    *pgxpool.Pool
	anna    *client.Person
	context string
	path    string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s := stack.New(t)
	l := &lab{Stack: s, psql: s.DB.Pool("postgres"), anna: s.SignUp("Anna")}
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	l.context = l.anna.Do("POST", "/projects", client.Object{"name": "Notes"}).Want(201).String("project.id")
	l.path = "/contexts/" + l.context
	return l
}

// member is a person of Anna's organization with a role in the context.
func (l *lab) member(name, role string) *client.Person {
	p := l.Join(l.anna, l.SignUp(name), "member")
	l.DB.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
		values ($1, $2, $3, $4, $5, now())`, l.anna.OrgID, l.context, p.ID, p.Email, role)
	return p
}

// files are contents by path.
type files map[string]string

// finish ends the open run, which found these files in uploads.
func (l *lab) finish(t *testing.T, found files) {
	t.Helper()
	raw, err := json.Marshal(found)
	require.NoError(t, err)
	tag, err := l.psql.Exec(t.Context(), `with r as (
			select * from public.ingestion_runs where project_id = $1 and outcome = 'open'
		), f as (
			select r.id, r.organization_id, r.project_id, e.key, convert_to(e.value, 'UTF8') as content from r, jsonb_each_text($2) e
		), b as (
			insert into public.content_blobs (organization_id, project_id, hash, content, tokens, lines)
			select distinct on (sha256(content)) organization_id, project_id, sha256(content), content, 1,
				array_length(string_to_array(rtrim(convert_from(content, 'UTF8'), E'\n'), E'\n'), 1) from f
			on conflict do nothing
		), m as (
			insert into private.run_manifests (run_id, path, hash, origin, language, bytes, tokens)
			select id, key, sha256(content), 'file', 'text', octet_length(content), 1 from f
		)
		select count(*) from r`, l.context, raw)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
	l.DB.Exec(`select private.write_completion(id, '{}') from public.ingestion_runs where project_id = $1 and outcome = 'open'`, l.context)
}

// add makes a ready entry of these files.
func (l *lab) add(t *testing.T, found files) {
	t.Helper()
	l.async(l.anna.Client).Do("POST", l.path+"/ingestions", text("Added", "some text")).Want(202)
	l.finish(t, found)
}

func (l *lab) async(c *client.Client) *client.Client { return c.With("Prefer", "respond-async") }

func config(name string) client.Object {
	return client.Object{"fileId": "text-1", "fileName": "a.md", "displayName": name, "processingMode": "none",
		"codebase": client.Object{"type": "existing", "name": ""}}
}

// text is form (b) of a text.
func text(name, content string) client.Object {
	return client.Object{"config": config(name), "sourceType": "text", "content": content}
}

// frame is a message of a socket of a context.
type frame struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

type socket struct {
	t      *testing.T
	frames chan frame
}

// subscribe opens the socket of the context, as services/websocket.ts does.
func (l *lab) subscribe(t *testing.T, c *client.Client) *socket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(l.BaseURL, "http")+"/ws?contextId="+l.context+"&token="+c.Token, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s := &socket{t: t, frames: make(chan frame, 1000)}
	go func() {
		defer close(s.frames)
		for {
			_, raw, err := conn.ReadMessage()
			if err != nil {
				return
			}
			var f frame
			if json.Unmarshal(raw, &f) == nil && f.Event != "" {
				s.frames <- f
			}
		}
	}()
	return s
}

// expect waits for an event of this name and reads its data; events of other names are left out.
func (s *socket) expect(event string, into any) {
	s.t.Helper()
	for {
		select {
		case f, open := <-s.frames:
			require.True(s.t, open, "the socket closed before %s came", event)
			if f.Event == event {
				require.NoError(s.t, json.Unmarshal(f.Data, into))
				return
			}
		case <-s.t.Context().Done():
			s.t.Fatal("no " + event)
		}
	}
}
