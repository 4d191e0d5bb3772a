package sharing

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
)

// lab is a stack with a real mail server and a worker, Anna with a project, and the owner's view of the database.
type lab struct {
	*stack.Stack
	mail    *peers.Mailpit
	psql    *pgxpool.Pool
	anna    *client.Person
	project string // its id
	path    string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	server := peers.NewMailpit(t)
	s := stack.New(t, stack.MailsVia(server))
	l := &lab{Stack: s, mail: server, psql: s.DB.Pool("postgres"), anna: s.SignUp("Anna")}
	l.project = l.anna.Do("POST", "/projects", client.Object{"name": "Billing"}).Want(201).String("project.id")
	l.path = "/projects/" + l.project
	stack.Eventually(t, "the server says whether it can send mail", func() bool {
		return stack.Count(t, l.psql, "select count(*) from private.installation where key = 'mail' and value = 'true'") == 1
	})
	worker.Start(t, s)
	return l
}

// verified is a person whose address has been verified.
func (l *lab) verified(name string) *client.Person {
	p := l.SignUp(name)
	l.DB.Exec("update public.users set email_verified_at = now() where id = $1", p.ID)
	return p
}

// joins makes a person a member of Anna's organization, and gives a client that acts there.
func (l *lab) joins(p *client.Person, role string) *client.Client {
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, $3)", l.anna.OrgID, p.ID, role)
	return p.As(p.Do("POST", "/auth/switch-org", client.Object{"org_id": l.anna.OrgID}).Want(200).Tokens().AccessToken)
}

var link = regexp.MustCompile(`http://kijko\.test/project-invitation\?token=([A-Za-z0-9_-]{43})`)

// invitations gives the mails to an address that invite; the address's own confirmation, sent at sign-up, is none.
func (l *lab) invitations(t *testing.T, address string) []peers.Mail {
	t.Helper()
	return slices.DeleteFunc(l.mail.Mails(t), func(m peers.Mail) bool { return m.To[0].Address != address || !link.MatchString(m.Text) })
}

// token waits for the nth invitation to an address and gives the token of its link.
func (l *lab) token(t *testing.T, address string, nth int) string {
	t.Helper()
	var found []string
	stack.Eventually(t, "an invitation arrives", func() bool {
		found = nil
		for _, m := range l.invitations(t, address) {
			// Both forms of the mail hold the same link.
			text, html := link.FindStringSubmatch(m.Text), link.FindStringSubmatch(m.HTML)
			require.Equal(t, text, html)
			found = append(found, text[1])
		}
		return len(found) >= nth
	})
	return found[nth-1]
}

// joined invites a person, who accepts, and gives the id of the member.
func (l *lab) joined(t *testing.T, p *client.Person, role string) string {
	t.Helper()
	member := l.anna.In(t).Do("POST", l.path+"/members", client.Object{"email": p.Email, "role": role}).Want(201).String("id")
	stack.Eventually(t, "a job notifies the account", func() bool {
		return stack.Count(t, l.psql, "select count(*) from public.notifications where user_id = $1 and data ->> 'memberId' = $2", p.ID, member) == 1
	})
	return p.In(t).Do("POST", "/project-invitations/"+l.token(t, p.Email, 1)+"/accept", nil).Want(200).String("id")
}

// frame is a message of a socket.
type frame struct {
	Type, Room, Code, Reason string
	Data                     map[string]any
}

// socket collects the frames of a WebSocket.
type socket struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan frame
	closed chan int // the code of the end
}

func (l *lab) socket(t *testing.T, c *client.Client, path string) *socket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(),
		"ws"+strings.TrimPrefix(l.BaseURL, "http")+openapi.Prefix+path+"?token="+c.Token, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s := &socket{t: t, conn: conn, frames: make(chan frame, 1000), closed: make(chan int, 1)}
	go func() {
		defer close(s.frames)
		for {
			_, raw, err := conn.ReadMessage()
			if err != nil {
				code := websocket.CloseAbnormalClosure
				if end := (*websocket.CloseError)(nil); errors.As(err, &end) {
					code = end.Code
				}
				s.closed <- code
				return
			}
			var f frame
			if json.Unmarshal(raw, &f) == nil {
				s.frames <- f
			}
		}
	}()
	return s
}

// until gives the frames up to the first of a type.
func (s *socket) until(kind string) []frame {
	s.t.Helper()
	var all []frame
	end := time.After(stack.Patience)
	for {
		select {
		case f, open := <-s.frames:
			require.True(s.t, open, "the socket ended before %s", kind)
			if all = append(all, f); f.Type == kind {
				return all
			}
		case <-end:
			require.Fail(s.t, "no frame came", "%s; got %v", kind, all)
		}
	}
}

func (s *socket) say(text string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

// end gives the close code.
func (s *socket) end() int {
	s.t.Helper()
	select {
	case code := <-s.closed:
		return code
	case <-time.After(stack.Patience):
		require.Fail(s.t, "the socket stays open")
		return 0
	}
}

func last(frames []frame) frame { return frames[len(frames)-1] }
