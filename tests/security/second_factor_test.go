package security

import (
	"bytes"
	"encoding/base64"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestAnnaSetsUpASecondFactorAndSignsInWithIt(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	anna.Get("/security/2fa").Want(200).Equal(object{"isEnabled": false})
	anna.Get("/security/2fa/backup-codes").Want(200).Equal([]any{})
	anna.Do("POST", "/security/2fa/verify", object{"code": "123456"}).Problem(409, "TWO_FACTOR_NOT_PENDING")
	anna.Do("POST", "/security/2fa/backup-codes/regenerate", nil).Problem(409, "TWO_FACTOR_NOT_ENABLED")
	anna.Do("POST", "/security/2fa/disable", object{"password": anna.Password, "code": "123456"}).Problem(409, "TWO_FACTOR_NOT_ENABLED")

	// The picture is a real QR code, and a second set-up replaces the first.
	first := anna.Do("POST", "/security/2fa/setup", nil).Want(200)
	setup := anna.Do("POST", "/security/2fa/setup", nil).Want(200)
	require.NotEqual(t, first.String("secret"), setup.String("secret"))
	require.Equal(t, setup.String("secret"), strings.ReplaceAll(setup.String("manualEntryKey"), " ", ""))
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(setup.String("qrCodeUrl"), "data:image/png;base64,"))
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	require.GreaterOrEqual(t, picture.Bounds().Dx(), 200)
	stored := testdb.Value[string](s.DB, "select sealed_secret from private.second_factor_setups where user_id = $1", anna.ID)
	require.NotContains(t, stored, setup.String("secret"))

	// The first code switches the second factor on at once.
	a := &app{t: t, s: s, p: anna, secret: setup.String("secret")}
	anna.Do("POST", "/security/2fa/verify", object{"code": a.wrong()}).Want(200).Equal(object{"valid": false})
	for _, code := range []any{"12345", "1234567", "12345a", "", nil, 123456} {
		anna.Do("POST", "/security/2fa/verify", object{"code": code}).Problem(400, "VALIDATION_ERROR").Field("code")
	}
	v := client.JSON[verified](anna.Do("POST", "/security/2fa/verify", object{"code": a.same()}).Want(200))
	require.True(t, v.Valid)
	require.Len(t, v.BackupCodes, 10)
	require.True(t, v.Status.IsEnabled)
	require.NotEmpty(t, v.Status.EnabledAt)
	require.Equal(t, 10, v.Status.BackupCodesRemaining)
	require.Equal(t, true, anna.Get("/auth/me").Want(200).Value("two_factor_enabled"))
	anna.Do("POST", "/security/2fa/setup", nil).Problem(409, "TWO_FACTOR_ALREADY_ENABLED")
	require.Equal(t, 1, audited(s, anna, "user.2fa_enabled"))
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.notifications where user_id = $1 and title like 'Two-factor%on'", anna.ID))
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.backup_codes where user_id = $1 and encode(code_hash, 'escape') like '%' || $2 || '%'", anna.ID, v.BackupCodes[0].Code))
	for _, code := range client.JSON[[]object](anna.Get("/security/2fa/backup-codes").Want(200)) {
		require.Equal(t, object{"code": "••••-••••-••••", "isUsed": false}, code)
	}

	// Signing in needs a code now, in one request or in two.
	refusal := login(s, anna).Problem(401, "TWO_FACTOR_REQUIRED")
	require.Equal(t, 300.0, refusal.Value("details.expires_in"))
	require.Equal(t, []any{"totp", "backup_code"}, refusal.Value("details.methods"))
	prove(s, refusal.String("details.two_factor_token"), a.same()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	tokens := prove(s, refusal.String("details.two_factor_token"), a.code()).Want(200)
	require.NotNil(t, tokens.Cookie("kijko_session"))
	require.Nil(t, tokens.Value("device_token"))
	s.As(tokens.Tokens().AccessToken).Get("/auth/me").Want(200)
	prove(s, refusal.String("details.two_factor_token"), a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	login(s, anna, object{"totp_code": a.code()}).Want(200)
	login(s, anna, object{"totp_code": a.wrong()}).Problem(401, "INVALID_TWO_FACTOR_CODE")
	login(s, anna, object{"totp_code": "12 34"}).Problem(400, "VALIDATION_ERROR").Field("totp_code")
	s.Do("POST", "/auth/login", object{"email": anna.Email, "password": "wrong", "totp_code": a.code()}).Problem(401, "INVALID_CREDENTIALS")
	require.Equal(t, []string{"password success", "2fa failed Invalid 2FA code", "2fa success", "2fa success", "2fa failed Invalid 2FA code",
		"password failed Invalid password"}, history(s, anna))

	// Backup codes work once, in any case of letters.
	prove(s, challenge(s, anna), strings.ToLower(v.BackupCodes[3].Code)).Want(200)
	prove(s, challenge(s, anna), v.BackupCodes[3].Code).Problem(401, "INVALID_TWO_FACTOR_CODE")
	require.Equal(t, 9.0, anna.Get("/security/2fa").Value("backupCodesRemaining"))
	require.NotEmpty(t, client.JSON[[]struct{ UsedAt string }](anna.Get("/security/2fa/backup-codes"))[3].UsedAt)
	fresh := client.JSON[[]struct{ Code string }](anna.Do("POST", "/security/2fa/backup-codes/regenerate", nil).Want(200))
	prove(s, challenge(s, anna), v.BackupCodes[4].Code).Problem(401, "INVALID_TWO_FACTOR_CODE")
	prove(s, challenge(s, anna), fresh[4].Code).Want(200)
	require.Equal(t, 1, audited(s, anna, "security.backup_codes_regenerated"))

	// Switch it off again.
	anna.Do("POST", "/security/2fa/disable", object{"password": "wrong", "code": a.code()}).Problem(400, "INVALID_PASSWORD").Field("password")
	anna.Do("POST", "/security/2fa/disable", object{"password": anna.Password, "code": a.wrong()}).Problem(400, "INVALID_CODE").Field("code")
	anna.Do("POST", "/security/2fa/disable", object{"code": a.code()}).Problem(400, "INVALID_PASSWORD").Field("password")
	anna.Do("POST", "/security/2fa/disable", object{"password": anna.Password, "code": a.code()}).Want(200).Equal(object{"isEnabled": false})
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.backup_codes where user_id = $1", anna.ID))
	require.Equal(t, 1, audited(s, anna, "user.2fa_disabled"))
	login(s, anna).Want(200)
}

func TestAccountWithoutAPasswordNeedsTheCodeOnly(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	a := enroll(t, s, anna)
	s.DB.Exec("delete from private.credentials where user_id = $1", anna.ID)
	anna.Do("POST", "/security/2fa/disable", object{"code": a.backup[0]}).Want(200)
}

func TestRememberedDevices(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	a, b := enroll(t, s, anna), enroll(t, s, stan)
	device := prove(s, challenge(s, anna), a.code(), object{"remember_device": true}).Want(200).String("device_token")
	require.Len(t, device, 43)
	login(s, anna, object{"device_token": device}).Want(200)
	require.Equal(t, "password success", history(s, anna)[2])
	login(s, anna, object{"device_token": device + "x"}).Problem(401, "TWO_FACTOR_REQUIRED")
	login(s, stan, object{"device_token": device}).Problem(401, "TWO_FACTOR_REQUIRED")
	require.NotEmpty(t, prove(s, challenge(s, stan), b.code(), object{"remember_device": true}).Want(200).String("device_token"))

	t.Run("ForThirtyDays", func(t *testing.T) {
		s.DB.Exec("update private.remembered_devices set created_at = now() - interval '29 days' where user_id = $1", anna.ID)
		login(s, anna, object{"device_token": device}).Want(200)
		s.DB.Exec("update private.remembered_devices set created_at = now() - interval '30 days' where user_id = $1", anna.ID)
		login(s, anna, object{"device_token": device}).Problem(401, "TWO_FACTOR_REQUIRED")
		s.DB.Exec("update private.remembered_devices set created_at = now() where user_id = $1", anna.ID)
	})
	t.Run("AsThePolicySays", func(t *testing.T) {
		enterprise(s, anna)
		anna.Do("PATCH", "/security/policies", object{"session": object{"rememberDeviceDays": 0}}).Want(200)
		login(s, anna, object{"device_token": device}).Problem(401, "TWO_FACTOR_REQUIRED")
		require.Nil(t, prove(s, challenge(s, anna), a.code(), object{"remember_device": true}).Want(200).Value("device_token"))
		anna.Do("PATCH", "/security/policies", object{"session": object{"rememberDeviceDays": 30}}).Want(200)
		login(s, anna, object{"device_token": device}).Want(200)
	})
	t.Run("AtMostTwenty", func(t *testing.T) {
		s.DB.Exec(`insert into private.remembered_devices (user_id, token_hash) select $1, sha256(n::text::bytea) from generate_series(1, 30) n`, anna.ID)
		prove(s, challenge(s, anna), a.code(), object{"remember_device": true}).Want(200)
		require.Equal(t, 20, testdb.Value[int](s.DB, "select count(*) from private.remembered_devices where user_id = $1", anna.ID))
	})
	t.Run("UntilThePasswordChanges", func(t *testing.T) {
		s.DB.Exec("update private.credentials set changed_at = now() where user_id = $1", stan.ID)
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.remembered_devices where user_id = $1", stan.ID))
	})
}

func TestOfManyRequestsWithOneCodeOneWins(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	replica := stack.On(t, s.DB)
	anna := s.SignUp("Anna")
	a := enroll(t, s, anna)
	at := func(n int) *client.Client { return s.As("").At([]string{s.BaseURL, replica.BaseURL}[n%2]) }

	t.Run("AtSignIn", func(t *testing.T) {
		tokens := make([]string, 6)
		for i := range tokens {
			tokens[i] = challenge(s, anna)
		}
		code := a.code()
		got := statuses(parallel(t, len(tokens), func(n int) (client.Response, error) {
			return at(n).Try("POST", "/auth/2fa", object{"two_factor_token": tokens[n], "code": code})
		}))
		require.Equal(t, map[int]int{200: 1, 401: 5}, got)
		s.DB.Exec("delete from private.login_failures")
	})
	t.Run("OfABackupCode", func(t *testing.T) {
		tokens := make([]string, 6)
		for i := range tokens {
			tokens[i] = challenge(s, anna)
		}
		got := statuses(parallel(t, len(tokens), func(n int) (client.Response, error) {
			return at(n).Try("POST", "/auth/2fa", object{"two_factor_token": tokens[n], "code": a.backup[0]})
		}))
		require.Equal(t, map[int]int{200: 1, 401: 5}, got)
		s.DB.Exec("delete from private.login_failures")
	})
	t.Run("OfOneToken", func(t *testing.T) {
		token := challenge(s, anna)
		got := statuses(parallel(t, 5, func(n int) (client.Response, error) {
			return at(n).Try("POST", "/auth/2fa", object{"two_factor_token": token, "code": a.backup[n+1]})
		}))
		require.Equal(t, map[int]int{200: 1, 401: 4}, got)
		s.DB.Exec("delete from private.login_failures")
	})
	t.Run("AtTheSetUp", func(t *testing.T) {
		ben := s.SignUp("Ben")
		b := &app{t: t, s: s, p: ben, secret: ben.Do("POST", "/security/2fa/setup", nil).Want(200).String("secret")}
		code := b.same()
		got := statuses(parallel(t, 5, func(n int) (client.Response, error) {
			return ben.At(at(n).BaseURL).Try("POST", "/security/2fa/verify", object{"code": code})
		}))
		require.Equal(t, map[int]int{200: 1, 409: 4}, got)
		require.Equal(t, 10, testdb.Value[int](s.DB, "select count(*) from private.backup_codes where user_id = $1", ben.ID))
	})
}

func TestFiveWrongCodesAreEnough(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	replica := stack.On(t, s.DB)

	t.Run("OfASignIn", func(t *testing.T) {
		anna := s.SignUp("Anna")
		a := enroll(t, s, anna)
		token := challenge(s, anna)
		for range 5 {
			prove(s, token, a.wrong()).Problem(401, "INVALID_TWO_FACTOR_CODE")
		}
		prove(s, token, a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
		prove(s, challenge(s, anna), a.code()).Want(200)
	})
	t.Run("InParallel", func(t *testing.T) {
		anna := s.SignUp("Anna")
		a := enroll(t, s, anna)
		token := challenge(s, anna)
		wrong := a.wrong()
		parallel(t, 20, func(n int) (client.Response, error) {
			return s.As("").At([]string{s.BaseURL, replica.BaseURL}[n%2]).Try("POST", "/auth/2fa", object{"two_factor_token": token, "code": wrong})
		})
		require.Equal(t, 5, testdb.Value[int](s.DB, "select tries from private.second_factor_challenges where user_id = $1", anna.ID))
		require.Equal(t, 5, testdb.Value[int](s.DB, "select count(*) from private.login_history where user_id = $1 and status = 'failed'", anna.ID))
		prove(s, token, a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	})
	t.Run("OfASetUp", func(t *testing.T) {
		anna := s.SignUp("Anna")
		a := &app{t: t, s: s, p: anna, secret: anna.Do("POST", "/security/2fa/setup", nil).Want(200).String("secret")}
		for range 4 {
			anna.Do("POST", "/security/2fa/verify", object{"code": a.wrong()}).Want(200).Equal(object{"valid": false})
		}
		refused := anna.Do("POST", "/security/2fa/verify", object{"code": a.wrong()}).Problem(429, "RATE_LIMITED")
		require.NotEmpty(t, refused.Header.Get("Retry-After"))
		anna.Do("POST", "/security/2fa/verify", object{"code": a.same()}).Problem(409, "TWO_FACTOR_NOT_PENDING")
	})
	t.Run("TenLockTheAddressForPasswordsToo", func(t *testing.T) {
		anna := s.SignUp("Anna")
		a := enroll(t, s, anna)
		for n := range 10 {
			if n%2 == 0 {
				login(s, anna, object{"totp_code": a.wrong()}).Problem(401, "INVALID_TWO_FACTOR_CODE")
			} else {
				s.Do("POST", "/auth/login", object{"email": anna.Email, "password": "wrong"}).Problem(401, "INVALID_CREDENTIALS")
			}
		}
		login(s, anna, object{"totp_code": a.code()}).Problem(429, "ACCOUNT_LOCKED")
		s.DB.Exec("update private.login_failures set locked_until = null")
		token := challenge(s, anna)
		s.DB.Exec("update private.login_failures set locked_until = now() + interval '10 minutes'")
		prove(s, token, a.code()).Problem(429, "ACCOUNT_LOCKED")
	})
}

func TestATokenForTheSecondFactorDies(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	a := enroll(t, s, anna)
	enroll(t, s, ben)
	token := challenge(s, anna)
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.second_factor_challenges where encode(token_hash, 'escape') = $1", token))
	prove(s, challenge(s, ben), a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	for _, bad := range []string{"", "nonsense", strings.Repeat("x", 43)} {
		prove(s, bad, a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	}
	for _, bad := range []any{"", "12345", "abcdef", "A1B2-C3D4", nil, 1} {
		s.Do("POST", "/auth/2fa", object{"two_factor_token": token, "code": bad}).Problem(400, "VALIDATION_ERROR").Field("code")
	}
	s.DB.Exec("update private.second_factor_challenges set expires_at = expires_at - interval '4 minutes 50 seconds' where user_id = $1", anna.ID)
	prove(s, token, a.code()).Want(200)
	token = challenge(s, anna)
	s.DB.Exec("update private.second_factor_challenges set expires_at = expires_at - interval '5 minutes' where user_id = $1", anna.ID)
	prove(s, token, a.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
	token = challenge(s, anna)
	stack.Demote(s.DB, anna, "member")
	s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1", anna.ID)
	prove(s, token, a.code()).Problem(403, "MEMBERSHIP_INACTIVE")
}

func TestStepsAroundNowAreGood(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	a := enroll(t, s, anna)
	step := 30 * time.Second
	token := func() string {
		s.DB.Exec("update private.second_factors set last_step = 0")
		return challenge(s, anna)
	}
	// A step may begin between making a code and checking it, which moves the window by one. So the outer steps are two and more away.
	prove(s, token(), a.at(time.Now().Add(-step))).Want(200)
	prove(s, token(), a.at(time.Now().Add(step))).Want(200)
	prove(s, challenge(s, anna), a.at(time.Now())).Problem(401, "INVALID_TWO_FACTOR_CODE")
	prove(s, token(), a.at(time.Now().Add(-3*step))).Problem(401, "INVALID_TWO_FACTOR_CODE")
	prove(s, token(), a.at(time.Now().Add(3*step))).Problem(401, "INVALID_TWO_FACTOR_CODE")
}

func TestIdempotencyKeysOfTheSecondFactor(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	keyed := func(key string) *client.Client { return anna.With("Idempotency-Key", key) }
	first := keyed("a").Do("POST", "/security/2fa/setup", nil).Want(200)
	require.Equal(t, first.Body, keyed("a").Do("POST", "/security/2fa/setup", nil).Want(200).Body)
	a := &app{t: t, s: s, p: anna, secret: first.String("secret")}
	code := object{"code": a.same()}
	on := keyed("b").Do("POST", "/security/2fa/verify", code).Want(200)
	again := keyed("b").Do("POST", "/security/2fa/verify", code).Want(200)
	require.Equal(t, on.Body, again.Body)
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.idempotency_keys where response::text ~ $1", client.JSON[verified](on).BackupCodes[0].Code),
		"a stored answer holds no code")

	token, body := challenge(s, anna), object{}
	body["two_factor_token"], body["code"], body["remember_device"] = token, a.code(), true
	in := s.As("").With("Idempotency-Key", "c").Do("POST", "/auth/2fa", body).Want(200)
	require.NotEmpty(t, in.String("device_token"))
	require.JSONEq(t, string(in.Body), string(s.As("").With("Idempotency-Key", "c").Do("POST", "/auth/2fa", body).Want(200).Body))
	login(s, anna, object{"device_token": in.String("device_token")}).Want(200)
	whole := object{"email": anna.Email, "password": anna.Password, "totp_code": a.code()}
	one := s.As("").With("Idempotency-Key", "d").Do("POST", "/auth/login", whole).Want(200)
	require.JSONEq(t, string(one.Body), string(s.As("").With("Idempotency-Key", "d").Do("POST", "/auth/login", whole).Want(200).Body))
}

func TestWithoutAnEncryptionKeyNothingIsSetUp(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.EncryptionKey = "" })
	anna := s.SignUp("Anna")
	for _, path := range []string{"/security/2fa/setup", "/security/2fa/backup-codes/regenerate"} {
		require.Equal(t, "encryption", anna.Do("POST", path, nil).Problem(503, "PROVIDER_NOT_CONFIGURED").String("details.provider"))
	}
	anna.Get("/security/2fa").Want(200).Equal(object{"isEnabled": false})
	s.DB.Exec("update public.users set two_factor_enabled_at = now() where id = $1", anna.ID)
	prove(s, challenge(s, anna), "123456").Problem(503, "PROVIDER_NOT_CONFIGURED")
}

func TestRatesOfTheSecondFactor(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.RealRates)
	anna := s.SignUp("Anna")
	for range 10 {
		require.Equal(t, "10", anna.Do("POST", "/security/2fa/setup", nil).Want(200).Header.Get("X-RateLimit-Limit"))
	}
	anna.Do("POST", "/security/2fa/setup", nil).Problem(429, "RATE_LIMITED")
	for range 5 {
		prove(s, "x", "123456").Problem(401, "INVALID_TWO_FACTOR_CODE")
	}
	prove(s, "x", "123456").Problem(429, "RATE_LIMITED")
}
