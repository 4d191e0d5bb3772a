package team

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// call is one request of a person.
type call struct {
	by           *client.Client
	method, path string
	body         any
}

// together sends requests at once, alternating between two server processes, and gives their answers.
func together(t *testing.T, replica string, calls ...call) []client.Response {
	t.Helper()
	answers, errs := make([]client.Response, len(calls)), make([]error, len(calls))
	gate := make(chan struct{})
	var running sync.WaitGroup
	for i, c := range calls {
		by := c.by
		if i%2 == 1 {
			by = by.At(replica)
		}
		running.Go(func() {
			<-gate
			answers[i], errs[i] = by.Try(c.method, c.path, c.body)
		})
	}
	close(gate)
	running.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}

func statuses(answers []client.Response) map[int]int {
	all := map[int]int{}
	for _, r := range answers {
		all[r.Status]++
	}
	return all
}

// Anna hands the team over to Ada while Anna's other device deactivates, demotes or removes Ada, and while Anna hands it over to Ben as
// well. In every order there is one owner, and that owner is active.
func TestOwnershipMovesToOneActivePersonWhateverRaces(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	replica := stack.On(t, f.DB).BaseURL
	other := f.anna.As(signIn(f.anna).AccessToken)
	for round := range 12 {
		owner := f.anna
		ada, ben := f.hire(fmt.Sprintf("Ada%d", round), "admin"), f.hire(fmt.Sprintf("Ben%d", round), "member")
		against := []call{
			{other, "POST", f.membership(ada) + "/deactivate", nil},
			{other, "DELETE", f.membership(ada), nil},
			{other, "PATCH", f.membership(ada), map[string]any{"role": "viewer"}},
			{other, "PATCH", f.membership(ben), map[string]any{"role": "owner"}},
			{ada.Client, "POST", "/team/leave", nil},
			{ada.Client, "DELETE", f.membership(ben), nil},
		}[round%6]
		answers := together(t, replica, call{owner.Client, "PATCH", f.membership(ada), map[string]any{"role": "owner"}}, against)
		owners := f.owners()
		require.Len(t, owners, 1, "round %d", round)
		require.Equal(t, "active", testdb.Value[string](f.DB, "select status from public.memberships where organization_id = $1 and user_id = $2", f.anna.OrgID, owners[0]))
		for _, r := range answers {
			require.Contains(t, []int{200, 204, 401, 403, 404, 409}, r.Status, "round %d: %s answered %s", round, r.Request, r.Body)
		}
		if answers[0].Status == 200 && round%6 != 3 {
			require.Equal(t, ada.ID, owners[0], "round %d: %v", round, statuses(answers))
		}
		// The next round begins with Anna alone, as the owner.
		f.DB.Exec(`do $$ begin
			update public.memberships set role = 'admin' where role = 'owner' and organization_id = '` + f.anna.OrgID + `';
			update public.memberships set role = 'owner' where user_id = '` + f.anna.ID + `' and organization_id = '` + f.anna.OrgID + `';
			delete from public.memberships where role <> 'owner' and organization_id = '` + f.anna.OrgID + `'; end $$`)
	}
}

// Two seats are free. Twenty calls invite at once: fifty addresses in one, three in some, one in others. Each call is done whole or not at
// all, and the number of seats holds.
func TestSeatsAreNeverOversubscribed(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	ada := f.hire("Ada", "admin")
	f.plan("teams", 4)
	replica := stack.On(t, f.DB).BaseURL
	fifty := make([]string, 50)
	for i := range fifty {
		fifty[i] = fmt.Sprintf("p%d@fifty.nl", i)
	}
	refused := f.anna.Do("POST", "/team/invitations", map[string]any{"emails": fifty, "role": "member"}).Problem(429, "QUOTA_EXCEEDED")
	require.Equal(t, map[string]any{"metric": "seats", "limit": 4.0, "used": 2.0, "requested": 50.0, "plan": "teams"}, refused.Value("details"))
	require.Empty(t, refused.Header.Get("Retry-After"))
	require.Equal(t, stats{2, 2, 0, 4, 2}, f.overview(f.anna).Stats)

	for round := range 3 {
		var calls []call
		sizes := map[string]int{}
		for i := range 20 {
			by, size := f.anna.Client, []int{1, 3, 2, 50, 1}[i%5]
			if i%2 == 1 {
				by = ada.Client
			}
			emails := make([]string, size)
			for n := range emails {
				emails[n] = fmt.Sprintf("p%d.%d.%d@vos.nl", round, i, n)
				sizes[emails[n]] = size
			}
			calls = append(calls, call{by, "POST", "/team/invitations", map[string]any{"emails": emails, "role": "viewer"}})
		}
		answers := together(t, replica, calls...)
		invited := 0
		for _, r := range answers {
			if r.Status == 201 {
				made := client.JSON[[]invitation](r)
				require.Len(t, made, sizes[made[0].Email], "all of a call or none")
				invited += len(made)
				continue
			}
			r.Problem(429, "QUOTA_EXCEEDED")
		}
		require.Equal(t, 2, invited)
		o := f.overview(f.anna)
		require.Equal(t, stats{2, 2, 2, 4, 0}, o.Stats)
		for _, i := range o.Invitations {
			f.anna.Do("DELETE", "/team/invitations/"+i.ID, nil).Want(204)
		}
	}
}

