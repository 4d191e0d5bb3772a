package security

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

type object = map[string]any

// enterprise gives a person's organization the plan that opens policies.
func enterprise(s *stack.Stack, p *client.Person) {
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", p.OrgID)
}

// join makes p a member of owner's organization. p acts there from the next sign-in on.
func join(s *stack.Stack, p, owner *client.Person, role string) {
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, $3)", owner.OrgID, p.ID, role)
	s.DB.Exec("update public.users set default_organization_id = $1 where id = $2", owner.OrgID, p.ID)
	tokens := login(s, p).Want(200).Tokens()
	p.Client, p.RefreshToken, p.OrgID = s.As(tokens.AccessToken), tokens.RefreshToken, owner.OrgID
}

// login is a sign-in by password, with further members of the body.
func login(s *stack.Stack, p *client.Person, more ...object) client.Response {
	body := object{"email": p.Email, "password": p.Password}
	for _, m := range more {
		for name, value := range m {
			body[name] = value
		}
	}
	return s.As("").Do("POST", "/auth/login", body)
}

// app is an authenticator app, made with the library's own generator and not with the code under test.
type app struct {
	t      testing.TB
	s      *stack.Stack
	p      *client.Person
	secret string
	backup []string
}

// code is the app's present code. It forgets an earlier use of the code first, since tests do not wait for the next one.
func (a *app) code() string {
	a.s.DB.Exec("update private.second_factors set last_step = 0 where user_id = $1", a.p.ID)
	return a.same()
}

// same is the present code, used or not.
func (a *app) same() string { return a.at(time.Now()) }

func (a *app) at(moment time.Time) string {
	code, err := totp.GenerateCode(a.secret, moment)
	require.NoError(a.t, err)
	return code
}

// wrong is a code that belongs to none of the steps around now.
func (a *app) wrong() string {
	near := map[string]bool{}
	for step := -2; step <= 2; step++ {
		near[a.at(time.Now().Add(time.Duration(step)*30*time.Second))] = true
	}
	for _, code := range []string{"000000", "111111", "222222", "333333", "444444", "555555"} {
		if !near[code] {
			return code
		}
	}
	a.t.Fatal("all of them near")
	return ""
}

type verified struct {
	Valid       bool
	BackupCodes []struct {
		Code   string
		IsUsed bool
	}
	Status struct {
		IsEnabled            bool
		EnabledAt            string
		BackupCodesRemaining int
	}
}

// enroll sets a second factor up.
func enroll(t testing.TB, s *stack.Stack, p *client.Person) *app {
	t.Helper()
	a := &app{t: t, s: s, p: p, secret: p.Do("POST", "/security/2fa/setup", nil).Want(200).String("secret")}
	v := client.JSON[verified](p.Do("POST", "/security/2fa/verify", object{"code": a.same()}).Want(200))
	require.True(t, v.Valid)
	for _, code := range v.BackupCodes {
		a.backup = append(a.backup, code.Code)
	}
	return a
}

// challenge signs in up to the second factor.
func challenge(s *stack.Stack, p *client.Person) string {
	return login(s, p).Problem(401, "TWO_FACTOR_REQUIRED").String("details.two_factor_token")
}

func prove(s *stack.Stack, token, code string, more ...object) client.Response {
	body := object{"two_factor_token": token, "code": code}
	for _, m := range more {
		for name, value := range m {
			body[name] = value
		}
	}
	return s.As("").Do("POST", "/auth/2fa", body)
}

// history is the sign-in history of a person, oldest first: method status reason.
func history(s *stack.Stack, p *client.Person) []string {
	var all []string
	text := testdb.Value[string](s.DB, `select coalesce(jsonb_agg(concat_ws(' ', method, status, reason) order by created_at), '[]')::text
		from private.login_history where user_id = $1`, p.ID)
	_ = json.Unmarshal([]byte(text), &all)
	return all
}

func audited(s *stack.Stack, p *client.Person, event string) int {
	return testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = $2", p.ID, event)
}

// parallel runs f n times at once and gives the answers.
func parallel(t testing.TB, n int, f func(int) (client.Response, error)) []client.Response {
	t.Helper()
	answers, errs := make([]client.Response, n), make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}

func statuses(answers []client.Response) map[int]int {
	count := map[int]int{}
	for _, a := range answers {
		count[a.Status]++
	}
	return count
}

// Time limit and interval for polling an effect that follows an answer.
const (
	waited = 10 * time.Second
	tick   = 10 * time.Millisecond
)
