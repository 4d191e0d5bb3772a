package gdpr

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/app"
	"kijko/worker/gitfetch/gittest"
	"kijko/worker/llm/llmtest"
	"kijko/worker/mail/mailtest"
)

const patience = 20 * time.Second

type object = map[string]any

var confirmed = object{"confirm": "DELETE_ALL_MY_DATA"}

// socket opens a person's socket, and waits until it is open.
func socket(t *testing.T, p *client.Person, path string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(p.BaseURL, "http")+"/api/v1"+path+"?token="+p.Token, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, _, err = conn.ReadMessage()
	require.NoError(t, err)
	return conn
}

// closed reads to the end and returns the code of the close frame.
func closed(t *testing.T, conn *websocket.Conn) int {
	t.Helper()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			var end *websocket.CloseError
			require.ErrorAs(t, err, &end)
			return end.Code
		}
	}
}

func TestEverythingThatLetsThePersonInEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	other := stack.On(t, s.DB)
	anna := s.SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	key := anna.Do("POST", "/security/api-keys", object{"name": "Deploy", "scopes": []string{"read"}, "expiration": "never"}).Want(201).String("key")
	here, there := socket(t, anna, "/ws"), socket(t, &client.Person{Client: anna.At(other.BaseURL)}, "/ws")
	s.As(key).Get("/projects").Want(200)
	s.As(key).Do("POST", "/gdpr/delete", confirmed).Problem(403, "API_KEY_NOT_ALLOWED")

	r := anna.With("Idempotency-Key", "once").Do("POST", "/gdpr/delete", confirmed).Want(200)
	require.Equal(t, "completed", r.Value("tables.users.status"))
	require.Equal(t, -1, r.Cookie("kijko_session").MaxAge, "the cookie goes")
	anna.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	anna.With("Idempotency-Key", "once").Do("POST", "/gdpr/delete", confirmed).Problem(401, "SESSION_REVOKED")
	s.As(key).Get("/projects").Problem(401, "API_KEY_INVALID")
	s.As("").Do("POST", "/auth/refresh", object{"refresh_token": anna.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
	require.Equal(t, 4010, closed(t, here))
	require.Equal(t, 4010, closed(t, there), "on every server")

	again := s.As("").Do("POST", "/auth/signup", object{"email": anna.Email, "password": anna.Password, "first_name": "Anna", "last_name": "Test"}).Want(201)
	require.NotEqual(t, anna.ID, s.As(again.Tokens().AccessToken).Get("/auth/me").Want(200).String("id"), "the address begins as a new person")
}

func TestASecondFactorConfirmsTheErasure(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	secret := anna.Do("POST", "/security/2fa/setup", nil).Want(200).String("secret")
	code := func() string {
		c, err := totp.GenerateCode(secret, time.Now())
		require.NoError(t, err)
		return c
	}
	anna.Do("POST", "/security/2fa/verify", object{"code": code()}).Want(200)
	for _, body := range []object{confirmed, {"confirm": "DELETE_ALL_MY_DATA", "code": "12"}, {"confirm": "DELETE_ALL_MY_DATA", "code": "A1B2-C3D4-E5F6"}, {"confirm": "DELETE_ALL_MY_DATA", "code": code()}} {
		anna.Do("POST", "/gdpr/delete", body).Problem(400, "INVALID_CODE").Field("code")
	}
	anna.Do("POST", "/gdpr/delete", object{"confirm": "yes", "code": code()}).Problem(400, "CONFIRMATION_REQUIRED").Field("confirm")
	s.DB.Exec("update private.second_factors set last_step = 0 where user_id = $1", anna.ID)
	anna.Do("POST", "/gdpr/delete", object{"confirm": "DELETE_ALL_MY_DATA", "code": code()}).Want(200)
}

// Anna owns an organization with Ben in it; Stan is a stranger.
func TestAnOwnerOfOthersHandsOverFirst(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben, stan := s.SignUp("Anna"), s.SignUp("Ben"), s.SignUp("Stan")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise'")
	s.Join(anna, ben, "admin")
	r := anna.Do("POST", "/gdpr/delete", confirmed).Problem(409, "OWNERSHIP_TRANSFER_REQUIRED")
	require.Equal(t, []any{object{"id": anna.OrgID, "name": testdb.Value[string](s.DB, "select name from public.organizations where id = $1", anna.OrgID)}}, r.Value("details.organizations"))
	project := projects.Create(t, anna, "Billing")

	member := testdb.Value[string](s.DB, "select id::text from public.memberships where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	anna.Do("PATCH", "/team/members/"+member, object{"role": "owner"}).Want(200)
	anna.Do("POST", "/gdpr/delete", confirmed).Want(200)
	require.Equal(t, ben.ID, ben.Get(project).Want(200).String("userId"), "the content stays, with the new owner")
	log := ben.Get("/audit-log?limit=100").Want(200)
	require.NotContains(t, string(log.Body), anna.Email)
	require.NotContains(t, string(log.Body), anna.ID)
	require.NotContains(t, string(log.Body), "Anna Test")
	require.Contains(t, string(log.Body), "Deleted user")
	stan.Get("/auth/me").Want(200)
}

// provider is an identity provider, and Stripe, that fail a few times. They stand for outside systems.
type provider struct {
	mu       sync.Mutex
	failures int
	deleted  []string
}

func (*provider) Issuer() string                                        { return "https://id.example/realms/kijko" }
func (*provider) EndSession(context.Context, string) error              { return nil }
func (*provider) SetOrganization(context.Context, string, string) error { return nil }

func (p *provider) DeleteUser(_ context.Context, subject string) error {
	return p.end("user " + subject)
}
func (p *provider) CancelSubscription(_ context.Context, id string) error {
	return p.end("subscription " + id)
}
func (p *provider) DeleteCustomer(_ context.Context, id string) error { return p.end("customer " + id) }

func (p *provider) end(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures > 0 {
		p.failures--
		return errors.New("not now")
	}
	p.deleted = append(p.deleted, what)
	return nil
}

func (p *provider) done() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.deleted...)
}

