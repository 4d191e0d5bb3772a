package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	worker "kijko/worker/config"
)

func TestLoad(t *testing.T) {
	t.Run("DefaultsAreUsableInDevelopment", func(t *testing.T) {
		t.Setenv("DATABASE_URL", "postgres://x")
		t.Setenv("DEBUG", "true")
		c, err := Load()
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		require.Equal(t, "127.0.0.1:8000", c.Addr)
		require.Equal(t, "postgres://x", c.DatabaseDirect)
		require.Equal(t, "postgres://x", c.DatabaseWorker)
	})
	t.Run("ProductionWithoutSecretsIsRefused", func(t *testing.T) {
		t.Setenv("DATABASE_URL", "postgres://x")
		c, err := Load()
		require.NoError(t, err)
		require.ErrorContains(t, c.Validate(), "ENCRYPTION_KEY: is missing")
		require.ErrorContains(t, c.Validate(), "JWT_PRIVATE_KEY: is missing")
	})
	t.Run("EveryFaultIsNamedAtOnce", func(t *testing.T) {
		c := Config{ServiceToken: "short", Addr: "nowhere", MetricsAddr: "nowhere", MetricsToken: "short", PublicURL: "ftp://x", Origins: []string{"*"},
			Config: worker.Config{Debug: true, EncryptionKey: "short", GitHosts: []string{"git.example.nl"}, SMTPHost: "mail.example.nl", LogLevel: "loud",
				AnthropicURL: "nowhere", GoogleURL: "nowhere", LocalModel: "maybe", LocalModelDelay: -1}}
		err := c.Validate()
		for _, name := range []string{"DATABASE_URL", "ENCRYPTION_KEY", "KIJKO_SERVICE_TOKEN", "KIJKO_ACCESS_TOKEN_TTL", "KIJKO_ADDR", "KIJKO_METRICS_ADDR", "KIJKO_METRICS_TOKEN",
			"APP_URL", "CORS_ORIGINS", "KIJKO_GIT_*", "SMTP_*", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "KIJKO_MODEL_TIMEOUT", "KIJKO_LOCAL_MODEL", "KIJKO_LOCAL_MODEL_DELAY", "KIJKO_WORKER_SLOTS", "KIJKO_WORKER_MEMORY_MB",
			"KIJKO_LOG_LEVEL"} {
			require.ErrorContains(t, err, name+": ")
		}
	})
	t.Run("AnswersAreNeverMadeUpInProduction", func(t *testing.T) {
		c := Config{Config: worker.Config{LocalModel: "on"}}
		require.ErrorContains(t, c.Validate(), "KIJKO_LOCAL_MODEL: ")
		c.Debug = true
		require.NotContains(t, c.Validate().Error(), "KIJKO_LOCAL_MODEL: ")
	})
	t.Run("TheLocalModelIsForDevelopmentWithoutAnyKey", func(t *testing.T) {
		for _, one := range []struct {
			c    worker.Config
			want bool
		}{
			{worker.Config{LocalModel: "auto", Debug: true}, true},
			{worker.Config{LocalModel: "auto", Debug: true, AnthropicKey: "k"}, false},
			{worker.Config{LocalModel: "auto", Debug: true, GoogleKey: "k"}, false},
			{worker.Config{LocalModel: "on", Debug: true, GoogleKey: "k"}, true},
			{worker.Config{LocalModel: "off", Debug: true}, false},
			{worker.Config{LocalModel: "auto"}, false},
		} {
			require.Equal(t, one.want, one.c.Models().Local, "%+v", one.c)
		}
	})
	t.Run("GooglesKeyHasTwoNames", func(t *testing.T) {
		t.Setenv("GOOGLE_API_KEY", "second")
		c, err := Load()
		require.NoError(t, err)
		require.Equal(t, "second", c.Models().GoogleKey)
		t.Setenv("GEMINI_API_KEY", "first")
		c, err = Load()
		require.NoError(t, err)
		require.Equal(t, "first", c.Models().GoogleKey)
	})
	t.Run("AWrongTypeIsNamed", func(t *testing.T) {
		t.Setenv("KIJKO_DB_POOL", "many")
		_, err := Load()
		require.ErrorContains(t, err, "DatabasePool")
	})
}

func TestEncryptionKeysRotate(t *testing.T) {
	c := worker.Config{EncryptionKey: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=, YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="}
	keys, err := c.EncryptionKeys()
	require.NoError(t, err)
	require.Len(t, keys, 2)
}

func TestTableNamesEverySettingWithItsMeaning(t *testing.T) {
	for _, line := range strings.Split(strings.TrimSpace(Table()), "\n")[2:] {
		require.Regexp(t, "^\\| `[A-Z_]+` \\| .*\\| .+ \\|$", line)
	}
}

func TestOriginsAreComparedAsBrowsersWriteThem(t *testing.T) {
	for given, want := range map[string]string{
		"https://App.Kijko.nl/":    "https://app.kijko.nl",
		" https://app.kijko.nl":    "https://app.kijko.nl",
		"https://app.kijko.nl:443": "https://app.kijko.nl",
		"http://app.kijko.nl:80/":  "http://app.kijko.nl",
		"http://app.kijko.nl:443":  "http://app.kijko.nl:443",
		"http://app.kijko.nl:8080": "http://app.kijko.nl:8080",
		"http://localhost:*":       "http://localhost:*",
		"http://[::1]:80":          "http://[::1]",
	} {
		t.Setenv("CORS_ORIGINS", given)
		c, err := Load()
		require.NoError(t, err)
		require.Equal(t, []string{want}, c.Origins)
	}
}

func TestSocketOriginsIncludeTheInstallationItself(t *testing.T) {
	c := Config{Origins: []string{"https://app.kijko.nl"}, PublicURL: "https://kijko.nl/base", APIURL: "https://api.kijko.nl"}
	require.Equal(t, []string{"https://app.kijko.nl", "https://kijko.nl", "https://api.kijko.nl"}, c.SocketOrigins())
	require.Equal(t, []string{"https://kijko.nl"}, Config{PublicURL: "https://Kijko.nl:443/base"}.SocketOrigins())
	require.Equal(t, []string{"https://app.kijko.nl"}, c.Origins, "what may call the API is unchanged")
}

func TestThePublicAddressFollowsTheListeningOne(t *testing.T) {
	for _, c := range []struct{ setting, addr, listening, url string }{
		{"", "127.0.0.1:8000", "127.0.0.1:8000", "http://127.0.0.1:8000"},
		{"", "127.0.0.1:18177", "127.0.0.1:18177", "http://127.0.0.1:18177"},
		{"", "127.0.0.1:0", "127.0.0.1:41234", "http://127.0.0.1:41234"},
		{"", ":9000", "[::]:9000", "http://127.0.0.1:9000"},
		{"", "0.0.0.0:9000", "0.0.0.0:9000", "http://127.0.0.1:9000"},
		{"", "[::1]:9000", "[::1]:9000", "http://[::1]:9000"},
		{"", "localhost:9000", "127.0.0.1:9000", "http://127.0.0.1:9000"},
		{"https://kijko.nl", "127.0.0.1:18177", "127.0.0.1:18177", "https://kijko.nl"},
	} {
		t.Setenv("APP_URL", c.setting)
		t.Setenv("KIJKO_ADDR", c.addr)
		cfg, err := Load()
		require.NoError(t, err)
		cfg.ListenAt(c.listening)
		require.Equal(t, c.url, cfg.PublicURL, "APP_URL=%s KIJKO_ADDR=%s", c.setting, c.addr)
		require.Equal(t, c.listening, cfg.Addr)
	}
}
