package integrations

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

type fields = map[string]any

// Anna never verified her address and forgot her password. The link of the reset claims her account, since the server cannot tell her from
// a stranger who registered it. With what each screen offers she gets all of it back, as it was.
func TestARightfulOwnerSwitchesEverythingOnAgain(t *testing.T) {
	t.Parallel()
	d, x := newDouble(t), newReceiver(t)
	o := newOffice(t, d.options)
	o.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", o.anna.OrgID)
	gus := o.SignUp("Gus")
	o.DB.Exec("update public.users set email_verified_at = now() where id = $1", gus.ID)

	hook := o.webhook(x, "context.created")
	worker.Start(t, o.Stack)
	const secret = "a-header-that-is-a-secret"
	connector := o.anna.Do("POST", "/integrations/connectors", fields{"name": "Tools", "remoteMcpServerUrl": serve(t, guarded("X-Secret", secret, streamable(true))),
		"config": fields{"customHeaders": fields{"X-Secret": secret}}}).Want(201)
	require.Equal(t, "active", connector.String("status"))
	o.connect(t, o.anna, d, "gitlab", fields{"config": fields{"repositories": []string{"a/b"}}})
	skill := o.anna.Do("POST", "/skills", fields{"name": "News", "promptTemplate": "Tell me what is new."}).Want(201).String("id")
	habit := o.anna.Do("POST", "/habits", fields{"skillId": skill, "scheduleCron": "0 9 * * *"}).Want(201).String("id")
	reflex := o.anna.Do("POST", "/reflexes", fields{"skillId": skill, "triggerType": "webhook", "triggerConfig": fields{}}).Want(201)
	project := o.anna.Do("POST", "/projects", fields{"name": "Billing"}).Want(201).String("project.id")
	x.next()
	o.anna.Do("PATCH", "/projects/"+project+"/settings", fields{"chunkingStrategy": "custom", "webhookUrl": "https://chunks.example.nl/in"}).Want(200)
	o.DB.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values ($1, $2, $3, $4, 'manager', now())`,
		o.anna.OrgID, project, gus.ID, gus.Email)
	gus.Get("/projects/" + project).Want(200)

	const token = "0123456789abcdef0123456789abcdef-link-token"
	o.DB.Exec(`insert into private.account_tokens (id, user_id, purpose, email, token_hash, created_at, expires_at)
		values (gen_random_uuid(), $1, 'reset_password', $2, private.token_hash($3), now(), now() + interval '1 hour')`, o.anna.ID, o.anna.Email, token)
	o.Do("POST", "/auth/reset-password", fields{"token": token, "password": "Correct-Horse-9"}).Want(204)
	o.anna.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	o.ben.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	gus.Get("/projects/"+project).Problem(404, "PROJECT_NOT_FOUND")
	eventually(t, func() bool { return len(d.revocations()) > 0 }, "GitLab is told")
	o.anna.Client = o.As(o.Do("POST", "/auth/login", fields{"email": o.anna.Email, "password": "Correct-Horse-9"}).Want(200).Tokens().AccessToken)

	status := func() []string {
		hooks := client.JSON[[]struct{ Status string }](o.anna.Get("/integrations/webhooks").Want(200))
		connectors := client.JSON[[]struct{ Status string }](o.anna.Get("/integrations/connectors").Want(200))
		return []string{hooks[0].Status, connectors[0].Status, of(o.anna, "gitlab").Status}
	}
	require.Equal(t, []string{"paused", "inactive", "expired"}, status())
	require.Equal(t, false, o.anna.Get("/habits/"+habit).Want(200).Value("isActive"))
	require.Equal(t, false, o.anna.Get("/reflexes/"+reflex.String("id")).Want(200).Value("isActive"))
	quiet := x.count()
	o.anna.Do("POST", "/projects", fields{"name": "Not told"}).Want(201)
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from public.webhook_deliveries where status = 'pending'"))

	// The team.
	for _, m := range client.JSON[[]struct{ ID, Status string }](o.anna.Get("/team/members").Want(200)) {
		if m.Status == "inactive" {
			o.anna.Do("POST", "/team/members/"+m.ID+"/reactivate", nil).Want(200)
		}
	}
	ben := o.As(o.Do("POST", "/auth/login", fields{"email": o.ben.Email, "password": o.ben.Password}).Want(200).Tokens().AccessToken)
	ben.Do("POST", "/auth/switch-org", fields{"org_id": o.anna.OrgID}).Want(200)
	member := testdb.Value[string](o.DB, "select id::text from public.project_members where project_id = $1 and email = $2 and accepted_at is null", project, gus.Email)
	o.anna.Do("POST", "/projects/"+project+"/invitations/"+member+"/resend", nil).Want(200)
	link := testdb.Value[string](o.DB, "select substring(body_text from 'token=([A-Za-z0-9_-]{43})') from private.mails where to_address = $1 and kind = 'project_invitation'", gus.Email)
	require.Equal(t, "manager", gus.Do("POST", "/project-invitations/"+link+"/accept", nil).Want(200).String("role"))
	gus.Get("/projects/" + project).Want(200)

	// Connections: the webhook and the connector with the secrets that they had.
	o.anna.Do("PATCH", "/integrations/webhooks/"+hook, fields{"status": "active"}).Want(200)
	o.anna.Do("PATCH", "/integrations/connectors/"+connector.String("id"), fields{"name": "Tools"}).Want(200)
	code, state := o.begin(o.anna, d, "gitlab/reconnect", nil)
	require.Equal(t, "connected", o.back(t, url.Values{"code": {code}, "state": {state}}).Get("status"))
	require.Equal(t, []string{"active", "active", "active"}, status())
	require.Equal(t, "a/b", testdb.Value[string](o.DB, "select config -> 'repositories' ->> 0 from public.integrations where provider = 'gitlab'"))
	o.anna.Do("PATCH", "/projects/"+project+"/settings", fields{"chunkingStrategy": "custom"}).Want(200)
	require.Equal(t, "https://chunks.example.nl/in", o.anna.Get("/projects/"+project+"/settings").Want(200).String("webhookUrl"))
	o.anna.Do("POST", "/projects", fields{"name": "Told"}).Want(201)
	require.Equal(t, "Told", x.next().Body.Data["name"])
	require.Equal(t, quiet+1, x.count())

	// What runs by itself. The reflex has another secret and its old address.
	require.Equal(t, true, o.anna.Do("PATCH", "/habits/"+habit, fields{"isActive": true}).Want(200).Value("isActive"))
	require.Equal(t, true, o.anna.Do("PATCH", "/reflexes/"+reflex.String("id"), fields{"isActive": true}).Want(200).Value("isActive"))
	again := o.anna.Do("POST", "/reflexes/"+reflex.String("id")+"/regenerate-secret", nil).Want(200)
	require.NotEqual(t, reflex.String("triggerConfig.secret"), again.String("secret"))
}
