package team

import (
	"net/url"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/mail"
)

var link = regexp.MustCompile(`http://kijko\.test/team-invitation\?token=([A-Za-z0-9_-]{43})`)

// mailsTo sends mail to a real mail server, with links to the screens of an application.
func mailsTo(server *peers.Mailpit) stack.Option {
	return func(c *config.Config) {
		c.SMTPHost, c.SMTPPort = server.SMTP()
		c.SMTPTLS, c.SMTPFrom = mail.None, "Kijko <mail@kijko.test>"
	}
}

// letter waits for a mail to an address and gives the token of its link.
func letter(t *testing.T, server *peers.Mailpit, to string) (mail peers.Mail, token string) {
	t.Helper()
	require.Eventually(t, func() bool {
		all := server.Mails(t)
		i := slices.IndexFunc(all, func(m peers.Mail) bool { return m.To[0].Address == to })
		if i >= 0 {
			mail = all[i]
		}
		return i >= 0
	}, 30*time.Second, 20*time.Millisecond, "waiting for a mail to %s", to)
	found := link.FindStringSubmatch(mail.Text)
	require.NotNil(t, found, mail.Text)
	return mail, found[1]
}

// Ben gets a mail, signs up through its link, is a member, and runs the team's skill.
func TestAnInvitedColleagueComesFromTheMailToTheFirstRun(t *testing.T) {
	t.Parallel()
	server := peers.NewMailpit(t)
	f := newFirm(t, mailsTo(server), withModel)
	f.modelIsThere()
	require.Eventually(t, func() bool {
		return testdb.Value[int](f.DB, "select count(*)::integer from private.installation where key in ('mail', 'app_url')") == 2
	}, 10*time.Second, 10*time.Millisecond, "the server says that there is mail, and where people reach it")
	worker.Start(t, f.Stack)
	skill := f.anna.Do("POST", "/skills", map[string]any{"name": "Release notes", "promptTemplate": "Write release notes for {{product}}, please"}).Want(201).String("id")
	f.anna.Do("POST", "/skills/"+skill+"/publish", nil).Want(200)
	live := f.connect(f.anna.Token)

	f.anna.Do("PATCH", "/team", map[string]any{"name": "Vos & Co"}).Want(200)
	made := client.JSON[[]invitation](f.anna.Do("POST", "/team/invitations", map[string]any{"emails": []string{" Ben@Vos.nl "}, "role": "member", "message": "Welcome <b>Ben</b>,\nsee you."}).Want(201))
	require.Len(t, made, 1)
	live.until(changed("invitation", "created"))
	got, token := letter(t, server, "ben@vos.nl")
	require.Equal(t, made[0].Token, token)
	require.Equal(t, "Invitation to join Vos & Co", got.Subject)
	require.Contains(t, got.Text, "Anna Test ("+f.anna.Email+") invites you to join Vos & Co at Kijko as member.")
	require.Contains(t, got.Text, "Welcome <b>Ben</b>,")
	require.Contains(t, got.HTML, "Welcome &lt;b&gt;Ben&lt;/b&gt;,<br>see you.")
	require.Eventually(t, func() bool {
		return testdb.Value[int](f.DB, "select count(*)::integer from private.mails where sent_at is not null and kind = 'team_invitation' and body_text || body_html !~ $1", token) == 1
	}, 10*time.Second, 10*time.Millisecond, "the outbox forgets the token of a mail that was sent")

	// The screen of the link shows the invitation before any sign-in.
	shown := f.As("").Get("/team/invitations/lookup?token=" + token).Want(200)
	require.Equal(t, "Vos & Co", shown.String("teamName"))
	require.Equal(t, "ben@vos.nl", shown.String("email"))
	require.Equal(t, "Anna Test", shown.String("invitedBy.name"))

	signUp := map[string]any{"email": "ben@vos.nl", "password": "Correct-Horse-7", "first_name": "Ben", "last_name": "Vos", "invitation_token": token}
	signUp["email"] = "stan@elsewhere.nl"
	f.As("").Do("POST", "/auth/signup", signUp).Problem(403, "INVITATION_EMAIL_MISMATCH").Field("invitation_token")
	signUp["email"] = "Ben@vos.nl"
	tokens := f.As("").Do("POST", "/auth/signup", signUp).Want(201).Tokens()
	ben := f.As(tokens.AccessToken)
	me := ben.Get("/auth/me").Want(200)
	require.Equal(t, f.anna.OrgID, me.String("org_id"))
	require.Equal(t, []any{"member"}, me.Value("roles"))
	require.Equal(t, "teams", me.String("plan"))
	require.Len(t, client.JSON[[]any](ben.Get("/auth/organizations").Want(200)), 1, "no organization of his own was made")
	live.until(changed("org_member", "created"))

	run := ben.Do("POST", "/skills/"+skill+"/execute", map[string]any{"inputs": map[string]any{"product": "Kijko"}})
	require.Contains(t, []int{200, 201, 202}, run.Status, "%s", run.Body)
	require.Eventually(t, func() bool {
		return testdb.Value[int](f.DB, "select count(*)::integer from public.skill_executions where organization_id = $1 and user_id = $2 and status = 'completed'", f.anna.OrgID, me.String("id")) == 1
	}, 20*time.Second, 10*time.Millisecond, "Ben's first run ends")
	require.Equal(t, 1, testdb.Value[int](f.DB, "select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))::integer", f.anna.OrgID), "and the team pays for it")

	f.As("").Get("/team/invitations/lookup?token="+token).Problem(409, "INVITATION_EXPIRED")
	require.Equal(t, stats{2, 2, 0, 10, 8}, client.JSON[overview](ben.Get("/team").Want(200)).Stats)
}

