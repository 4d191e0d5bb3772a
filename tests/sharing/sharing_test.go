package sharing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
)

// Gus has no account and no organization here. He is invited by mail, signs up, accepts, works as a manager, and is removed while his
// sockets are open.
func TestAGuestIsInvitedWorksAndIsRemoved(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	secret := l.anna.Do("POST", "/projects", client.Object{"name": "Salaries", "privacy": "shared"}).Want(201).String("project.id")
	watcher := l.socket(t, l.anna.Client, "/ws")
	watcher.until("hello")
	watcher.say(`{"action":"join","room":"project:` + l.project + `"}`)
	watcher.until("room_joined")

	const address = "gus@guests.example"
	invited := l.anna.Do("POST", l.path+"/members", client.Object{"email": "Gus@Guests.example", "role": "manager", "inviteMessage": "Come in"}).Want(201)
	require.Equal(t, "", invited.String("userId"))
	require.Equal(t, invited.String("id"), last(watcher.until("project_user:insert")).Data["id"], "who watches sees him come")
	token := l.token(t, address, 1)
	mail := l.invitations(t, address)[0]
	require.Equal(t, `Anna Test invites you to "Billing" in Kijko`, mail.Subject)
	require.Contains(t, mail.Text, "\r\n> Come in\r\n")
	stack.Eventually(t, "the outbox forgets the token", func() bool {
		return stack.Count(t, l.psql, "select count(*) from private.mails where to_address = $1 and sent_at is not null and body_text || body_html !~ $2", address, token) == 1
	})

	seen := l.As("").Get("/project-invitations/" + token).Want(200)
	require.Equal(t, []any{"Billing", address, "manager", "Anna Test", "pending"},
		[]any{seen.Value("projectName"), seen.Value("email"), seen.Value("role"), seen.Value("invitedBy"), seen.Value("status")})
	l.As("").Do("POST", "/project-invitations/"+token+"/accept", nil).Problem(401, "UNAUTHENTICATED")
	l.verified("Stan").Do("POST", "/project-invitations/"+token+"/accept", nil).Problem(403, "INVITATION_EMAIL_MISMATCH")

	gus := l.As(l.As("").Do("POST", "/auth/signup", client.Object{"email": address, "password": "Correct-Horse-7", "first_name": "Gus", "last_name": "Guest"}).Want(201).Tokens().AccessToken)
	require.Empty(t, client.JSON[client.Page[any]](gus.Get("/projects").Want(200)).Data, "signing up with an invited address accepts nothing")
	gus.Do("POST", "/project-invitations/"+token+"/accept", nil).Problem(403, "EMAIL_NOT_VERIFIED")
	l.DB.Exec("update public.users set email_verified_at = now() where email = $1", address)
	member := gus.Do("POST", "/project-invitations/"+token+"/accept", nil).Want(200)
	require.Equal(t, []any{"Gus Guest", "manager"}, []any{member.Value("name"), member.Value("role")})
	gus.Do("POST", "/project-invitations/"+token+"/accept", nil).Want(200)
	l.As("").Do("POST", "/project-invitations/"+token+"/decline", nil).Problem(404, "INVITATION_NOT_FOUND")
	require.Equal(t, "Gus Guest", last(watcher.until("project_user:update")).Data["name"])

	// He sees the project and nothing else of the tenant, and uses no seat of it.
	require.Equal(t, []client.Object{{"name": "Billing"}}, names(client.JSON[client.Page[client.Object]](gus.Get("/projects").Want(200)).Data))
	gus.Get("/projects/"+secret).Problem(404, "PROJECT_NOT_FOUND")
	gus.Get("/contexts/"+secret+"/users").Problem(404, "CONTEXT_NOT_FOUND")
	require.Len(t, client.JSON[[]any](gus.Get("/auth/organizations").Want(200)), 1)
	require.Len(t, client.JSON[[]any](gus.Get("/users/search?q=e").Want(200)), 1, "people of his own organization")
	require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from public.memberships where organization_id = $1", l.anna.OrgID))

	// A manager invites up to his rank, removes lower ranks, and changes neither roles nor the project.
	gus.Do("POST", l.path+"/members", client.Object{"email": "top@guests.example", "role": "admin"}).Problem(403, "FORBIDDEN").Field("role")
	gus.Do("POST", l.path+"/users", client.Object{"email": "top@guests.example", "role": "admin"}).Problem(403, "FORBIDDEN").Field("role")
	results := gus.Do("POST", l.path+"/invitations", []client.Object{{"email": "top@guests.example", "role": "admin", "notificationLevel": "daily"},
		{"email": "dev@guests.example", "role": "developer", "notificationLevel": "real-time"}}).Want(200)
	require.Equal(t, []any{false, 1.0, 1.0}, []any{results.Value("success"), results.Value("totalSent"), results.Value("totalFailed")})
	dev := client.JSON[[]struct{ ID, Email string }](gus.Get(l.path + "/invitations/pending").Want(200))[0]
	require.Equal(t, "dev@guests.example", dev.Email)
	gus.Do("PUT", l.path+"/members/"+dev.ID, client.Object{"role": "viewer"}).Problem(403, "FORBIDDEN")
	gus.Do("PUT", "/project-users/"+dev.ID, client.Object{"role": "viewer"}).Problem(403, "FORBIDDEN")
	gus.Do("PUT", l.path, client.Object{"name": "Mine now"}).Problem(403, "FORBIDDEN")
	gus.Do("DELETE", l.path, nil).Problem(403, "FORBIDDEN")
	gus.Do("POST", l.path+"/text-sources", client.Object{"content": "what a developer may"}).Want(201)
	owner := client.JSON[[]struct{ ID, Role string }](gus.Get(l.path + "/access").Want(200))[0]
	require.Equal(t, "owner", owner.Role)
	gus.Do("DELETE", l.path+"/access/"+owner.ID, nil).Problem(409, "OWNER_REQUIRED")
	gus.Do("DELETE", l.path+"/members/"+member.String("id"), nil).Problem(403, "CANNOT_MANAGE_SELF")
	gus.Do("PATCH", l.path+"/members/"+member.String("id"), client.Object{"notifyOnError": false}).Want(200)
	gus.Do("DELETE", l.path+"/members/"+dev.ID, nil).Want(200)
	require.Equal(t, dev.ID, last(watcher.until("project_user:delete")).Data["id"])

	// He is removed while two of his sockets watch the project.
	own, room := l.socket(t, gus, l.path+"/ws"), l.socket(t, gus, "/ws")
	room.until("hello")
	for _, name := range []string{"project:", "context:"} {
		room.say(`{"action":"join","room":"` + name + l.project + `"}`)
		room.until("room_joined")
	}
	l.anna.Do("DELETE", "/project-users/"+member.String("id"), nil).Want(204)
	l.anna.Do("PUT", l.path, client.Object{"label": "after"}).Want(200)
	require.Equal(t, 4004, own.end())
	left := append(room.until("room_left"), room.until("room_left")...)
	room.say(`{"action":"join","room":"project:` + l.project + `"}`)
	left = append(left, room.until("error")...)
	require.Equal(t, "ROOM_FORBIDDEN", last(left).Code)
	for _, f := range left {
		require.NotContains(t, fmt.Sprint(f.Data["changedFields"]), "label", "nothing behind the removal is told")
	}
	require.Equal(t, member.String("id"), last(watcher.until("project_user:delete")).Data["id"])
	gus.Get(l.path).Problem(404, "PROJECT_NOT_FOUND")
	gus.Do("POST", l.path+"/text-sources", client.Object{"content": "last word"}).Problem(404, "PROJECT_NOT_FOUND")
	gus.Do("DELETE", "/project-users/"+owner.ID, nil).Problem(404, "MEMBER_NOT_FOUND")
	gus.Do("POST", "/project-invitations/"+token+"/accept", nil).Problem(404, "INVITATION_NOT_FOUND")

	type event struct {
		Description string
		User        struct{ Name, Email string }
	}
	log := client.JSON[client.Page[event]](l.anna.Get(l.path + "/activity?type=permission&pageSize=100").Want(200))
	told := []string{}
	for _, e := range log.Data {
		told = append(told, e.User.Name+" "+e.Description)
	}
	require.Equal(t, []string{"Anna Test removed Gus Guest", "Gus Guest removed dev@guests.example", "Gus Guest invited dev@guests.example as editor",
		"Gus Guest joined as admin", "Anna Test invited gus@guests.example as admin"}, told)
}