// The steps outside are jobs of the transaction: a provider that fails is asked again, and by another worker after this one has stopped.
func TestTheStepsOutsideAreFinishedByJobs(t *testing.T) {
	t.Parallel()
	mails := mailtest.New(t, mailtest.Options{})
	s := stack.New(t, stack.MailsVia(mails))
	stack.Eventually(t, "the server says that it can send mail", func() bool {
		return testdb.Value[bool](s.DB, "select private.has_mail()")
	})
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	s.DB.Exec("insert into private.identities (issuer, subject, user_id) values ('https://id.example/realms/kijko', 'sub-1', $1), ('https://id.example/realms/kijko', 'sub-2', $2)", anna.ID, ben.ID)
	s.DB.Exec("update public.subscriptions set plan_id = 'pro', billing_interval = 'monthly', stripe_subscription_id = 'sub_anna' where organization_id = $1", anna.OrgID)
	file := projects.Create(t, anna, "Billing")
	anna.Do("POST", file+"/text-sources", object{"title": "Notes", "content": "Hello."}).Want(201)
	anna.Do("POST", "/gdpr/delete", confirmed).Want(200)
	ben.Do("POST", "/gdpr/delete", confirmed).Want(200)
	// Ben has signed up again with the same account at the provider before the job came to it.
	carl := s.SignUp("Carl")
	s.DB.Exec("insert into private.identities (issuer, subject, user_id) values ('https://id.example/realms/kijko', 'sub-2', $1)", carl.ID)

	outside := &provider{failures: 2}
	work := func() (stop func()) {
		w, closeWorker, err := app.Assemble(t.Context(), s.Config.Config, slog.New(slog.DiscardHandler), func(c *app.Config) { c.Provider, c.Canceler = outside, outside })
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		return func() {
			cancel()
			<-done
			require.NoError(t, closeWorker())
		}
	}
	stop := work()
	failed := func() int {
		return testdb.Value[int](s.DB, "select count(*)::integer from jobs.stored_jobs where job_type like 'gdpr.%' and error_count > 0")
	}
	stack.Eventually(t, "two steps fail", func() bool { return failed() == 2 })
	stop()
	s.DB.Exec("update jobs.stored_jobs set run_at = now() where lease is null")
	stop = work()
	defer stop()
	stack.Eventually(t, "all steps are done", func() bool {
		return testdb.Value[bool](s.DB, "select not exists (select from jobs.stored_jobs where job_type like 'gdpr.%' or job_type in ('blobs.delete', 'mail.send'))")
	})
	require.ElementsMatch(t, []string{"user sub-1", "subscription sub_anna"}, outside.done(), "an account that is used again stays")
	told := 0
	for _, m := range mails.Mails() {
		if strings.Contains(string(m.Data), "Your account was deleted") {
			told++
		}
	}
	require.Equal(t, 2, told, "each address gets a confirmation")
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::integer from private.mails where to_address in ($1, $2)", anna.Email, ben.Email), "and is forgotten")
}

func TestOfTwoErasuresAtOnceOneReports(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	answers := client.AtOnce(t, 4, func(int) (client.Response, error) { return anna.Try("POST", "/gdpr/delete", confirmed) })
	reports := 0
	for _, r := range answers {
		if r.Status == 200 {
			reports++
		} else {
			r.Problem(401, "SESSION_REVOKED")
		}
	}
	require.Equal(t, 1, reports)
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::integer from private.erasures"))
}