// Ben has an account: he is notified in the client, accepts, and continues in the team with the same session.
func TestWhoHasAnAccountAcceptsAndGoesOnInTheTeam(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	worker.Start(t, f.Stack)
	ben, stan := f.SignUp("Ben"), f.SignUp("Stan")
	home := ben.OrgID
	token := invite(f.anna.Client, "viewer", ben.Email)[0].Token
	require.Eventually(t, func() bool {
		return ben.Get("/notifications").Want(200).Value("total") == 1.0
	}, 20*time.Second, 10*time.Millisecond, "Ben is told in the client")
	require.NotContains(t, string(ben.Get("/notifications").Body), token)

	accept := map[string]any{"token": token}
	f.As("").Do("POST", "/team/invitations/accept", accept).Problem(401, "UNAUTHENTICATED")
	stan.Do("POST", "/team/invitations/accept", accept).Problem(403, "INVITATION_EMAIL_MISMATCH").Field("token")
	for _, guess := range []string{"x", token + "x", token[1:], "%00"} {
		stan.Do("POST", "/team/invitations/accept", map[string]any{"token": guess}).Problem(404, "INVITATION_NOT_FOUND")
		f.As("").Get("/team/invitations/lookup?token="+url.QueryEscape(guess)).Problem(404, "INVITATION_NOT_FOUND")
	}
	f.As("").Get("/team/invitations/lookup").Problem(400, "VALIDATION_ERROR").Field("token")

	joined := client.JSON[member](ben.Do("POST", "/team/invitations/accept", accept).Want(200))
	require.Equal(t, member{ID: joined.ID, TeamID: f.anna.OrgID, UserID: ben.ID, Email: ben.Email, Name: "Ben Test", Role: "viewer", Status: "active", JoinedAt: joined.JoinedAt}, joined)
	ben.Do("POST", "/team/invitations/accept", accept).Problem(409, "INVITATION_EXPIRED")

	// The present token still names his own organization; the refreshed one names the team.
	require.Equal(t, home, ben.Get("/auth/me").Want(200).String("org_id"))
	// A browser with several open requests refreshes several times at once, and every pair is valid.
	var fresh client.Tokens
	refreshes := slices.Repeat([]call{{f.As(""), "POST", "/auth/refresh", map[string]any{"refresh_token": ben.RefreshToken}}}, 5)
	for _, r := range together(t, f.BaseURL, refreshes...) {
		fresh = r.Want(200).Tokens()
		require.Equal(t, f.anna.OrgID, ben.As(fresh.AccessToken).Get("/auth/me").Want(200).String("org_id"))
	}
	require.Equal(t, f.anna.OrgID, ben.As(signIn(ben).AccessToken).Get("/auth/me").Want(200).String("org_id"), "and so does a new sign-in")
	back := ben.As(fresh.AccessToken).Do("POST", "/auth/switch-org", map[string]any{"org_id": home}).Want(200).Tokens()
	require.Equal(t, home, ben.As(back.AccessToken).Get("/auth/me").Want(200).String("org_id"), "he can go back")
	there := ben.As(back.AccessToken).Do("POST", "/auth/switch-org", map[string]any{"org_id": f.anna.OrgID}).Want(200).Tokens()
	viewer := ben.As(there.AccessToken)
	require.Equal(t, []any{"viewer"}, viewer.Get("/auth/me").Value("roles"))
	require.Empty(t, client.JSON[overview](viewer.Get("/team").Want(200)).Invitations)
	viewer.Get("/team/invitations").Problem(403, "FORBIDDEN")
	viewer.Do("POST", "/team/invitations", map[string]any{"emails": []string{"x@y.nl"}, "role": "viewer"}).Problem(403, "FORBIDDEN")

	viewer.Do("POST", "/team/leave", nil).Want(204)
	viewer.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	after := f.As("").Do("POST", "/auth/refresh", map[string]any{"refresh_token": there.RefreshToken}).Want(200).Tokens()
	require.Equal(t, home, ben.As(after.AccessToken).Get("/auth/me").Want(200).String("org_id"), "his session goes on where he still is")
	f.anna.Do("POST", "/team/leave", nil).Problem(409, "OWNER_REQUIRED")
}