func names(list []client.Object) []client.Object {
	out := []client.Object{}
	for _, one := range list {
		out = append(out, client.Object{"name": one["name"]})
	}
	return out
}

func TestOneTokenIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	gus, stan := l.verified("Gus"), l.verified("Stan")
	l.anna.Do("POST", l.path+"/members", client.Object{"email": gus.Email, "role": "developer"}).Want(201)
	stack.Eventually(t, "who has an account is told there, too", func() bool {
		return strings.Contains(string(gus.Get("/notifications").Want(200).Body), `You are invited to \"Billing\"`)
	})
	accept := "/project-invitations/" + l.token(t, gus.Email, 1) + "/accept"
	answers := client.AtOnce(t, 20, func(i int) (client.Response, error) {
		return []*client.Person{gus, stan}[i%2].Try("POST", accept, nil)
	})
	ids := map[string]int{}
	for i, r := range answers {
		if i%2 == 0 {
			ids[r.Want(200).String("id")]++
			continue
		}
		require.Contains(t, []int{403, 404}, r.Status, "%s", r.Body)
	}
	require.Len(t, ids, 1, "every answer to Gus is the same member")
	require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from public.project_activity where project_id = $1 and description = 'joined as editor'", l.project))
	require.Equal(t, 2, stack.Count(t, l.psql, "select accepted_members from public.projects where id = $1", l.project))
}

