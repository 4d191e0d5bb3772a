package audit

import (
	"testing"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// lab is a server with the cast: Anna owns an organization, Ada is an admin in it, Ben a member, Stan owns another one.
type lab struct {
	*stack.Stack
	anna, ada, ben, stan *client.Person
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	s := stack.New(t, options...)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ada: s.SignUp("Ada"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.Join(l.anna, l.ada, "admin")
	l.Join(l.anna, l.ben, "member")
	return l
}

func (l *lab) plan(p *client.Person, plan string) {
	l.DB.Exec("update public.subscriptions set plan_id = $2 where organization_id = $1", p.OrgID, plan)
}

// write puts an entry into the trail of Anna's organization, some days ago. Without a person the actor is the system.
func (l *lab) write(daysAgo float64, person, eventType, description string) string {
	return testdb.Value[string](l.DB, `insert into public.audit_log (organization_id, user_id, event_type, description, ip_address, created_at)
		values ($1, nullif($2, '')::uuid, $3, $4, '192.0.2.7', now() - make_interval(secs => $5::float8 * 86400)) returning id::text`,
		l.anna.OrgID, person, eventType, description, daysAgo)
}

type entry struct {
	ID, TeamID, UserID, UserEmail, UserName, EventType, EventCategory, Description, IPAddress, SessionID, CreatedAt string
	Metadata                                                                                                        map[string]any
	Changes                                                                                                         []struct {
		Field              string
		OldValue, NewValue any
	}
}

type page struct {
	Entries                     []entry
	HasMore                     bool
	TotalCount, UnfilteredCount int
}

func (p page) descriptions() []string {
	texts := []string{}
	for _, e := range p.Entries {
		texts = append(texts, e.Description)
	}
	return texts
}