// Twenty calls invite one address at once: one of them does it. Then twenty calls accept that invitation at once.
func TestAnInvitationIsMadeAndUsedOnce(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	replica := stack.On(t, f.DB).BaseURL
	ben := f.SignUp("Ben")
	calls := slices.Repeat([]call{{f.anna.Client, "POST", "/team/invitations", map[string]any{"emails": []string{ben.Email}, "role": "member"}}}, 20)
	answers := together(t, replica, calls...)
	require.Equal(t, map[int]int{201: 1, 409: 19}, statuses(answers))
	i := slices.IndexFunc(answers, func(r client.Response) bool { return r.Status == 201 })
	made := client.JSON[[]invitation](answers[i])[0]

	calls = slices.Repeat([]call{{ben.Client, "POST", "/team/invitations/accept", map[string]any{"token": made.Token}}}, 20)
	require.Equal(t, map[int]int{200: 1, 409: 19}, statuses(together(t, replica, calls...)))
	require.Equal(t, stats{2, 2, 0, 10, 8}, f.overview(f.anna).Stats)

	// Accepting against withdrawing: one of the two is done.
	for round := range 6 {
		cas := f.SignUp("Cas")
		open := invite(f.anna.Client, "viewer", cas.Email)[0]
		answers := together(t, replica, call{cas.Client, "POST", "/team/invitations/accept", map[string]any{"token": open.Token}}, call{f.anna.Client, "DELETE", "/team/invitations/" + open.ID, nil})
		joined := testdb.Value[bool](f.DB, "select exists (select from public.memberships where user_id = $1 and organization_id = $2)", cas.ID, f.anna.OrgID)
		require.Equal(t, joined, answers[0].Status == 200, "round %d", round)
		require.Equal(t, joined, answers[1].Status == 409, "round %d: %v", round, statuses(answers))
		if joined {
			f.anna.Do("DELETE", f.membership(cas), nil).Want(204)
		}
	}
}

// Two admins act on each other at once: neither may. Then Anna demotes Ada while Ada removes Ben: the second call is checked against the
// result of the first.
func TestWhoActOnEachOtherAtOnce(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	replica := stack.On(t, f.DB).BaseURL
	ada, otto := f.hire("Ada", "admin"), f.hire("Otto", "admin")
	viewer := map[string]any{"role": "viewer"}
	require.Equal(t, map[int]int{403: 4}, statuses(together(t, replica,
		call{ada.Client, "PATCH", f.membership(otto), viewer}, call{otto.Client, "PATCH", f.membership(ada), viewer},
		call{ada.Client, "DELETE", f.membership(otto), nil}, call{otto.Client, "POST", f.membership(ada) + "/deactivate", nil})))

	for round := range 6 {
		ben := f.hire("Ben", "member")
		answers := together(t, replica, call{f.anna.Client, "PATCH", f.membership(ada), viewer}, call{ada.Client, "DELETE", f.membership(ben), nil})
		require.Equal(t, 200, answers[0].Status, "%s", answers[0].Body)
		gone := testdb.Value[bool](f.DB, "select not exists (select from public.memberships where user_id = $1 and organization_id = $2)", ben.ID, f.anna.OrgID)
		require.Equal(t, gone, answers[1].Status == 204, "round %d: %s", round, answers[1].Body)
		if !gone {
			answers[1].Problem(403, "FORBIDDEN")
			f.anna.Do("DELETE", f.membership(ben), nil).Want(204)
		}
		f.anna.Do("PATCH", f.membership(ada), map[string]any{"role": "admin"}).Want(200)
	}
}
