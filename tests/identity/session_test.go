package identity

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func refresh(s *stack.Stack, token string) client.Response {
	return s.Do("POST", "/auth/refresh", client.Object{"refresh_token": token})
}

// later moves the first use of all tokens of a person into the past.
func later(s *stack.Stack, p *client.Person, seconds int) {
	s.DB.Exec(`update private.refresh_tokens set used_at = used_at - make_interval(secs => $2)
		where session_id in (select id from private.sessions where user_id = $1)`, p.ID, seconds)
}

func TestRefresh(t *testing.T) {
	s := stack.New(t)
	replica := stack.On(t, s.DB)

	t.Run("AnswersAFreshPairOfTheSameSession", func(t *testing.T) {
		ann := s.SignUp("Ann")
		answer := refresh(s, ann.RefreshToken).Want(200)
		fresh := answer.Tokens()
		require.NotEqual(t, ann.RefreshToken, fresh.RefreshToken)
		require.NotEqual(t, ann.Token, fresh.AccessToken)
		require.NotNil(t, answer.Cookie("kijko_session"))
		require.Equal(t, ann.ID, s.As(fresh.AccessToken).Get("/auth/me").Want(200).String("id"))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1", ann.ID))
	})
	t.Run("ParallelOnesWithOneTokenAllSucceed", func(t *testing.T) {
		ann := s.SignUp("Ann")
		var mu sync.Mutex
		var pairs []client.Tokens
		parallel(t, 20, func(n int) error {
			r, err := ann.At([]string{s.BaseURL, replica.BaseURL}[n%2]).As("").Try("POST", "/auth/refresh", client.Object{"refresh_token": ann.RefreshToken})
			if err != nil || r.Status != 200 {
				return fmt.Errorf("%d %s: %w", r.Status, r.Body, err)
			}
			mu.Lock()
			defer mu.Unlock()
			pairs = append(pairs, r.Tokens())
			return nil
		})
		seen := map[string]bool{}
		for _, pair := range pairs {
			seen[pair.RefreshToken] = true
			s.As(pair.AccessToken).Get("/auth/me").Want(200)
		}
		require.Len(t, seen, 20)
		for _, pair := range pairs[:5] {
			refresh(s, pair.RefreshToken).Want(200)
		}
	})
	t.Run("UseWithinTheGraceIsNoTheft", func(t *testing.T) {
		ann := s.SignUp("Ann")
		refresh(s, ann.RefreshToken).Want(200)
		later(s, ann, 28)
		refresh(s, ann.RefreshToken).Want(200)
	})
	t.Run("UseAfterTheGraceEndsTheWholeSession", func(t *testing.T) {
		ann := s.SignUp("Ann")
		fresh := refresh(s, ann.RefreshToken).Want(200).Tokens()
		later(s, ann, 31)
		stolen := refresh(s, ann.RefreshToken).Problem(401, "INVALID_REFRESH_TOKEN")
		require.Negative(t, stolen.Cookie("kijko_session").MaxAge, "a refused refresh clears the cookie")
		s.As(fresh.AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
		refresh(s, fresh.RefreshToken).Problem(401, "INVALID_REFRESH_TOKEN")
		require.Equal(t, "refresh_reuse", testdb.Value[string](s.DB,
			"select string_agg(metadata ->> 'reason', ',') from public.audit_log where user_id = $1 and event_type = 'security.session_terminated'", ann.ID))
		require.Equal(t, 1, testdb.Value[int](s.DB, `select count(*) from (select data from private.event_inbox union all select data from public.events) e
			where data ->> 'kind' = 'session_revoked' and data ->> 'userId' = $1`, ann.ID), "its sockets close")
	})
	t.Run("EachTokenCountsItsOwnFirstUse", func(t *testing.T) {
		ann := s.SignUp("Ann")
		first := refresh(s, ann.RefreshToken).Want(200).Tokens()
		later(s, ann, 3600)
		refresh(s, first.RefreshToken).Want(200)
	})
	t.Run("GoodFor30Days", func(t *testing.T) {
		ann := s.SignUp("Ann")
		require.Equal(t, "30 days", testdb.Value[string](s.DB,
			"select (t.expires_at - t.issued_at)::text from private.refresh_tokens t join private.sessions s on s.id = t.session_id where s.user_id = $1", ann.ID))
		s.DB.Exec("update private.refresh_tokens set expires_at = now() where session_id in (select id from private.sessions where user_id = $1)", ann.ID)
		refresh(s, ann.RefreshToken).Problem(401, "INVALID_REFRESH_TOKEN")
	})
	t.Run("NeverBeyond90DaysFromSigningIn", func(t *testing.T) {
		ann := s.SignUp("Ann")
		require.Equal(t, "90 days", testdb.Value[string](s.DB, "select (expires_at - created_at)::text from private.sessions where user_id = $1", ann.ID))
		s.DB.Exec("update private.sessions set expires_at = now() + interval '10 days' where user_id = $1", ann.ID)
		answer := refresh(s, ann.RefreshToken).Want(200)
		require.InDelta(t, 10*24*3600, answer.Cookie("kijko_session").MaxAge, 60)
		require.True(t, testdb.Value[bool](s.DB, "select bool_or(t.expires_at = s.expires_at) from private.refresh_tokens t join private.sessions s on s.id = t.session_id where s.user_id = $1", ann.ID))
	})
	t.Run("UnknownTokensAreRefused", func(t *testing.T) {
		for _, token := range []string{"", "garbage", "00000000-0000-0000-0000-000000000000"} {
			refresh(s, token).Problem(401, "INVALID_REFRESH_TOKEN")
		}
		s.Do("POST", "/auth/refresh", nil).Problem(400, "VALIDATION_ERROR")
		s.Do("POST", "/auth/refresh", client.Object{"refresh_token": nil}).Problem(400, "VALIDATION_ERROR").Field("refresh_token")
	})
	t.Run("PersonRemovedFromAnOrganizationGoesOnInAnother", func(t *testing.T) {
		ann, bob := s.SignUp("Ann"), s.SignUp("Bob")
		join(s, bob, ann, "member")
		there := bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens()
		s.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", bob.ID, ann.OrgID)
		s.As(there.AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
		var mu sync.Mutex
		var last client.Tokens
		parallel(t, 5, func(int) error {
			r, err := s.Try("POST", "/auth/refresh", client.Object{"refresh_token": there.RefreshToken})
			if err != nil || r.Status != 200 {
				return fmt.Errorf("%d %s: %w", r.Status, r.Body, err)
			}
			mu.Lock()
			defer mu.Unlock()
			last = r.Tokens()
			return nil
		})
		require.Equal(t, bob.OrgID, s.As(last.AccessToken).Get("/auth/me").Want(200).String("org_id"))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1 and revoked_at is null", bob.ID))
		s.Do("POST", "/auth/logout", client.Object{"refresh_token": there.RefreshToken}).Want(204)
		s.As(last.AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("PersonRemovedFromTheLastOrganizationGetsAPersonalOne", func(t *testing.T) {
		ann, bob := s.SignUp("Ann"), s.SignUp("Bob")
		join(s, bob, ann, "member")
		there := bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens()
		s.DB.Exec("delete from public.organizations where id = $1", bob.OrgID)
		s.DB.Exec("delete from public.memberships where user_id = $1", bob.ID)
		fresh := refresh(s, there.RefreshToken).Want(200).Tokens()
		me := s.As(fresh.AccessToken).Get("/auth/me").Want(200)
		require.Equal(t, []any{"owner"}, me.Value("roles"))
		require.NotContains(t, []string{ann.OrgID, bob.OrgID}, me.String("org_id"))
	})
	t.Run("DeactivatedMemberIsToldSo", func(t *testing.T) {
		ann, bob := s.SignUp("Ann"), s.SignUp("Bob")
		join(s, bob, ann, "member")
		there := bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens()
		s.DB.Exec("delete from public.organizations where id = $1", bob.OrgID)
		s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1", bob.ID)
		refresh(s, there.RefreshToken).Problem(403, "MEMBERSHIP_INACTIVE")
	})
}

func TestRefreshRateOfOneSession(t *testing.T) {
	s := stack.New(t, stack.RealRates)
	ann := s.SignUp("Ann")
	token, refused := ann.RefreshToken, 0
	for n := range 34 {
		r := s.With("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", n+1)).Do("POST", "/auth/refresh", client.Object{"refresh_token": token})
		if r.Status == 429 {
			r.Problem(429, "RATE_LIMITED")
			require.Equal(t, "30", r.Header.Get("X-RateLimit-Limit"))
			require.NotEmpty(t, r.Header.Get("Retry-After"))
			require.Nil(t, r.Cookie("kijko_session"), "the session lives, so does its cookie")
			refused++
			continue
		}
		token = r.Want(200).Tokens().RefreshToken
	}
	require.NotZero(t, refused)
	ann.Get("/auth/me").Want(200)
}

func TestLogOut(t *testing.T) {
	s := stack.New(t)
	t.Run("EndsTheSessionOfTheToken", func(t *testing.T) {
		ann := s.SignUp("Ann")
		answer := ann.Do("POST", "/auth/logout", nil).Want(204)
		require.Negative(t, answer.Cookie("kijko_session").MaxAge)
		ann.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		refresh(s, ann.RefreshToken).Problem(401, "INVALID_REFRESH_TOKEN")
		ann.Do("POST", "/auth/logout", nil).Want(204)
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'user.logout'", ann.ID))
	})
	t.Run("EndsTheSessionOfTheRefreshToken", func(t *testing.T) {
		ann := s.SignUp("Ann")
		s.Do("POST", "/auth/logout", client.Object{"refresh_token": ann.RefreshToken}).Want(204)
		ann.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("EndsBoth", func(t *testing.T) {
		ann := s.SignUp("Ann")
		other := s.Do("POST", "/auth/login", client.Object{"email": ann.Email, "password": ann.Password}).Want(200).Tokens()
		ann.Do("POST", "/auth/logout", client.Object{"refresh_token": other.RefreshToken}).Want(204)
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1 and revoked_at is null", ann.ID))
	})
	t.Run("LeavesOtherSessionsAlone", func(t *testing.T) {
		ann := s.SignUp("Ann")
		other := s.Do("POST", "/auth/login", client.Object{"email": ann.Email, "password": ann.Password}).Want(200).Tokens()
		ann.Do("POST", "/auth/logout", nil).Want(204)
		s.As(other.AccessToken).Get("/auth/me").Want(200)
	})
	t.Run("NothingToEndIsNoError", func(t *testing.T) {
		s.Do("POST", "/auth/logout", nil).Want(204)
		s.As("garbage").Do("POST", "/auth/logout", nil).Want(204)
		s.With("Authorization", "Basic YTpi").Do("POST", "/auth/logout", client.Object{"refresh_token": "garbage"}).Want(204)
	})
}

func TestLockOut(t *testing.T) {
	s := stack.New(t)
	replica := stack.On(t, s.DB)
	login := func(server *stack.Stack, email, password string) client.Response {
		return server.Do("POST", "/auth/login", client.Object{"email": email, "password": password})
	}

	t.Run("TenFailuresOverTwoServersLockTheAddress", func(t *testing.T) {
		ann := s.SignUp("Ann")
		for n := range 10 {
			login([]*stack.Stack{s, replica}[n%2], ann.Email, "wrong").Problem(401, "INVALID_CREDENTIALS")
		}
		locked := login(s, ann.Email, "wrong").Problem(429, "ACCOUNT_LOCKED")
		require.NotEmpty(t, locked.Header.Get("Retry-After"))
		login(replica, ann.Email, ann.Password).Problem(429, "ACCOUNT_LOCKED")
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.login_history where user_id = $1 and reason = 'Account locked'", ann.ID))
		require.Equal(t, 11, testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'security.login_failed'", ann.ID))

		s.DB.Exec("update private.login_failures set locked_until = now()")
		login(s, ann.Email, ann.Password).Want(200)
	})
	t.Run("UnknownAddressesLockTheSameWay", func(t *testing.T) {
		for range 10 {
			login(s, "ghost@example.nl", "wrong").Problem(401, "INVALID_CREDENTIALS")
		}
		login(s, "Ghost@Example.nl ", "wrong").Problem(429, "ACCOUNT_LOCKED")
	})
	t.Run("OldFailuresDoNotCount", func(t *testing.T) {
		bob := s.SignUp("Bob")
		for range 9 {
			login(s, bob.Email, "wrong").Problem(401, "INVALID_CREDENTIALS")
		}
		s.DB.Exec("update private.login_failures set failed_at = array(select t - interval '16 minutes' from unnest(failed_at) t)")
		login(s, bob.Email, "wrong").Problem(401, "INVALID_CREDENTIALS")
		login(s, bob.Email, bob.Password).Want(200)
	})
	t.Run("SimultaneousGuessesCountEach", func(t *testing.T) {
		eve := s.SignUp("Eve")
		var mu sync.Mutex
		codes := map[int]int{}
		parallel(t, 30, func(n int) error {
			r, err := eve.At([]string{s.BaseURL, replica.BaseURL}[n%2]).As("").Try("POST", "/auth/login", client.Object{"email": eve.Email, "password": "wrong"})
			mu.Lock()
			defer mu.Unlock()
			codes[r.Status]++
			return err
		})
		require.Equal(t, map[int]int{401: 10, 429: 20}, codes)
	})
}

func TestLastActivity(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	s.DB.Exec("update private.sessions set last_active_at = now() - interval '1 hour'")
	s.DB.Exec("update public.memberships set last_active_at = null")
	ann.Get("/auth/me").Want(200)
	s.Close() // pending uses are written before the server ends
	require.True(t, testdb.Value[bool](s.DB, "select last_active_at > now() - interval '1 minute' from private.sessions where user_id = $1", ann.ID))
	require.True(t, testdb.Value[bool](s.DB, "select last_active_at > now() - interval '1 minute' from public.memberships where user_id = $1", ann.ID))
}

func TestIdempotencyKeyOfPublicRoutes(t *testing.T) {
	s := stack.New(t)
	replica := stack.On(t, s.DB)

	t.Run("FiftySimultaneousSignUpsHaveOneEffectAndOneAnswer", func(t *testing.T) {
		var mu sync.Mutex
		answers := map[string]int{}
		parallel(t, 50, func(n int) error {
			c := s.At([]string{s.BaseURL, replica.BaseURL}[n%2]).With("Idempotency-Key", "crowd")
			r, err := c.Try("POST", "/auth/signup", account("email", "crowd@example.nl"))
			mu.Lock()
			defer mu.Unlock()
			answers[fmt.Sprint(r.Status, string(r.Body))]++
			return err
		})
		require.Len(t, answers, 1, "%v", answers)
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.sessions"))
	})
	t.Run("TokensOfTheStoredAnswerWork", func(t *testing.T) {
		keyed := s.With("Idempotency-Key", "one")
		first := keyed.Do("POST", "/auth/signup", account()).Want(201)
		again := keyed.Do("POST", "/auth/signup", account()).Want(201)
		require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
		require.NotNil(t, again.Cookie("kijko_session"))
		require.Equal(t, first.Tokens(), again.Tokens())
		s.As(again.Tokens().AccessToken).Get("/auth/me").Want(200)
		refresh(s, again.Tokens().RefreshToken).Want(200)
	})
	t.Run("AnotherBodyIsAConflict", func(t *testing.T) {
		s.With("Idempotency-Key", "one").Do("POST", "/auth/signup", account("last_name", "Bos")).Problem(409, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("ARefusedRequestLeavesNoKey", func(t *testing.T) {
		keyed := s.With("Idempotency-Key", "login")
		keyed.Do("POST", "/auth/login", client.Object{"email": "ann@example.nl", "password": "wrong"}).Problem(401, "INVALID_CREDENTIALS")
		keyed.Do("POST", "/auth/login", client.Object{"email": "ann@example.nl", "password": "Correct-Horse-7"}).Want(200)
	})
	t.Run("RefreshOnceIsOnePair", func(t *testing.T) {
		bob := s.SignUp("Bob")
		keyed := s.With("Idempotency-Key", "refresh")
		first := keyed.Do("POST", "/auth/refresh", client.Object{"refresh_token": bob.RefreshToken}).Want(200)
		later(s, bob, 60)
		again := keyed.Do("POST", "/auth/refresh", client.Object{"refresh_token": bob.RefreshToken}).Want(200)
		require.Equal(t, first.Tokens(), again.Tokens(), "a repeated request is no stolen token")
	})
	t.Run("SwitchOnceIsOnePair", func(t *testing.T) {
		ann, bob := s.SignUp("Ann"), s.SignUp("Bob")
		join(s, bob, ann, "member")
		keyed := bob.With("Idempotency-Key", "refresh")
		first := keyed.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200)
		again := keyed.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200)
		require.Equal(t, first.Tokens(), again.Tokens())
		bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Problem(401, "SESSION_REVOKED")
	})
	t.Run("AProcessThatDiedBeforeAnsweringLosesNothing", func(t *testing.T) {
		keyed := s.With("Idempotency-Key", "crash")
		body := account("email", "crash@example.nl")
		first := keyed.Do("POST", "/auth/signup", body).Want(201)
		s.DB.Exec("update private.sealed_answers set sealed = null")
		again := keyed.Do("POST", "/auth/signup", body).Want(201)
		require.Equal(t, first.Tokens().RefreshToken, again.Tokens().RefreshToken)
		s.As(again.Tokens().AccessToken).Get("/auth/me").Want(200)
	})
	t.Run("NoSecretIsStored", func(t *testing.T) {
		stored := testdb.Value[string](s.DB, "select string_agg(a::text || encode(coalesce(sealed, ''), 'escape'), ' ') from private.sealed_answers a")
		require.NotContains(t, stored, "Correct-Horse")
		require.NotContains(t, stored, "access_token")
	})
	t.Run("AKeyTooLongIsInvalid", func(t *testing.T) {
		s.With("Idempotency-Key", fmt.Sprintf("%0256d", 1)).Do("POST", "/auth/signup", account("email", "k@example.nl")).
			Problem(400, "VALIDATION_ERROR").Field("Idempotency-Key")
	})
	t.Run("ItIsForgottenAfterADay", func(t *testing.T) {
		s.DB.Exec("update private.sealed_answers set created_at = now() - interval '25 hours'")
		s.With("Idempotency-Key", "one").Do("POST", "/auth/signup", account()).Problem(409, "EMAIL_TAKEN")
		s.DB.Exec("select private.end_old(r, now(), 1000) from private.retention_rules r where r.name = 'sealed_answers'")
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.sealed_answers"))
	})
}