// Ada is an admin on two devices; Anna makes her a viewer. Both devices have the new role at the next request, both sockets without a
// request.
func TestADemotedAdminIsAViewerOnBothDevicesAtOnce(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	ada := f.hire("Ada", "admin")
	second := ada.As(signIn(ada).AccessToken)
	private := f.anna.Do("POST", "/projects", map[string]any{"name": "Payroll"}).Want(201).String("project.id")
	devices := []*client.Client{ada.Client, second}
	var sockets []*socket
	for _, device := range devices {
		device.Get("/projects/" + private).Want(200)
		device.Get("/team/invitations").Want(200)
		s := f.connect(device.Token)
		s.say(`{"action":"join","room":"project:` + private + `"}`)
		s.until(func(f frame) bool { return f.Type == "room_joined" })
		sockets = append(sockets, s)
	}

	f.anna.Do("PATCH", f.membership(ada), map[string]any{"role": "viewer"}).Want(200)
	for i, device := range devices {
		require.Equal(t, []any{"viewer"}, device.Get("/auth/me").Want(200).Value("roles"), "no new sign-in is asked for")
		device.Get("/team/invitations").Problem(403, "FORBIDDEN")
		device.Do("POST", "/team/invitations", map[string]any{"emails": []string{"x@y.nl"}, "role": "viewer"}).Problem(403, "FORBIDDEN")
		device.Get("/projects/"+private).Problem(404, "PROJECT_NOT_FOUND")
		got := sockets[i].until(func(f frame) bool {
			return f.Type == "room_left" || f.Type == "room_error" || f.Type == "removed" || f.Room == "project:"+private
		})
		require.Equal(t, "room_left", got.Type, "%v", got)
		sockets[i].say(`{"action":"join","room":"project:` + private + `"}`)
		refused := sockets[i].until(func(f frame) bool { return f.Type == "room_joined" || f.Type == "error" || f.Type == "room_error" })
		require.NotEqual(t, "room_joined", refused.Type)
	}

	// Deactivated, both devices are refused, sockets too.
	f.anna.Do("POST", f.membership(ada)+"/deactivate", nil).Want(200)
	for i, device := range devices {
		device.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		require.Equal(t, 4010, sockets[i].closed())
	}
}

