// Package team tests how people join an organization, what they may do, and how they leave: black-box, by actor.
package team

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// member, invitation and overview are the parts of TeamMember, TeamInvitation and TeamOverview that the tests read.
type member struct{ ID, TeamID, UserID, Email, Name, Role, Status, JoinedAt, LastActiveAt string }

type invitation struct{ ID, TeamID, Email, Role, Token, Status, ExpiresAt, CreatedAt string }

type overview struct {
	Team struct {
		ID, Name, OwnerID string
		MaxSeats          int
	}
	Members         []member
	Invitations     []invitation
	Stats           stats
	CurrentUserRole string
}

type stats struct{ TotalMembers, ActiveMembers, PendingInvites, MaxSeats, AvailableSeats int }

// firm is a server with Anna, who owns an organization on a plan with a team.
type firm struct {
	*stack.Stack
	t    *testing.T
	anna *client.Person
}

func newFirm(t *testing.T, options ...stack.Option) *firm {
	t.Helper()
	s := stack.New(t, options...)
	f := &firm{Stack: s, t: t, anna: s.SignUp("Anna")}
	f.plan("teams", 0)
	return f
}

// plan gives Anna's organization a plan, as an operator does. Where seats is not 0, it replaces the plan's number.
func (f *firm) plan(id string, seats int) {
	f.t.Helper()
	f.DB.Exec(`update public.subscriptions set plan_id = $2, overrides = case when $3 = 0 then '{}'::jsonb else jsonb_build_object('seats', $3::integer) end
		where organization_id = $1`, f.anna.OrgID, id, seats)
}

// invite sends invitations as a person, and gives them.
func invite(by *client.Client, role string, emails ...string) []invitation {
	return client.JSON[[]invitation](by.Do("POST", "/team/invitations", map[string]any{"emails": emails, "role": role}).Want(201))
}

// hire makes a person who joined Anna's organization through an invitation and acts there.
func (f *firm) hire(name, role string) *client.Person {
	f.t.Helper()
	p := f.SignUp(name)
	p.Do("POST", "/team/invitations/accept", map[string]any{"token": invite(f.anna.Client, role, p.Email)[0].Token}).Want(200)
	tokens := p.Do("POST", "/auth/switch-org", map[string]any{"org_id": f.anna.OrgID}).Want(200).Tokens()
	p.Client, p.RefreshToken, p.OrgID = p.As(tokens.AccessToken), tokens.RefreshToken, f.anna.OrgID
	return p
}

// signIn is another device of a person.
func signIn(p *client.Person) client.Tokens {
	return p.As("").Do("POST", "/auth/login", map[string]any{"email": p.Email, "password": p.Password}).Want(200).Tokens()
}

// membership is the path of a person's membership in Anna's organization.
func (f *firm) membership(p *client.Person) string {
	f.t.Helper()
	return "/team/members/" + testdb.Value[string](f.DB, "select id::text from public.memberships where organization_id = $1 and user_id = $2", f.anna.OrgID, p.ID)
}

func (f *firm) overview(by *client.Person) overview {
	f.t.Helper()
	return client.JSON[overview](by.Get("/team").Want(200))
}

// owners are the owners of Anna's organization. There must be exactly one, always.
func (f *firm) owners() []string {
	f.t.Helper()
	return testdb.Value[[]string](f.DB, "select coalesce(array_agg(user_id::text), '{}') from public.memberships where organization_id = $1 and role = 'owner'", f.anna.OrgID)
}

// withModel makes the local model answer, once the server has reported it.
func withModel(c *config.Config) { c.AnthropicKey, c.GoogleKey, c.LocalModel = "", "", "on" }

func (f *firm) modelIsThere() {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		return testdb.Holds(f.DB, "select private.is_provider_configured('anthropic', null)")
	}, 10*time.Second, 10*time.Millisecond, "the server tells the database what it offers")
}

// socket is a client's socket in its own rooms.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

type frame struct {
	Type, Room string
	Data       map[string]any
}

func (f *firm) connect(token string) *socket {
	f.t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(f.BaseURL, "http")+"/api/v1/ws?token="+token, nil)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	s := &socket{f.t, conn}
	s.until(func(f frame) bool { return f.Type == "hello" })
	return s
}

func (s *socket) say(text string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

// until reads up to a frame.
func (s *socket) until(is func(frame) bool) frame {
	s.t.Helper()
	require.NoError(s.t, s.conn.SetReadDeadline(time.Now().Add(15*time.Second)))
	for {
		_, raw, err := s.conn.ReadMessage()
		require.NoError(s.t, err)
		var f frame
		require.NoError(s.t, json.Unmarshal(raw, &f))
		if is(f) {
			return f
		}
	}
}

// closed reads to the end and gives its code.
func (s *socket) closed() int {
	s.t.Helper()
	require.NoError(s.t, s.conn.SetReadDeadline(time.Now().Add(15*time.Second)))
	for {
		if _, _, err := s.conn.ReadMessage(); err != nil {
			var end *websocket.CloseError
			require.ErrorAs(s.t, err, &end)
			return end.Code
		}
	}
}

// changed matches a resource_changed.
func changed(resource, operation string) func(frame) bool {
	return func(f frame) bool {
		return f.Type == "resource_changed" && f.Data["resource"] == resource && f.Data["operation"] == operation
	}
}
