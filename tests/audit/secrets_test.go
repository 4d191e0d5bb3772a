package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kijko/server/app"
	"kijko/server/auth/authtest"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	worker "kijko/worker/app"
	"kijko/worker/mail"
	"kijko/worker/mail/mailtest"
)

// story is a person's calls, and the secrets that come up in them.
type story struct {
	*lab
	mails   *mailtest.Server
	peer    *double
	people  *authtest.Provider
	me      *client.Person
	secrets map[string]string
	exports bytes.Buffer
}

// secret notes a value that must be found nowhere, and gives it.
func (s *story) secret(name, value string) string {
	if len(value) < 8 {
		panic("too short to be looked for: " + name)
	}
	s.secrets[name] = value
	return value
}

func (s *story) tokens(name string, t client.Tokens) client.Tokens {
	s.secret(name+": access token", t.AccessToken)
	s.secret(name+": refresh token", t.RefreshToken)
	return t
}

// step is one line of the script: its name, and its calls, with each secret that it sends or receives noted.
type step struct {
	what string
	do   func(t *testing.T, s *story)
}

// script has one line a step. A new flow is a line here or in flows.
var script = []step{
	{"signs up", func(_ *testing.T, s *story) {
		s.me = s.SignUp("Mia")
		s.tokens("sign-up", client.Tokens{AccessToken: s.me.Token, RefreshToken: s.me.RefreshToken})
		s.secret("password", s.me.Password)
		s.plan(s.me, "enterprise")
	}},
	{"mistypes the password", func(_ *testing.T, s *story) {
		s.As("").Do("POST", "/auth/login", map[string]string{"email": s.me.Email, "password": s.secret("mistyped password", "Correct-Horze-7")}).Problem(401, "INVALID_CREDENTIALS")
	}},
	{"signs in", func(_ *testing.T, s *story) {
		r := s.As("").Do("POST", "/auth/login", map[string]string{"email": s.me.Email, "password": s.me.Password}).Want(200)
		s.secret("cookie", r.Cookie("kijko_session").Value)
		s.me.Client, s.me.RefreshToken = s.As(s.tokens("sign-in", r.Tokens()).AccessToken), r.Tokens().RefreshToken
	}},
	{"signs in under a key", func(_ *testing.T, s *story) {
		s.tokens("keyed sign-in", s.As("").With("Idempotency-Key", s.secret("idempotency key of a sign-in", "one-sign-in-only")).Do("POST", "/auth/login", map[string]string{"email": s.me.Email, "password": s.me.Password}).Want(200).Tokens())
	}},
	{"refreshes", func(_ *testing.T, s *story) {
		s.me.Client = s.As(s.tokens("refresh", s.As("").Do("POST", "/auth/refresh", map[string]string{"refresh_token": s.me.RefreshToken}).Want(200).Tokens()).AccessToken)
	}},
	{"sends a refresh token that is none", func(_ *testing.T, s *story) {
		s.As("").Do("POST", "/auth/refresh", map[string]string{"refresh_token": s.secret("unknown refresh token", "this-is-no-refresh-token-at-all")}).Problem(401, "INVALID_REFRESH_TOKEN")
	}},
	{"sends a malformed access token", func(_ *testing.T, s *story) {
		s.As(s.secret("malformed access token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")).Get("/auth/me").Problem(401, "UNAUTHENTICATED")
	}},
	{"keeps a model provider's key", func(_ *testing.T, s *story) {
		s.me.Do("PUT", "/ai/provider-keys/google", map[string]string{"key": s.secret("provider key", "AIza-a-key-of-mia-0123456789")}).Want(200)
		s.me.Do("DELETE", "/ai/provider-keys/google", nil).Want(204)
	}},
	{"makes a project with a webhook that holds a secret", func(_ *testing.T, s *story) {
		id := s.me.Do("POST", "/projects", map[string]any{"name": "Billing"}).Want(201).String("project.id")
		s.secret("secret of a chunking webhook", s.me.Do("PUT", "/projects/"+id+"/settings", map[string]any{"chunkingStrategy": "custom",
			"webhookUrl": "https://hooks.example.org/?key=" + s.secret("key in a webhook's address", "a-key-in-an-address")}).Want(200).String("webhookSecret"))
	}},
	{"takes a delivery by a webhook", func(_ *testing.T, s *story) {
		skill := s.me.Do("POST", "/skills", map[string]any{"name": "Tell", "promptTemplate": "Tell me about it in some words"}).Want(201).String("id")
		reflex := s.me.Do("POST", "/reflexes", map[string]any{"skillId": skill, "triggerType": "webhook", "triggerConfig": map[string]any{}}).Want(201)
		key := s.secret("webhook secret", reflex.String("triggerConfig.secret"))
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(`{"a": 1}`))
		s.As("").With("X-Webhook-Signature", s.secret("signature", hex.EncodeToString(mac.Sum(nil)))).Do("POST", "//webhooks/reflex/"+reflex.String("id"), `{"a": 1}`).Want(202)
		s.secret("new webhook secret", s.me.Do("POST", "/reflexes/"+reflex.String("id")+"/regenerate-secret", nil).Want(200).String("secret"))
	}},
	{"gets a token for sockets", func(_ *testing.T, s *story) {
		s.secret("realtime token", s.me.Do("POST", "/realtime/token", map[string]any{}).Want(200).String("token"))
	}},
	{"exports the audit log, now and by mail", func(t *testing.T, s *story) {
		for _, format := range []string{"csv", "json", "pdf"} {
			s.exports.Write(s.me.Do("POST", "/security/audit-log/export", map[string]any{"format": format}).Want(200).Body)
		}
		s.due(t, s.schedules(s.me, map[string]any{"format": "json", "schedule": "daily"}))
		s.eventually(t, "the mail is sent", "select exists (select from private.mails where kind = 'audit_export' and sent_at is not null)")
		path := link(t, exports(s.mails)[0])
		_, token, _ := strings.Cut(path, "token=")
		s.secret("link of an export", token)
		s.exports.Write(s.As("").Get(path).Want(200).Body)
		s.exports.Write(s.me.Get("/security/login-history/export").Want(200).Body)
	}},
	{"uses a refresh token that was used long ago", func(_ *testing.T, s *story) {
		s.DB.Exec("update private.refresh_tokens set used_at = now() - interval '1 hour' where used_at is not null")
		s.As("").Do("POST", "/auth/refresh", map[string]string{"refresh_token": s.me.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
	}},
	{"signs in again and out", func(_ *testing.T, s *story) {
		tokens := s.tokens("last sign-in", s.As("").Do("POST", "/auth/login", map[string]string{"email": s.me.Email, "password": s.me.Password}).Want(200).Tokens())
		s.exports.Write(s.As(tokens.AccessToken).Do("POST", "/security/audit-log/export", map[string]any{"format": "json"}).Want(200).Body)
		s.As(tokens.AccessToken).Do("POST", "/auth/logout", map[string]string{"refresh_token": tokens.RefreshToken}).Want(204)
	}},
}

// log is the programs' log, of all levels.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestNoSecretIsInTheTrailOrAnyLog(t *testing.T) {
	t.Parallel()
	server, peer, people := mailtest.New(t, mailtest.Options{}), newDouble(t), authtest.New(t)
	db := testdb.New(t)
	// As a cluster that keeps its data logs: with the statement of each error.
	db.Exec("alter database " + db.Name + " set log_min_error_statement = error")
	cfg := stack.Settings(t, db, func(c *config.Config) {
		c.SMTPHost, c.SMTPPort = server.SMTP()
		c.SMTPTLS, c.SMTPFrom, c.APIURL = mail.None, "Kijko <mail@kijko.test>", "http://api.kijko.test"
		c.KeycloakURL, c.KeycloakSecret, c.Google = people.URL, authtest.ClientSecret, true
		peer.settings(c)
	})
	var logged log
	logger := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(t.Context(), cfg, app.Options{Log: logger})
	require.NoError(t, err)
	w, closeWorker, err := worker.Assemble(t.Context(), cfg.Config, logger)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	running.Go(func() { _ = w.Run(ctx) })
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); running.Wait(); _ = closeWorker() }) }
	t.Cleanup(stop)

	s := &story{lab: &lab{Stack: &stack.Stack{Client: client.New(t, a.URL()), DB: db, App: a, Config: cfg}}, mails: server, peer: peer, people: people,
		secrets: map[string]string{"encryption key": cfg.EncryptionKey, "secret of our client": clientSecret, "secret of Keycloak's client": authtest.ClientSecret}}
	peer.note = s.secret
	s.eventually(t, "the server says whether it can send mail", "select exists (select from private.installation where key = 'mail' and value = 'true')")
	for _, step := range slices.Concat(script, flows) {
		t.Log("Mia", step.what)
		step.do(t, s)
	}
	s.eventually(t, "all events are numbered", "select not exists (select from private.event_inbox)")
	s.eventually(t, "all mails are sent", "select not exists (select from private.mails where sent_at is null)")
	stop()

	found := map[string]string{"exports": s.exports.String(), "the log of server and worker": logged.b.String()}
	tables := testdb.Value[[]string](db, `select array_agg(format('%I.%I', n.nspname, c.relname)) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`)
	for _, table := range tables {
		found[table] = testdb.Value[string](db, "select coalesce(string_agg(to_jsonb(x)::text, chr(10)), '') from "+table+" x")
	}
	_, err = db.Pool("postgres").Exec(t.Context(), "select 1 / 0")
	require.Error(t, err)
	raw, err := os.ReadFile(db.Cluster.LogFile())
	require.NoError(t, err)
	require.Contains(t, string(raw), "STATEMENT:  select 1 / 0")
	found["the log of Postgres"] = string(raw)
	for where, text := range map[string]string{"public.audit_log": "integration.webhook_triggered", "private.mails": s.me.ID, "public.events": "project", "public.webhook_deliveries": "context.created",
		"private.provider_tokens": "v1.", "private.integration_secrets": "v1.", "private.idempotency_keys": "response", "the log of server and worker": `"msg":"request"`} {
		require.Contains(t, found[where], text, where)
	}
	require.Greater(t, len(s.secrets), 60)
	for name, secret := range s.secrets {
		quoted, err := json.Marshal(secret)
		require.NoError(t, err)
		// A value in bytea is in hex.
		forms := []string{secret, string(quoted[1 : len(quoted)-1]), hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
		for where, text := range found {
			if slices.Contains(kept[name], where) {
				assert.True(t, strings.Contains(text, secret), "%s is no longer in %s: take it from the list", name, where)
				continue
			}
			for _, form := range forms {
				if at := strings.Index(text, form); at >= 0 {
					assert.Fail(t, "a secret was found", "%s is in %s: ...%s...", name, where, text[max(0, at-200):min(len(text), at+len(form)+100)])
					break
				}
			}
		}
	}
}

// kept are the values that stand where the contract has us keep and show them: addresses as their owner wrote them.
var kept = map[string][]string{
	"key in a webhook's address":   {"public.project_settings"},
	"key in a connector's address": {"public.connectors", "private.idempotency_keys", "exports"},
}