// Accepting against withdrawing, accepting against deleting, transferring twice: the second action finds the first one done, and nothing is
// half done.
func TestChangesOfPeopleAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	t.Run("OneAddressIsInvitedOnce", func(t *testing.T) {
		statuses := map[int]int{}
		for _, r := range client.AtOnce(t, 20, func(i int) (client.Response, error) {
			if i%2 == 0 {
				return l.anna.Try("POST", l.path+"/members", client.Object{"email": "one@guests.example", "role": "viewer"})
			}
			return l.anna.Try("POST", l.path+"/users", client.Object{"email": "One@guests.example", "role": "viewer"})
		}) {
			statuses[r.Status]++
		}
		require.Equal(t, map[int]int{201: 1, 409: 19}, statuses)
	})
	t.Run("AcceptedOrTakenBack", func(t *testing.T) {
		for range 5 {
			gus := l.verified("Gus")
			member := l.anna.In(t).Do("POST", l.path+"/members", client.Object{"email": gus.Email, "role": "viewer"}).Want(201).String("id")
			token := l.token(t, gus.Email, 1)
			answers := client.AtOnce(t, 2, func(i int) (client.Response, error) {
				if i == 0 {
					return gus.Try("POST", "/project-invitations/"+token+"/accept", nil)
				}
				return l.anna.Try("DELETE", l.path+"/invitations/"+member, nil)
			})
			if answers[0].Status == 200 {
				answers[1].Problem(409, "ALREADY_ACCEPTED")
			} else {
				answers[0].Problem(404, "INVITATION_NOT_FOUND")
				answers[1].Want(200)
			}
		}
	})
	t.Run("AcceptedOrDeletedWithTheProject", func(t *testing.T) {
		for i := range 5 {
			gus := l.verified("Gus")
			path := "/projects/" + l.anna.In(t).Do("POST", "/projects", client.Object{"name": fmt.Sprint("Short lived ", i)}).Want(201).String("project.id")
			l.anna.In(t).Do("POST", path+"/members", client.Object{"email": gus.Email, "role": "manager"}).Want(201)
			token := l.token(t, gus.Email, 1)
			answers := client.AtOnce(t, 3, func(i int) (client.Response, error) {
				switch i {
				case 0:
					return gus.Try("POST", "/project-invitations/"+token+"/accept", nil)
				case 1:
					return l.anna.Try("POST", path+"/members", client.Object{"email": "late@guests.example", "role": "viewer"})
				}
				return l.anna.Try("DELETE", path, nil)
			})
			require.Contains(t, []int{200, 404}, answers[0].Status, "%s", answers[0].Body)
			require.Contains(t, []int{201, 404}, answers[1].Status, "%s", answers[1].Body)
			answers[2].Want(200)
			gus.In(t).Get(path).Problem(404, "PROJECT_NOT_FOUND")
		}
	})
	t.Run("OneOwner", func(t *testing.T) {
		ben, mia := l.verified("Ben"), l.verified("Mia")
		targets := []string{l.joined(t, ben, "developer"), l.joined(t, mia, "manager")}
		done := 0
		for _, r := range client.AtOnce(t, 10, func(i int) (client.Response, error) {
			return l.anna.Try("PUT", "/project-users/"+targets[i%2], client.Object{"role": "owner"})
		}) {
			if r.Status == 200 {
				done++
				continue
			}
			r.Problem(403, "FORBIDDEN")
		}
		require.Equal(t, 1, done)
		owners := 0
		for _, u := range client.JSON[[]struct{ Role string }](l.anna.Get(l.path + "/users").Want(200)) {
			if u.Role == "owner" {
				owners++
			}
		}
		require.Equal(t, 1, owners)
	})
}

