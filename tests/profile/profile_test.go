package profile

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/mail"
)

// withMail is an installation that queues mail; no worker sends it.
func withMail(c *config.Config) {
	c.SMTPHost, c.SMTPFrom, c.SMTPTLS = "127.0.0.1", "mail@kijko.test", mail.None
}

func newStack(t *testing.T, options ...stack.Option) *stack.Stack {
	s := stack.New(t, options...)
	// The server records once after its start which services the installation has.
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*)::int from private.installation where key in ('api_url', 'mail')") == 2
	}, waiting, tick)
	return s
}

func TestAProfileIsReadAndChanged(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	born := anna.Get("/profile").Want(200)
	require.Equal(t, map[string]any{"id": anna.ID, "email": anna.Email, "emailVerified": false, "firstName": "Anna", "lastName": "Test", "role": "user", "timezone": "UTC",
		"useGravatar": false, "createdAt": born.Value("createdAt"), "updatedAt": born.Value("updatedAt")}, client.JSON[map[string]any](born))

	changed := anna.Do("PATCH", "/profile", map[string]any{"firstName": "  Ánna\u00a0", "company": " Kijko ", "role": "business-owner", "timezone": "Europe/Amsterdam", "useGravatar": true}).Want(200)
	require.Equal(t, "Ánna", changed.String("firstName"))
	require.Equal(t, "Test", changed.String("lastName"), "what is left out stays")
	require.Equal(t, "Kijko", changed.String("company"))
	require.Equal(t, "business-owner", changed.String("role"))
	require.Equal(t, "Ánna", anna.Get("/auth/me").String("first_name"))
	changes := testdb.Value[string](s.DB, `select string_agg(c ->> 'field', ' ' order by c ->> 'field') from public.audit_log, jsonb_array_elements(changes) c
		where user_id = $1 and event_type = 'user.profile_updated'`, anna.ID)
	require.Equal(t, "company firstName role timezone useGravatar", changes)
	anna.Do("PUT", "/profile", map[string]any{"firstName": "Ánna", "id": "x", "emailVerified": true, "createdAt": "x", "unknown": 1}).Want(200)
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.audit_log where user_id = $1 and event_type = 'user.profile_updated'", anna.ID), "only real changes are told")
	require.Nil(t, anna.Do("PATCH", "/profile", map[string]any{"company": ""}).Want(200).Value("company"))

	for _, c := range []struct {
		field string
		value any
	}{
		{"firstName", ""}, {"firstName", " "}, {"firstName", nil}, {"firstName", strings.Repeat("x", 51)}, {"firstName", "a\u0007b"}, {"firstName", "a\u200bb"}, {"firstName", 5},
		{"lastName", "a\nb"}, {"company", strings.Repeat("x", 101)}, {"company", "a\tb"}, {"company", 5}, {"role", "owner"}, {"role", nil}, {"role", ""},
		{"timezone", "Mars/Olympus"}, {"timezone", "europe/amsterdam"}, {"timezone", ""}, {"timezone", nil}, {"useGravatar", "yes"}, {"useGravatar", nil},
		{"email", "nobody"}, {"email", nil}, {"email", ""}, {"email", "a b@example.nl"},
	} {
		anna.Do("PATCH", "/profile", map[string]any{c.field: c.value}).Problem(400, "VALIDATION_ERROR").Field(c.field)
	}
}

func TestOthersSeeGravatarOrTheUpload(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	project := anna.Do("POST", "/projects", map[string]any{"name": "Hers"}).Want(201).String("project.id")
	shown := func() string {
		return testdb.Value[string](s.DB, "select coalesce(u.avatar_url, '') || case when m.avatar_url is distinct from u.avatar_url then ' differs' else '' end from public.users u join public.project_members m on m.user_id = u.id where m.project_id = $1", project)
	}
	require.Empty(t, shown())
	url := anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", asPNG(30, 20))}).Want(200).String("avatarUrl")
	require.Equal(t, url, shown())
	anna.Do("PATCH", "/profile", map[string]any{"useGravatar": true}).Want(200)
	sum := sha256.Sum256([]byte(anna.Email))
	require.Equal(t, "https://www.gravatar.com/avatar/"+hex.EncodeToString(sum[:])+"?s=80&d=mp", shown())
	require.Equal(t, url, anna.Get("/profile").String("avatarUrl"), "the upload stays")
	anna.Do("PATCH", "/profile", map[string]any{"useGravatar": false}).Want(200)
	require.Equal(t, url, shown())
	anna.Do("DELETE", "/profile/avatar", nil).Want(204)
	require.Empty(t, shown())
}