// Ben accepts Anna's invitation while Anna goes. Either he is a member and Anna stays, or there is nothing left to join.
func TestAnInvitationThatIsAcceptedMeanwhile(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	for range 4 {
		anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
		s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
		token := strings.Repeat("t", 35) + anna.ID[:8]
		s.DB.Exec(`insert into public.team_invitations (organization_id, email, role, invited_by, token_hash, expires_at)
			values ($1, $2, 'member', $3, private.token_hash($4), now() + interval '7 days')`, anna.OrgID, ben.Email, anna.ID, token)
		answers := client.AtOnce(t, 2, func(i int) (client.Response, error) {
			if i == 0 {
				return anna.Try("POST", "/gdpr/delete", confirmed)
			}
			return ben.Try("POST", "/team/invitations/accept", object{"token": token})
		})
		left := testdb.Value[int](s.DB, "select count(*)::integer from public.memberships where organization_id = $1", anna.OrgID)
		if answers[0].Status == 200 {
			require.Zero(t, left)
			require.GreaterOrEqual(t, answers[1].Status, 400)
		} else {
			answers[0].Problem(409, "OWNERSHIP_TRANSFER_REQUIRED")
			require.Equal(t, 2, left)
		}
	}
}

// A skill that waits for its model, an ingestion that waits for its Git host, and a socket: all of them end, and what they write late finds no
// row.
func TestWorkThatRunsMeanwhileEndsAndBringsNothingBack(t *testing.T) {
	t.Parallel()
	models, git := llmtest.New(t), gittest.New(t)
	git.Create(t, "acme/app", gittest.On("main", gittest.Texts(map[string]string{"main.go": "package main\n"})))
	s := stack.New(t, stack.Models(models), func(c *config.Config) { c.GitHub, c.GitAllowPrivate = git.URL, true })
	stack.Eventually(t, "the server says what it offers", func() bool {
		return testdb.Value[bool](s.DB, "select coalesce((select value ? 'anthropic' from private.installation where key = 'providers'), false)")
	})
	anna := s.SignUp("Anna")
	worker.Start(t, s)
	var release atomic.Bool
	models.Always(func(llmtest.Call) llmtest.Reply {
		if release.Load() {
			return llmtest.Answer("late")
		}
		return llmtest.Silence()
	})
	hold := make(chan struct{})
	git.Set("acme/app", gittest.Mood{Hold: hold})
	project := projects.Create(t, anna, "Billing")
	anna.Do("POST", project+"/repositories", object{"provider": "github", "repositoryUrl": "https://github.com/acme/app"}).Want(201)
	anna.Do("POST", project+"/ingest", object{}).Want(202)
	skill := testdb.Value[string](s.DB, "insert into public.skills (user_id, organization_id, name, prompt_template) values ($1, $2, 'Writer', 'Write something nice about trees') returning id::text", anna.ID, anna.OrgID)
	anna.With("Prefer", "respond-async").Do("POST", "/skills/"+skill+"/execute", object{"input": object{}}).Want(202)
	conn := socket(t, anna, "/ws")
	stack.Eventually(t, "the model and the Git host are asked", func() bool {
		now, _ := models.InFlight()
		return now == 1 && git.Holding() > 0
	})

	anna.Do("POST", "/gdpr/delete", confirmed).Want(200)
	require.Equal(t, 4010, closed(t, conn))
	release.Store(true)
	close(hold)
	stack.Eventually(t, "the call of the model ends", func() bool {
		now, _ := models.InFlight()
		return now == 0
	})
	// Another run goes through all of the same worker after it.
	boris := s.SignUp("Boris")
	models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("fine") })
	git.Set("acme/app", gittest.Mood{})
	other := projects.Create(t, boris, "Billing")
	boris.Do("POST", other+"/repositories", object{"provider": "github", "repositoryUrl": "https://github.com/acme/app"}).Want(201)
	boris.Do("POST", other+"/ingest", object{}).Want(202)
	stack.Eventually(t, "the next run completes", func() bool { return boris.Get(other).Want(200).String("status") == "active" })
	for c := range find(t, s.DB, columns(t, s.DB), anna.ID, anna.Email, anna.OrgID, strings.TrimPrefix(project, "/projects/"), skill) {
		// Jobs that clean up name what is gone.
		if c.rule != "kept" && c.table != "jobs.stored_jobs" && c.table != "jobs.unique_keys" && c.table != "public.events" && c.table != "private.event_rooms" {
			t.Errorf("something is back in %s.%s", c.table, c.name)
		}
	}
}