// A habit of Ben's is due when he is removed: it does not run, and is not paid for. Another habit of the team runs.
func TestAHabitOfARemovedMemberDoesNotRun(t *testing.T) {
	t.Parallel()
	f := newFirm(t, withModel)
	f.modelIsThere()
	due := func(p *client.Person) string {
		skill := p.Do("POST", "/skills", map[string]any{"name": "Digest", "promptTemplate": "Summarize what happened today, please"}).Want(201).String("id")
		habit := p.Do("POST", "/habits", map[string]any{"skillId": skill, "scheduleCron": "0 9 * * *"}).Want(201).String("id")
		f.DB.Exec("update public.habits set next_run_at = now() - interval '1 minute' where id = $1", habit)
		return habit
	}
	ben, cas := f.hire("Ben", "member"), f.hire("Cas", "member")
	bens, cass, annas := due(ben), due(cas), due(f.anna)
	f.anna.Do("DELETE", f.membership(ben), nil).Want(204)
	f.anna.Do("POST", f.membership(cas)+"/deactivate", nil).Want(200)
	worker.Start(t, f.Stack)
	runs := func(habit string) int {
		return testdb.Value[int](f.DB, "select count(*)::integer from public.skill_executions where reference_id = $1", habit)
	}
	require.Eventually(t, func() bool {
		return runs(annas) == 1 && testdb.Holds(f.DB, "select next_run_at > now() from public.habits where id = $1", cass)
	}, 30*time.Second, 20*time.Millisecond, "what is due is dispatched, and what is paused is passed over")
	require.Equal(t, []int{0, 0, 1}, []int{runs(bens), runs(cass), runs(annas)})
	require.Equal(t, 1, testdb.Value[int](f.DB, "select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))::integer", f.anna.OrgID))
	require.False(t, testdb.Value[bool](f.DB, "select is_active from public.habits where id = $1", bens), "removed: switched off")
	require.True(t, testdb.Value[bool](f.DB, "select is_active from public.habits where id = $1", cass), "deactivated: paused")
}

// The team falls back to a smaller plan: it is too large, nothing in it can grow, and it can be made smaller.
func TestATeamOnASmallerPlanCanTidyUp(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	ada, ben, cas, dirk := f.hire("Ada", "admin"), f.hire("Ben", "member"), f.hire("Cas", "viewer"), f.hire("Dirk", "member")
	open := invite(ada.Client, "member", "late@vos.nl")[0]
	f.plan("teams", 3)
	require.Equal(t, stats{5, 5, 1, 3, -3}, f.overview(ada).Stats, "more are there than seats")
	ada.Do("POST", "/team/invitations", map[string]any{"emails": []string{"x@y.nl"}, "role": "viewer"}).Problem(429, "QUOTA_EXCEEDED")
	late := map[string]any{"email": "late@vos.nl", "password": "Correct-Horse-7", "first_name": "Late", "last_name": "Vos", "invitation_token": open.Token}
	full := f.As("").Do("POST", "/auth/signup", late).Problem(429, "QUOTA_EXCEEDED").Field("invitation_token")
	require.Equal(t, map[string]any{"metric": "seats"}, full.Value("details"), "an outsider is not told how large the team is")
	require.Empty(t, full.Header.Get("Retry-After"), "a seat does not come free by waiting")

	f.plan("free", 0)
	for _, closed := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/team", nil}, {"PATCH", "/team", map[string]any{"name": "x"}}, {"PUT", "/team", map[string]any{"name": "x"}}, {"GET", "/team/invitations", nil},
		{"POST", "/team/invitations", map[string]any{"emails": []string{"x@y.nl"}, "role": "viewer"}}, {"POST", "/team/invitations/" + open.ID + "/resend", nil},
		{"PATCH", f.membership(ben), map[string]any{"role": "viewer"}}, {"PUT", f.membership(ben), map[string]any{"status": "inactive"}}, {"POST", f.membership(ben) + "/reactivate", nil},
	} {
		refused := ada.Do(closed.method, closed.path, closed.body).Problem(403, "PLAN_UPGRADE_REQUIRED")
		require.Equal(t, "teams", refused.Value("details.requiredPlan"), refused.Request)
	}
	f.As("").Get("/team/invitations/lookup?token="+open.Token).Problem(403, "PLAN_UPGRADE_REQUIRED")
	require.Len(t, client.JSON[[]member](cas.Get("/team/members").Want(200)), 5)
	ada.Do("DELETE", "/team/invitations/"+open.ID, nil).Want(204)
	ada.Do("POST", f.membership(ben)+"/deactivate", nil).Want(200)
	ada.Do("DELETE", f.membership(dirk), nil).Want(204)
	cas.Do("POST", "/team/leave", nil).Want(204)
	var left []string
	for _, m := range client.JSON[[]member](ada.Get("/team/members").Want(200)) {
		left = append(left, m.Name+" "+m.Role+" "+m.Status)
	}
	require.Equal(t, []string{"Anna Test owner active", "Ada Test admin active", "Ben Test member inactive"}, left)
}