// An invitation gets the same answer for an address with an account and for one without. An invented token gets the same answer as a dead
// one.
func TestInvitationsTellNothingOfAccounts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stan := l.verified("Stan")
	shape := func(r client.Response) string {
		var object client.Object
		r.Into(&object)
		for _, name := range []string{"id", "memberId", "email", "name", "invitedAt", "added_at", "lastActive"} {
			if _, there := object[name]; there {
				object[name] = "…"
			}
		}
		return fmt.Sprint(object)
	}
	for _, route := range []string{l.path + "/members", l.path + "/users", l.path + "/access", "/contexts/" + l.project + "/users/invite"} {
		known := l.anna.Do("POST", route, client.Object{"email": stan.Email, "role": "viewer"}).Want(201)
		l.anna.Do("DELETE", "/project-users/"+known.String("id"), nil).Want(204)
		unknown := l.anna.Do("POST", route, client.Object{"email": "nobody@guests.example", "role": "viewer"}).Want(201)
		l.anna.Do("DELETE", "/project-users/"+unknown.String("id"), nil).Want(204)
		require.Equal(t, shape(unknown), shape(known), route)
	}
	for _, token := range []string{strings.Repeat("A", 43), "x", "%00", "%F0%9F%98%80"} {
		l.As("").Get("/project-invitations/"+token).Problem(404, "INVITATION_NOT_FOUND")
		l.As("").Do("POST", "/project-invitations/"+token+"/decline", nil).Problem(404, "INVITATION_NOT_FOUND")
		stan.Do("POST", "/project-invitations/"+token+"/accept", nil).Problem(404, "INVITATION_NOT_FOUND")
	}
}

