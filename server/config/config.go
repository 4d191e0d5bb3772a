// Package config is the one place where settings come from: environment variables, each with its meaning beside it. The table of
// docs/settings.md is printed from here (`go run ./server -settings`), and Validate names every fault at once.
package config

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"kijko/worker/gitfetch"
	"kijko/worker/keycloak"
	"kijko/worker/llm"
	"kijko/worker/mail"
)

// Config is every setting. The tag `doc` is what docs/settings.md says; `secret` marks what is never shown.
type Config struct {
	Addr    string `env:"KIJKO_ADDR" envDefault:"127.0.0.1:8000" doc:"Address to listen on."`
	DataDir string `env:"KIJKO_DATA_DIR" envDefault:".kijko" doc:"Folder for the private database, stored files and work in progress."`
	Debug   bool   `env:"DEBUG" envDefault:"false" doc:"Development: generated keys, cookies without Secure, readable logs. Never in production."`
	// Numbers of all tenants are for operators alone.
	MetricsAddr  string `env:"KIJKO_METRICS_ADDR" doc:"Address of a listener of its own for /metrics, for a private network. Empty: none."`
	MetricsToken string `env:"KIJKO_METRICS_TOKEN" secret:"true" doc:"Bearer token that opens /metrics on KIJKO_ADDR; at least 32 characters. Empty: 404 there."`
	Version      string `env:"APP_VERSION" envDefault:"1.0.0" doc:"Version shown by health checks."`

	Database       string        `env:"DATABASE_URL" secret:"true" doc:"Postgres, as kijko_server (with -dev: as the owner). Empty with -dev: a private cluster under KIJKO_DATA_DIR."`
	DatabaseDirect string        `env:"DATABASE_DIRECT_URL" secret:"true" doc:"The same without a transaction pooler, for LISTEN. Default: DATABASE_URL."`
	DatabaseWorker string        `env:"DATABASE_WORKER_URL" secret:"true" doc:"Postgres as kijko_worker, without a transaction pooler. Default: DATABASE_URL."`
	DatabasePool   int           `env:"KIJKO_DB_POOL" envDefault:"0" doc:"Connections for requests; 0 is ten for each processor (reads use two of them at a time)."`
	DatabaseNames  bool          `env:"KIJKO_DB_PREPARED" envDefault:"true" doc:"Named prepared statements. Set false behind a transaction pooler that cannot keep them."`
	Timeout        time.Duration `env:"KIJKO_REQUEST_TIMEOUT" envDefault:"15s" doc:"Longest time for one request to the database."`
	ShutdownGrace  time.Duration `env:"KIJKO_SHUTDOWN_GRACE" envDefault:"20s" doc:"Time that running requests and jobs get when the process stops."`

	PublicURL      string   `env:"APP_URL" doc:"Where people reach this installation; the issuer of built-in tokens. Default: http:// and KIJKO_ADDR."`
	APIURL         string   `env:"KIJKO_API_URL" doc:"Public origin of the API, which the addresses of webhooks begin with. Default: APP_URL."`
	Origins        []string `env:"CORS_ORIGINS" envDefault:"http://localhost:3000,https://app.kijko.nl" doc:"Origins of web pages that may call the API and open sockets; http://host:* stands for every port. -dev adds those of this machine."`
	TrustedProxies string   `env:"TRUSTED_PROXIES" doc:"Addresses or CIDR ranges whose X-Forwarded-For is believed."`
	PerCaller      int      `env:"KIJKO_RATE_PER_MINUTE" envDefault:"6000" doc:"Calls per minute and person on one process; 0 switches the limit off."`
	AuthRates      float64  `env:"KIJKO_AUTH_RATE_FACTOR" envDefault:"1" doc:"Multiplies the limits of the sign-in routes (tests and load runs)."`

	EncryptionKey string `env:"ENCRYPTION_KEY" secret:"true" doc:"base64 of 32 random bytes for secrets at rest; several, separated by commas, the first encrypts. Required outside development."`
	JWTPrivateKey string `env:"JWT_PRIVATE_KEY" secret:"true" doc:"PEM of an EC P-256 key that signs built-in tokens. Required outside development unless Keycloak or Supabase signs people in."`
	ServiceToken  string `env:"KIJKO_SERVICE_TOKEN" secret:"true" doc:"Opens the routes for external workers; at least 32 characters. Empty: closed."`

	AccessTTL            time.Duration `env:"KIJKO_ACCESS_TOKEN_TTL" envDefault:"1h" doc:"Life of an access token, 5 minutes to 1 hour."`
	KeycloakURL          string        `env:"KEYCLOAK_URL" doc:"Base URL of Keycloak; empty: not used."`
	KeycloakInternalURL  string        `env:"KEYCLOAK_INTERNAL_URL" doc:"Where this server reaches Keycloak, if elsewhere."`
	KeycloakRealm        string        `env:"KEYCLOAK_REALM" envDefault:"kijko" doc:"Realm."`
	KeycloakClientID     string        `env:"KEYCLOAK_CLIENT_ID" envDefault:"kijko-backend" doc:"Client that tokens must be meant for."`
	KeycloakSecret       string        `env:"KEYCLOAK_CLIENT_SECRET" secret:"true" doc:"Secret of that client, which its service account ends sessions with. Empty: signing out leaves Keycloak's session as it is."`
	SupabaseURL          string        `env:"SUPABASE_URL" doc:"Base URL of a Supabase project whose users may sign in; empty: not used."`
	SupabaseSecret       string        `env:"SUPABASE_JWT_SECRET" secret:"true" doc:"Secret of that project's HS256 tokens."`
	SupabaseConfirmation bool          `env:"SUPABASE_EMAILS_CONFIRMED" envDefault:"false" doc:"The Supabase project confirms e-mail addresses."`

	StorageURL string `env:"KIJKO_STORAGE_URL" doc:"Where files go: file:///path or s3://bucket?... Default: a folder under KIJKO_DATA_DIR."`

	GitHub          string   `env:"KIJKO_GIT_GITHUB_URL" doc:"Base URL instead of https://github.com (GitHub Enterprise)."`
	GitLab          string   `env:"KIJKO_GIT_GITLAB_URL" doc:"Base URL instead of https://gitlab.com."`
	Bitbucket       string   `env:"KIJKO_GIT_BITBUCKET_URL" doc:"Base URL instead of https://bitbucket.org."`
	Azure           string   `env:"KIJKO_GIT_AZURE_URL" doc:"Base URL instead of https://dev.azure.com."`
	GitHosts        []string `env:"KIJKO_GIT_HOSTS" doc:"Further hosts as host=provider, separated by commas, such as git.example.nl=gitlab; host=provider@URL is contacted at the URL."`
	GitAllowPrivate bool     `env:"KIJKO_GIT_ALLOW_PRIVATE" envDefault:"false" doc:"Allow Git hosts and webhooks on private addresses."`

	SMTPHost     string `env:"SMTP_HOST" doc:"Mail server; empty: this installation sends no mail, and what needs it answers 503."`
	SMTPPort     int    `env:"SMTP_PORT" envDefault:"587" doc:"Its port."`
	SMTPUsername string `env:"SMTP_USERNAME" doc:"Login at the mail server; empty: none."`
	SMTPPassword string `env:"SMTP_PASSWORD" secret:"true" doc:"Password of that login."`
	SMTPFrom     string `env:"SMTP_FROM" doc:"Sender, such as Kijko <mail@example.nl>. Required with SMTP_HOST."`
	SMTPTLS      string `env:"SMTP_TLS" envDefault:"starttls" doc:"starttls, tls (encrypted from the start) or none (only for a server nearby, without a login)."`

	AnthropicKey    string        `env:"ANTHROPIC_API_KEY" secret:"true" doc:"Key at Anthropic for organizations without one of their own; empty: only those with one."`
	AnthropicURL    string        `env:"ANTHROPIC_BASE_URL" envDefault:"https://api.anthropic.com" doc:"Where Anthropic is reached."`
	GoogleKey       string        `env:"GEMINI_API_KEY" secret:"true" doc:"The same for Google's models. GOOGLE_API_KEY is another name for it."`
	GoogleURL       string        `env:"GOOGLE_GEMINI_BASE_URL" envDefault:"https://generativelanguage.googleapis.com" doc:"Where Google's models are reached."`
	ModelTimeout    time.Duration `env:"KIJKO_MODEL_TIMEOUT" envDefault:"120s" doc:"Longest time for one request to a model provider."`
	LocalModel      string        `env:"KIJKO_LOCAL_MODEL" envDefault:"auto" doc:"The labelled local model, which answers for providers without a key: on, off, or auto (on in development without any key). Refused in production."`
	LocalModelDelay time.Duration `env:"KIJKO_LOCAL_MODEL_DELAY" envDefault:"0s" doc:"How long the local model pretends to think."`

	Slots int `env:"KIJKO_WORKER_SLOTS" envDefault:"2" doc:"Ingestions that one worker runs at a time."`
	// Each run in hand is a goroutine that waits for a provider; it holds no connection to the database.
	Executions    int           `env:"KIJKO_WORKER_EXECUTIONS" envDefault:"50" doc:"Runs of skills that one worker has in hand at a time."`
	ExecutionWait time.Duration `env:"KIJKO_EXECUTION_WAIT" envDefault:"120s" doc:"How long a request waits for the end of the run that it started."`
	ExecutionDays int           `env:"KIJKO_EXECUTION_DAYS" envDefault:"90" doc:"Days that the numbers of runs are kept, at least 90; their texts go after 30."`

	MemoryMB   int `env:"KIJKO_WORKER_MEMORY_MB" envDefault:"512" doc:"Soft memory limit of a worker process, which cleans up more often near it; GOMEMLIMIT goes first."`
	SocketsMax int `env:"KIJKO_SOCKETS_PER_USER" envDefault:"30" doc:"Open WebSockets per person."`

	LogLevel string `env:"KIJKO_LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error."`
	Tracing  string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"OpenTelemetry collector (OTLP over HTTP); empty: no traces."`
}

// Load reads the environment. The result still needs Validate.
func Load() (Config, error) {
	var c Config
	if err := env.Parse(&c); err != nil {
		return c, fmt.Errorf("settings: %w", err)
	}
	if c.DatabaseDirect == "" {
		c.DatabaseDirect = c.Database
	}
	if c.DatabaseWorker == "" {
		c.DatabaseWorker = c.Database
	}
	if c.GoogleKey == "" {
		c.GoogleKey = os.Getenv("GOOGLE_API_KEY")
	}
	if c.PublicURL == "" {
		c.PublicURL = urlOf(c.Addr)
	}
	return c, nil
}

// ListenAt is said once the server has its port: the default of APP_URL follows it.
func (c *Config) ListenAt(addr string) {
	if c.PublicURL == urlOf(c.Addr) {
		c.PublicURL = urlOf(addr)
	}
	c.Addr = addr
}

// urlOf is how a browser on this machine writes a listening address; one that stands for all addresses becomes the loopback one.
func urlOf(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// AdmitLoopback lets pages of this machine call and open sockets, whatever port their development server listens on.
func (c *Config) AdmitLoopback() {
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		c.Origins = append(c.Origins, "http://"+host+":*", "https://"+host+":*")
	}
}

// Validate reports every fault at once, each by the name of its setting. A production start without its secrets is refused; there
// is no default secret.
func (c Config) Validate() error {
	var faults []error
	fault := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
	}
	if c.Database == "" {
		fault("DATABASE_URL", "is missing (development: start with -dev)")
	}
	if !c.Debug {
		if c.EncryptionKey == "" {
			fault("ENCRYPTION_KEY", "is missing; make one with: openssl rand -base64 32")
		}
		if c.JWTPrivateKey == "" && c.KeycloakURL == "" && c.SupabaseURL == "" {
			fault("JWT_PRIVATE_KEY", "is missing; make one with: openssl ecparam -genkey -name prime256v1 -noout")
		}
	}
	if _, err := c.EncryptionKeys(); err != nil {
		fault("ENCRYPTION_KEY", "%v", err)
	}
	for name, token := range map[string]string{"KIJKO_SERVICE_TOKEN": c.ServiceToken, "KIJKO_METRICS_TOKEN": c.MetricsToken} {
		if token != "" && len(token) < 32 {
			fault(name, "needs at least 32 characters")
		}
	}
	if c.AccessTTL < 5*time.Minute || c.AccessTTL > time.Hour {
		fault("KIJKO_ACCESS_TOKEN_TTL", "must lie between 5m and 1h")
	}
	if _, err := netip.ParseAddrPort(c.Addr); err != nil && !strings.Contains(c.Addr, ":") {
		fault("KIJKO_ADDR", "must be host:port")
	}
	if _, _, err := net.SplitHostPort(c.MetricsAddr); c.MetricsAddr != "" && err != nil {
		fault("KIJKO_METRICS_ADDR", "must be host:port")
	}
	for name, value := range map[string]string{"APP_URL": c.PublicURL, "KIJKO_API_URL": c.APIURL, "KEYCLOAK_URL": c.KeycloakURL, "SUPABASE_URL": c.SupabaseURL,
		"KIJKO_GIT_GITHUB_URL": c.GitHub, "KIJKO_GIT_GITLAB_URL": c.GitLab, "KIJKO_GIT_BITBUCKET_URL": c.Bitbucket,
		"KIJKO_GIT_AZURE_URL": c.Azure, "ANTHROPIC_BASE_URL": c.AnthropicURL, "GOOGLE_GEMINI_BASE_URL": c.GoogleURL, "OTEL_EXPORTER_OTLP_ENDPOINT": c.Tracing} {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			fault(name, "must be an http or https URL")
		}
	}
	for _, origin := range c.Origins {
		if u, err := url.Parse(strings.TrimSuffix(origin, ":*")); err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || origin == "*" {
			fault("CORS_ORIGINS", "%q is no origin", origin)
		}
	}
	if _, err := gitfetch.NewHosts(c.Hosts()); err != nil {
		fault("KIJKO_GIT_*", "%v", err)
	}
	if c.SMTPHost != "" {
		if _, err := mail.New(c.Mail()); err != nil {
			fault("SMTP_*", "%v", err)
		}
	}
	switch {
	case !slices.Contains([]string{"", "auto", "on", "off"}, c.LocalModel):
		fault("KIJKO_LOCAL_MODEL", "must be auto, on or off")
	case c.LocalModel == "on" && !c.Debug:
		fault("KIJKO_LOCAL_MODEL", "answers are never made up in production; configure a provider's key")
	}
	if c.ModelTimeout < time.Second || c.ModelTimeout > 10*time.Minute {
		fault("KIJKO_MODEL_TIMEOUT", "must lie between 1s and 10m")
	}
	if c.LocalModelDelay < 0 || c.LocalModelDelay > time.Hour {
		fault("KIJKO_LOCAL_MODEL_DELAY", "must lie between 0 and 1h")
	}
	if c.Slots < 1 || c.Slots > 64 {
		fault("KIJKO_WORKER_SLOTS", "must lie between 1 and 64")
	}
	if c.MemoryMB < 128 {
		fault("KIJKO_WORKER_MEMORY_MB", "must be at least 128")
	}
	if c.Executions < 1 || c.Executions > 1000 {
		fault("KIJKO_WORKER_EXECUTIONS", "must lie between 1 and 1000")
	}
	if c.ExecutionWait < 0 || c.ExecutionWait > 10*time.Minute {
		fault("KIJKO_EXECUTION_WAIT", "must lie between 0 and 10m")
	}
	if c.ExecutionDays < 90 || c.ExecutionDays > 36500 {
		fault("KIJKO_EXECUTION_DAYS", "must be at least 90, because the statistics reach as far")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		fault("KIJKO_LOG_LEVEL", "must be debug, info, warn or error")
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// ValidateWorker is Validate for the worker, which signs nobody in.
func (c Config) ValidateWorker() error {
	c.Database = c.DatabaseWorker
	if c.JWTPrivateKey == "" {
		c.JWTPrivateKey = "unused"
	}
	return c.Validate()
}

// Origin is where clients reach the API: KIJKO_API_URL, or else APP_URL.
func (c Config) Origin() string { return cmp.Or(c.APIURL, c.PublicURL) }

// SocketOrigins are the sites that may open sockets: those that may call the API, and this installation itself under both of its addresses. Its
// own pages say so, and so do clients that name where they go to as their Origin (Python's websocket-client).
func (c Config) SocketOrigins() []string {
	origins := slices.Clone(c.Origins)
	for _, own := range []string{c.PublicURL, c.APIURL} {
		if u, err := url.Parse(own); err == nil && u.Host != "" {
			origins = append(origins, u.Scheme+"://"+u.Host)
		}
	}
	return origins
}

// Hosts is what the settings say about Git hosts.
func (c Config) Hosts() gitfetch.HostConfig {
	hosts := gitfetch.HostConfig{AllowPrivate: c.GitAllowPrivate, Extra: map[string]gitfetch.Provider{}, Aliases: map[string]string{},
		BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: c.GitHub, gitfetch.GitLab: c.GitLab, gitfetch.Bitbucket: c.Bitbucket,
			gitfetch.Azure: c.Azure}}
	for _, entry := range c.GitHosts {
		host, rest, _ := strings.Cut(entry, "=")
		provider, alias, _ := strings.Cut(rest, "@")
		hosts.Extra[host] = gitfetch.Provider(provider)
		if alias != "" {
			hosts.Aliases[host] = alias
		}
	}
	return hosts
}

// HostProviders names the hosts beyond the providers' own, for the database's rule on repository addresses.
func (c Config) HostProviders() map[string]string {
	hosts := map[string]string{}
	for host, provider := range c.Hosts().Extra {
		hosts[host] = string(provider)
	}
	for provider, base := range c.Hosts().BaseURLs {
		if u, err := url.Parse(base); base != "" && err == nil {
			hosts[strings.ToLower(u.Host)] = string(provider)
		}
	}
	return hosts
}

// Mail is what the settings say about the mail server.
func (c Config) Mail() mail.Config {
	return mail.Config{Host: c.SMTPHost, Port: c.SMTPPort, Username: c.SMTPUsername, Password: c.SMTPPassword, From: c.SMTPFrom, TLS: c.SMTPTLS}
}

// Keycloak is what the settings say about the service account at Keycloak.
func (c Config) Keycloak() keycloak.Config {
	return keycloak.Config{URL: c.KeycloakURL, InternalURL: c.KeycloakInternalURL, Realm: c.KeycloakRealm, ClientID: c.KeycloakClientID,
		ClientSecret: c.KeycloakSecret}
}

// Models is what the settings say about model providers.
func (c Config) Models() llm.Config {
	local := c.LocalModel == "on" || c.LocalModel == "auto" && c.Debug && c.AnthropicKey == "" && c.GoogleKey == ""
	return llm.Config{AnthropicKey: c.AnthropicKey, AnthropicURL: c.AnthropicURL, GoogleKey: c.GoogleKey, GoogleURL: c.GoogleURL,
		Local: local, LocalDelay: c.LocalModelDelay}
}

// Storage is the address of the blob store; a relative data folder is made absolute.
func (c Config) Storage() string {
	if c.StorageURL != "" {
		return c.StorageURL
	}
	folder, err := filepath.Abs(filepath.Join(c.DataDir, "files"))
	if err != nil {
		folder = filepath.Join(c.DataDir, "files")
	}
	return "file://" + filepath.ToSlash(folder)
}

// EncryptionKeys decodes ENCRYPTION_KEY; the first encrypts, all decrypt.
func (c Config) EncryptionKeys() ([][]byte, error) {
	var keys [][]byte
	for _, text := range strings.Split(c.EncryptionKey, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != 32 {
			return nil, errors.New("each key must be base64 of 32 bytes; make one with: openssl rand -base64 32")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Table is the table of docs/settings.md, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		value := tag.Get("envDefault")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", tag.Get("env"), value, tag.Get("doc"))
	}
	return b.String()
}