// A removed member is invited again, with a seat and rights as any newcomer.
func TestWhoWasRemovedCanBeInvitedAgain(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	ben := f.hire("Ben", "admin")
	former := f.membership(ben)
	project := ben.Do("POST", "/projects", map[string]any{"name": "Ben's"}).Want(201).String("project.id")
	f.anna.Do("DELETE", former, nil).Want(204)
	f.anna.Do("DELETE", former, nil).Problem(404, "NOT_FOUND")
	ben.Get("/projects").Problem(401, "SESSION_REVOKED")
	fresh := f.As("").Do("POST", "/auth/refresh", map[string]any{"refresh_token": ben.RefreshToken}).Want(200).Tokens()
	outside := ben.As(fresh.AccessToken)
	require.NotEqual(t, f.anna.OrgID, outside.Get("/auth/me").Want(200).String("org_id"))
	outside.Get("/projects/"+project).Problem(404, "PROJECT_NOT_FOUND")
	require.Equal(t, f.anna.ID, f.anna.Get("/projects/"+project).Want(200).String("userId"), "his project is the owner's now")

	again := invite(f.anna.Client, "viewer", ben.Email)[0]
	outside.Do("POST", "/team/invitations/accept", map[string]any{"token": again.Token}).Want(200)
	require.NotEqual(t, former, f.membership(ben))
	back := f.As("").Do("POST", "/auth/refresh", map[string]any{"refresh_token": fresh.RefreshToken}).Want(200).Tokens()
	me := ben.As(back.AccessToken).Get("/auth/me").Want(200)
	require.Equal(t, f.anna.OrgID, me.String("org_id"))
	require.Equal(t, []any{"viewer"}, me.Value("roles"), "as what he is invited for now")
	ben.As(back.AccessToken).Get("/projects/"+project).Problem(404, "PROJECT_NOT_FOUND")
	require.Equal(t, stats{2, 2, 0, 10, 8}, f.overview(f.anna).Stats)
}

// Under an Idempotency-Key the same call invites once, and its stored answer has no token.
func TestARepeatedInvitationIsSentOnceAndKeepsNoToken(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	body := map[string]any{"emails": []string{"ben@vos.nl"}, "role": "member"}
	first := client.JSON[[]invitation](f.anna.With("Idempotency-Key", "once").Do("POST", "/team/invitations", body).Want(201))
	replayed := f.anna.With("Idempotency-Key", "once").Do("POST", "/team/invitations", body).Want(201)
	require.Equal(t, "true", replayed.Header.Get("Idempotency-Replayed"))
	again := client.JSON[[]invitation](replayed)
	require.NotEmpty(t, first[0].Token)
	require.Empty(t, again[0].Token)
	first[0].Token = ""
	require.Equal(t, first, again)
	require.Equal(t, 0, testdb.Value[int](f.DB, "select count(*)::integer from private.idempotency_keys where response::text ~ '[A-Za-z0-9_-]{43}'"))
}