func asPNG(w, h int) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = 200
	}
	var b bytes.Buffer
	_ = png.Encode(&b, m)
	return b.Bytes()
}

func asJPEG(w, h int) []byte {
	var b bytes.Buffer
	_ = jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, w, h)), nil)
	return b.Bytes()
}

func asGIF() []byte {
	var b bytes.Buffer
	_ = gif.Encode(&b, image.NewPaletted(image.Rect(0, 0, 9, 9), color.Palette{color.Black, color.White}), nil)
	return b.Bytes()
}

func dataURL(kind string, raw []byte) string {
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(raw)
}

// form is a multipart body with one part.
func form(name string, raw []byte) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile(name, "photo.exe")
	_, _ = part.Write(raw)
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestAPictureIsUploadedAndServed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	// The address begins with the public origin. The rest is a path of this server.
	fetch := func(url string) client.Response {
		require.Regexp(t, `^http://kijko\.test/api/v1/pictures/[0-9a-f]{64}$`, url)
		return s.As("").Get(strings.TrimPrefix(url, "http://kijko.test/api/v1"))
	}
	anna.Do("PATCH", "/profile", map[string]any{"useGravatar": true}).Want(200)
	kind, body := form("file", append(asJPEG(600, 300), "at home"...))
	url := anna.With("Content-Type", kind).Do("POST", "/profile/avatar", body).Want(200).String("avatarUrl")
	require.Equal(t, false, anna.Get("/profile").Value("useGravatar"), "an upload switches Gravatar off")
	r := fetch(url).Want(200)
	require.Equal(t, "image/jpeg", r.Header.Get("Content-Type"))
	require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	require.Equal(t, "public, max-age=31536000, immutable", r.Header.Get("Cache-Control"))
	m, _, err := image.DecodeConfig(bytes.NewReader(r.Body))
	require.NoError(t, err)
	require.Equal(t, [2]int{256, 128}, [2]int{m.Width, m.Height})
	require.NotContains(t, string(r.Body), "at home")

	second := anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("text/plain", asGIF())}).Want(200).String("avatarUrl")
	require.Equal(t, "image/png", fetch(second).Want(200).Header.Get("Content-Type"), "what the address says of the type is not believed")
	fetch(url).Problem(404, "NOT_FOUND")
	keyed := anna.With("Idempotency-Key", "picture")
	third := keyed.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", asPNG(4, 4))}).Want(200).String("avatarUrl")
	require.Equal(t, third, keyed.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", asPNG(4, 4))}).Want(200).String("avatarUrl"))
	keyed.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", asPNG(5, 5))}).Problem(409, "IDEMPOTENCY_CONFLICT")

	refused := func(r client.Response, code string) { t.Helper(); r.Problem(400, code).Field("file") }
	refused(anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", []byte("<svg/>"))}), "INVALID_FILE_TYPE")
	refused(anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": "https://example.com/a.png"}), "INVALID_FILE_TYPE")
	refused(anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": "data:image/png;base64,%%%"}), "INVALID_FILE_TYPE")
	refused(anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", make([]byte, 2<<20+1))}), "FILE_TOO_LARGE")
	refused(anna.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/jpeg", asJPEG(8193, 1))}), "FILE_TOO_LARGE")
	kind, body = form("file", make([]byte, 3<<20))
	refused(anna.With("Content-Type", kind).Do("POST", "/profile/avatar", body), "FILE_TOO_LARGE")
	kind, body = form("picture", asGIF())
	refused(anna.With("Content-Type", kind).Do("POST", "/profile/avatar", body), "VALIDATION_ERROR")
	refused(anna.With("Content-Type", kind).Do("POST", "/profile/avatar", body[:40]), "VALIDATION_ERROR")
	refused(anna.With("Content-Type", "image/png").Do("POST", "/profile/avatar", asPNG(3, 3)), "VALIDATION_ERROR")
	anna.Do("POST", "/profile/avatar", map[string]any{}).Problem(400, "VALIDATION_ERROR").Field("dataUrl")
	kind, body = form("file", make([]byte, 9<<20))
	anna.With("Content-Type", kind).Do("POST", "/profile/avatar", body).Problem(413, "PAYLOAD_TOO_LARGE")
	require.Equal(t, third, anna.Get("/profile").String("avatarUrl"))
	anna.Do("DELETE", "/profile/avatar", nil).Want(204)
	fetch(third).Problem(404, "NOT_FOUND")
	anna.Do("DELETE", "/profile/avatar", nil).Want(204)
}

// link is the token in the newest mail of a kind to an address.
func link(t *testing.T, s *stack.Stack, to string) string {
	t.Helper()
	text := testdb.Value[string](s.DB, "select body_text from private.mails where kind = 'verify_email' and to_address = $1 order by created_at desc limit 1", to)
	found := regexp.MustCompile(`/verify-email\?token=([A-Za-z0-9_-]+)`).FindStringSubmatch(text)
	require.NotNil(t, found, text)
	return found[1]
}

func TestAnotherAddressIsTheAccountsWhenItIsConfirmed(t *testing.T) {
	t.Parallel()
	s := newStack(t, withMail)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	old, next := anna.Email, "anna@new.example.nl"
	anna.Do("PATCH", "/profile", map[string]any{"email": ben.Email}).Problem(409, "EMAIL_TAKEN").Field("email")
	r := anna.Do("PATCH", "/profile", map[string]any{"email": " Anna@New.Example.NL "}).Want(200)
	require.Equal(t, next, r.String("pendingEmail"))
	require.Equal(t, old, r.String("email"))
	require.Equal(t, old, anna.Get("/auth/me").String("email"))
	settings := anna.Get("/settings").Want(200)
	require.Equal(t, next, client.JSON[map[string]any](settings)["profile.email"], "the screen shows the one that waits")
	require.Equal(t, false, client.JSON[map[string]any](settings)["profile.emailVerified"])
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.notifications where user_id = $1 and title = 'Your e-mail address is about to change'", anna.ID))
	first := link(t, s, next)
	anna.Do("PATCH", "/profile", map[string]any{"email": next}).Want(200)
	require.Equal(t, first, link(t, s, next), "asking again for the same one sends nothing")
	s.As("").Do("POST", "/auth/login", map[string]any{"email": next, "password": anna.Password}).Problem(401, "INVALID_CREDENTIALS")

	// A second change replaces the first.
	anna.Do("PUT", "/settings/profile.email", map[string]any{"value": "anna@other.example.nl"}).Want(200)
	require.Equal(t, "anna@other.example.nl", anna.Get("/profile").String("pendingEmail"))
	s.As("").Do("POST", "/auth/verify-email", map[string]any{"token": first}).Problem(400, "INVALID_TOKEN")
	s.As("").Do("POST", "/auth/verify-email", map[string]any{"token": link(t, s, "anna@other.example.nl")}).Want(204)
	r = anna.Get("/profile").Want(200)
	require.Equal(t, "anna@other.example.nl", r.String("email"))
	require.Equal(t, true, r.Value("emailVerified"))
	require.Nil(t, r.Value("pendingEmail"))
	s.As("").Do("POST", "/auth/login", map[string]any{"email": old, "password": anna.Password}).Problem(401, "INVALID_CREDENTIALS")
	s.As("").Do("POST", "/auth/login", map[string]any{"email": "anna@other.example.nl", "password": anna.Password}).Want(200)

	// Her own present address cancels the pending change.
	anna.Do("PATCH", "/profile", map[string]any{"email": next}).Want(200)
	require.Nil(t, anna.Do("PATCH", "/profile", map[string]any{"email": "anna@other.example.nl"}).Want(200).Value("pendingEmail"))
	for i := range 6 {
		r = anna.Do("PATCH", "/profile", map[string]any{"email": strings.Repeat("x", i+1) + "@example.nl"})
	}
	r.Problem(429, "RATE_LIMITED")
	require.NotEmpty(t, r.Header.Get("Retry-After"))
}

func TestWithoutMailAnAddressStays(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *config.Config) { c.SMTPHost = "" })
	s.SignUp("Anna").Do("PATCH", "/profile", map[string]any{"firstName": "Not", "email": "other@example.nl"}).Problem(503, "PROVIDER_NOT_CONFIGURED")
}

func TestAPasswordIsChanged(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.RealRates)
	anna := s.SignUp("Anna")
	other := s.As("").Do("POST", "/auth/login", map[string]any{"email": anna.Email, "password": anna.Password}).Want(200).Tokens()
	change := func(from, to string) client.Response {
		return anna.Do("POST", "/profile/password", map[string]any{"currentPassword": from, "newPassword": to})
	}
	change("Wrong-Horse-7", "Correct-Horse-8").Problem(400, "INVALID_PASSWORD").Field("currentPassword")
	for weak, missing := range map[string]string{"": `["length","uppercase","lowercase","number"]`, "short": `["length","uppercase","number"]`, "nouppercase1": `["uppercase"]`, anna.Password: `["reused"]`} {
		r := change(anna.Password, weak)
		r.Problem(400, "WEAK_PASSWORD").Field("newPassword")
		got, err := json.Marshal(r.Value("details.missing"))
		require.NoError(t, err)
		require.JSONEq(t, missing, string(got))
	}
	change(anna.Password, "Correct-Horse-8").Want(204)
	anna.Get("/auth/me").Want(200)
	s.As(other.AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
	s.As("").Do("POST", "/auth/login", map[string]any{"email": anna.Email, "password": anna.Password}).Problem(401, "INVALID_CREDENTIALS")
	s.As("").Do("POST", "/auth/login", map[string]any{"email": anna.Email, "password": "Correct-Horse-8"}).Want(200)
	require.Equal(t, "1 1", testdb.Value[string](s.DB, `select (select count(*) from public.audit_log where user_id = $1 and event_type = 'user.password_changed') || ' '
		|| (select count(*) from public.notifications where user_id = $1 and title = 'Your password was changed')`, anna.ID))
	s.DB.Exec("delete from private.credentials where user_id = $1", anna.ID)
	change("Correct-Horse-8", "Correct-Horse-9").Problem(409, "PASSWORD_NOT_SET")
	last := client.Response{}
	for range 8 {
		last = change("Correct-Horse-8", "Correct-Horse-9")
	}
	last.Problem(http.StatusTooManyRequests, "RATE_LIMITED")
}

func TestAKeyReadsTheProfileAndChangesNothingOfIt(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	key := s.As(anna.Do("POST", "/security/api-keys", map[string]any{"name": "All", "expiration": "never", "scopes": []string{"admin"}}).Want(201).String("key"))
	key.Get("/profile").Want(200)
	key.Do("PATCH", "/profile", map[string]any{"firstName": "X"}).Problem(403, "API_KEY_NOT_ALLOWED")
	key.Do("POST", "/profile/avatar", map[string]any{"dataUrl": dataURL("image/png", asPNG(3, 3))}).Problem(403, "API_KEY_NOT_ALLOWED")
	key.Do("PUT", "/settings/theme", map[string]any{"value": "light"}).Want(200)
	for name, value := range map[string]any{"profile.firstName": "X", "timezone": "Europe/Paris", "profile.avatarUrl": "", "profile.email": "x@example.nl"} {
		key.Do("PUT", "/settings/"+name, map[string]any{"value": value}).Problem(403, "API_KEY_NOT_ALLOWED")
	}
}

// Anna's organization asks more of passwords, and forces a change of old ones; her session is let in to make it.
func TestAPolicyHoldsForAChangedPassword(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	anna.Do("PATCH", "/security/policies", map[string]any{"password": map[string]any{"minLength": 16, "requireSymbol": true, "preventReuse": 3, "expiryDays": 30}}).Want(200)
	change := func(from, to string) client.Response {
		return anna.Do("POST", "/profile/password", map[string]any{"currentPassword": from, "newPassword": to})
	}
	for weak, missing := range map[string][]any{"Correct-Horse-8": {"length"}, "CorrectHorseStaple8": {"symbol"}, "Correct-Horse-Staple": {"number"}} {
		require.Equal(t, missing, change(anna.Password, weak).Problem(400, "WEAK_PASSWORD").Field("newPassword").Value("details.missing"), weak)
	}
	s.DB.Exec("update private.credentials set changed_at = now() - interval '31 days' where user_id = $1", anna.ID)
	anna.Get("/projects").Problem(403, "PASSWORD_EXPIRED")
	passwords := []string{anna.Password, "Correct-Horse-0001", "Correct-Horse-0002", "Correct-Horse-0003", "Correct-Horse-0004"}
	for n := range 3 {
		change(passwords[n], passwords[n+1]).Want(204)
	}
	anna.Get("/projects").Want(200)
	for _, former := range passwords[1:4] {
		require.Equal(t, []any{"reused"}, change(passwords[3], former).Problem(400, "WEAK_PASSWORD").Field("newPassword").Value("details.missing"), former)
	}
	change(passwords[3], passwords[4]).Want(204)
	change(passwords[4], passwords[1]).Want(204)
}