// Ben is a colleague: he has access at once. Gus, a guest with the role manager, cannot find out that Ben is a colleague.
func TestAColleagueHasAccessAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ben := l.SignUp("Ben")
	there := l.joins(ben, "member")
	there.Get(l.path).Problem(404, "PROJECT_NOT_FOUND")
	found := client.JSON[[]struct{ ID, Email, Name string }](l.anna.Get("/users/search?q=BEN").Want(200))
	require.Equal(t, ben.ID, found[0].ID)
	added := l.anna.Do("POST", l.path+"/users", client.Object{"email": found[0].Email, "role": "editor", "addedBy": "x"}).Want(201)
	require.Equal(t, []any{ben.ID, "editor", l.anna.ID}, []any{added.Value("user_id"), added.Value("role"), added.Value("added_by")})
	there.Get(l.path).Want(200)
	l.anna.Do("POST", l.path+"/users", client.Object{"email": ben.Email, "role": "viewer"}).Problem(409, "MEMBER_EXISTS").Field("email")
	require.Contains(t, string(there.Get("/notifications").Want(200).Body), `Anna Test added you to \"Billing\"`)

	gus, mia := l.verified("Gus"), l.SignUp("Mia")
	l.joins(mia, "member")
	l.joined(t, gus, "manager")
	require.Equal(t, "", gus.Do("POST", l.path+"/users", client.Object{"email": mia.Email, "role": "viewer"}).Want(201).String("user_id"))
	for _, context := range []string{"/contexts/", "/context/"} {
		listed := client.JSON[[]struct{ Status, UserID string }](l.anna.Get(context + l.project + "/users?search=mia").Want(200))
		require.Equal(t, []struct{ Status, UserID string }{{Status: "pending"}}, listed)
	}

	// Deactivated in the organization, he acts from another one, and is no guest of its projects.
	l.DB.Exec("update public.memberships set status = 'inactive' where organization_id = $1 and user_id = $2", l.anna.OrgID, ben.ID)
	elsewhere := l.As(l.As("").Do("POST", "/auth/login", client.Object{"email": ben.Email, "password": ben.Password}).Want(200).Tokens().AccessToken)
	elsewhere.Get(l.path).Problem(404, "PROJECT_NOT_FOUND")
	require.Empty(t, client.JSON[client.Page[any]](elsewhere.Get("/projects").Want(200)).Data)
	l.DB.Exec("update public.memberships set status = 'active' where organization_id = $1 and user_id = $2", l.anna.OrgID, ben.ID)
	elsewhere.Get(l.path).Want(200)
}

func TestAnInvitationIsSentAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	gus := l.verified("Gus")
	key := l.anna.With("Idempotency-Key", "invite gus")
	member := key.Do("POST", l.path+"/members", client.Object{"email": gus.Email, "role": "auditor"}).Want(201).String("id")
	require.Equal(t, member, key.Do("POST", l.path+"/members", client.Object{"email": gus.Email, "role": "auditor"}).Want(201).String("id"), "a repeated request is one invitation")
	first := l.token(t, gus.Email, 1)
	for _, route := range []string{l.path + "/invitations/" + member + "/resend", l.path + "/access/" + member + "/resend", "/contexts/" + l.project + "/users/" + member + "/resend-invite"} {
		r := l.anna.Do("POST", route, nil).Problem(429, "RATE_LIMITED")
		require.NotEmpty(t, r.Header.Get("Retry-After"))
	}
	l.DB.Exec("update private.project_invitations set sent_at = sent_at - interval '1 minute'")
	again := l.anna.Do("POST", l.path+"/invitations/"+member+"/resend", nil).Want(200)
	require.Equal(t, []any{gus.Email, "sent", member}, []any{again.Value("email"), again.Value("status"), again.Value("memberId")})
	second := l.token(t, gus.Email, 2)
	gus.Do("POST", "/project-invitations/"+first+"/accept", nil).Problem(404, "INVITATION_NOT_FOUND")
	l.DB.Exec("update public.project_members set invited_at = now() - interval '8 days' where id = $1", member)
	gus.Do("POST", "/project-invitations/"+second+"/accept", nil).Problem(409, "INVITATION_EXPIRED")
	l.DB.Exec("update public.project_members set invited_at = now() where id = $1", member)
	gus.Do("POST", "/project-invitations/"+second+"/accept", nil).Want(200)

	// An auditor reads people and the whole log, and no content.
	gus.Get(l.path + "/members").Want(200)
	require.Positive(t, client.JSON[client.Page[any]](gus.Get(l.path+"/activity").Want(200)).Total)
	gus.Get(l.path+"/settings").Problem(403, "FORBIDDEN")
	gus.Do("POST", l.path+"/members", client.Object{"email": "x@guests.example", "role": "viewer"}).Problem(403, "FORBIDDEN")
	require.Zero(t, stack.Count(t, l.psql, "select count(*) from private.mails where to_address = $1 and sent_at is not null and body_text || body_html like '%token=%'", gus.Email))
}

