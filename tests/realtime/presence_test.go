package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// A view of a project is recorded after the answer: reads stay read-only, and opening it twice is one view.
func TestPresenceIsNotedAfterTheAnswer(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	id := ann.Do("POST", "/projects", client.Object{"name": "Seen by Ann"}).Want(201).String("project.id")
	for range 2 {
		ann.Get("/projects/" + id + "/full").Want(200)
	}
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, `select count(*) from public.project_activity where project_id = $1 and type = 'view'`, id) == 1 &&
			testdb.Value[bool](s.DB, `select last_active_at is not null from public.project_members where project_id = $1`, id)
	}, 10*time.Second, 50*time.Millisecond)
	require.Equal(t, ann.Email, ann.Get("/projects/"+id).Want(200).String("lastActiveUser.email"))
}