// A changed file fires the reflexes of the project's present owner. After a transfer the new owner's reflexes fire. A removed member's own
// reflexes and habits stay active, but do not fire for the project.
func TestReflexesFollowTheOwner(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	gus := l.verified("Gus")
	member := l.joined(t, gus, "admin")
	reflex := func(p *client.Person) (reflex, habit string) {
		skill := p.Do("POST", "/skills", client.Object{"name": "Tell me", "promptTemplate": "Something has changed, tell me what it is"}).Want(201).String("id")
		habit = p.Do("POST", "/habits", client.Object{"skillId": skill, "scheduleCron": "0 9 * * *"}).Want(201).String("id")
		return p.Do("POST", "/reflexes", client.Object{"skillId": skill, "triggerType": "file_change", "triggerConfig": client.Object{"paths": []string{"*.go"}}}).Want(201).String("id"), habit
	}
	annas, _ := reflex(l.anna)
	guss, habit := reflex(gus)
	// A run that leaves an index with one file more.
	files := 0
	ingest := func() {
		files++
		l.DB.Exec(`with r as (insert into public.ingestion_runs (organization_id, project_id, outcome, phase, percent, completed_at, ended_at, original_tokens,
				optimized_tokens, duration_seconds, result) values ($1, $2, 'completed', 'indexing', 100, now(), now(), 1, 1, 1, '{}') returning id),
			f as (insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
				select $1, r.id, gen_random_uuid(), n, 'repository', n || '.go', 'go', 'code', 10, 5, 4, sha256('x') from r, generate_series(1, $3) n)
			insert into public.project_indexes as i (project_id, organization_id, run_id) select $2, $1, r.id from r
			on conflict (project_id) do update set run_id = excluded.run_id`, l.anna.OrgID, l.project, files)
	}
	fired := func(id string) int {
		return stack.Count(t, l.psql, "select count(*) from private.reflex_deliveries where reflex_id = $1", id)
	}
	ingest()
	l.anna.Do("PUT", "/project-users/"+member, client.Object{"role": "owner"}).Want(200)
	ingest()
	stack.Eventually(t, "the new owner's reflex fires", func() bool { return fired(guss) == 1 })
	gus.Do("PUT", l.path+"/access/"+l.anna.ID, client.Object{"role": "owner"}).Want(200)
	l.anna.Do("DELETE", l.path+"/access/"+gus.ID, nil).Want(204)
	ingest()
	stack.Eventually(t, "and again that of the owner before", func() bool { return fired(annas) == 1 })
	require.Equal(t, 1, fired(guss), "who was removed hears of nothing")
	require.Equal(t, []any{true, true}, []any{gus.Get("/habits/" + habit).Want(200).Value("isActive"), gus.Get("/reflexes/" + guss).Want(200).Value("isActive")},
		"what is a person's own stays as it is")
}

// A long log is read page by page by its index.
func TestALongActivityLogIsPaged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec(`insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
		select $1, $2, (array['view', 'view', 'chat'])[1 + n % 3], $3, 'Anna', 'anna@example.nl', 'did ' || n, now() - n * interval '1 minute' from generate_series(1, 21000) n`,
		l.anna.OrgID, l.project, l.anna.ID)
	type page struct {
		client.Page[struct{ ID, Timestamp string }]
		PageSize int
	}
	first := client.JSON[page](l.anna.Get(l.path + "/activity?type=chat&range=all").Want(200))
	require.Equal(t, []int{20, 20, 7000}, []int{len(first.Data), first.PageSize, first.Total})
	final := client.JSON[page](l.anna.Get(l.path + "/activity?type=chat&range=all&page=70&pageSize=100").Want(200))
	require.Equal(t, []any{100, false}, []any{len(final.Data), final.HasMore})
	week := client.JSON[page](l.anna.Get(l.path + "/activity?type=chat").Want(200))
	require.InDelta(t, 3360, week.Total, 1)
	newest, err := time.Parse(time.RFC3339, first.Data[0].Timestamp)
	require.NoError(t, err)
	oldest, err := time.Parse(time.RFC3339, final.Data[99].Timestamp)
	require.NoError(t, err)
	require.True(t, oldest.Before(newest))
	for query, field := range map[string]string{"pageSize=101": "pageSize", "page=0": "page", "type=gossip": "type", "range=1d": "range"} {
		l.anna.Get(l.path+"/activity?"+query).Problem(400, "VALIDATION_ERROR").Field(field)
	}
}
