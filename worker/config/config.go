// Package config holds the settings that both programs read: environment variables, each with its meaning beside it. The worker needs no
// other settings; the server embeds them and adds the settings of the HTTP edge.
package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"kijko/worker/connections"
	"kijko/worker/embed"
	"kijko/worker/gitfetch"
	"kijko/worker/graph"
	"kijko/worker/integrations"
	"kijko/worker/keycloak"
	"kijko/worker/llm"
	"kijko/worker/mail"
	"kijko/worker/metering"
	"kijko/worker/neighbors"
	"kijko/worker/stripe"
	"kijko/worker/telemetry"
	"kijko/worker/vies"
	"kijko/worker/zulip"
)

// Config holds the settings of both programs. The tag `doc` is the text in docs/settings.md; `secret` marks values that are never shown.
type Config struct {
	DataDir string `env:"KIJKO_DATA_DIR" envDefault:".kijko" doc:"Folder for the private database, stored files and work in progress."`
	Debug   bool   `env:"DEBUG" envDefault:"false" doc:"Development: generated keys, cookies without Secure, readable logs. Never in production."`
	Version string `env:"APP_VERSION" envDefault:"1.0.0" doc:"Version shown by health checks."`

	Database       string        `env:"DATABASE_URL" secret:"true" doc:"Postgres, as kijko_server (with -dev: as the owner). Empty with -dev: a private cluster under KIJKO_DATA_DIR."`
	DatabaseWorker string        `env:"DATABASE_WORKER_URL" secret:"true" doc:"Postgres as kijko_worker, without a transaction pooler. Default: DATABASE_URL."`
	ShutdownGrace  time.Duration `env:"KIJKO_SHUTDOWN_GRACE" envDefault:"20s" doc:"Time that running requests and jobs get when the process stops."`

	EncryptionKey string `env:"ENCRYPTION_KEY" secret:"true" doc:"base64 of 32 random bytes for secrets at rest; several, separated by commas, the first encrypts. Required outside development."`

	KeycloakURL         string `env:"KEYCLOAK_URL" doc:"Base URL of Keycloak; empty: not used."`
	KeycloakInternalURL string `env:"KEYCLOAK_INTERNAL_URL" doc:"Where this server reaches Keycloak, if elsewhere."`
	KeycloakRealm       string `env:"KEYCLOAK_REALM" envDefault:"kijko" doc:"Realm."`
	KeycloakClientID    string `env:"KEYCLOAK_CLIENT_ID" envDefault:"kijko-backend" doc:"Client that tokens must be meant for."`
	KeycloakSecret      string `env:"KEYCLOAK_CLIENT_SECRET" secret:"true" doc:"Secret of that client, for sign-in through it and for its service account. Empty: neither."`

	StorageURL string `env:"KIJKO_STORAGE_URL" doc:"Where files go: file:///path or s3://bucket?... Default: a folder under KIJKO_DATA_DIR."`

	GitHub          string   `env:"KIJKO_GIT_GITHUB_URL" doc:"Base URL instead of https://github.com (GitHub Enterprise)."`
	GitLab          string   `env:"KIJKO_GIT_GITLAB_URL" doc:"Base URL instead of https://gitlab.com."`
	Bitbucket       string   `env:"KIJKO_GIT_BITBUCKET_URL" doc:"Base URL instead of https://bitbucket.org."`
	Azure           string   `env:"KIJKO_GIT_AZURE_URL" doc:"Base URL instead of https://dev.azure.com."`
	GitHosts        []string `env:"KIJKO_GIT_HOSTS" doc:"Further hosts as host=provider, separated by commas, such as git.example.nl=gitlab; host=provider@URL is contacted at the URL."`
	GitAllowPrivate bool     `env:"KIJKO_GIT_ALLOW_PRIVATE" envDefault:"false" doc:"Allow Git hosts, webhooks and MCP servers on private addresses."`

	IntegrationClients []string      `env:"KIJKO_INTEGRATION_CLIENTS" secret:"true" doc:"What this installation is at the providers of integrations: provider=id:secret, separated by commas, such as slack=123:abc. A provider without an entry answers 503."`
	IntegrationURLs    []string      `env:"KIJKO_INTEGRATION_URLS" doc:"Base URLs in place of providers' own hosts, separated by commas, such as gitlab=https://git.example.nl."`
	IntegrationTimeout time.Duration `env:"KIJKO_INTEGRATION_TIMEOUT" envDefault:"10s" doc:"Longest time for one request to the provider of an integration."`

	MCPRegistryURL string `env:"MCP_REGISTRY_URL" doc:"Registry of MCP servers that is synchronized each hour, such as https://registry.modelcontextprotocol.io. Empty: only the built-in list is offered."`
	MCPRegistryMax int    `env:"MCP_REGISTRY_MAX" envDefault:"500" doc:"How many servers of the registry are taken over."`

	GitHubID        string   `env:"KIJKO_GIT_GITHUB_CLIENT_ID" doc:"OAuth application at GitHub for connecting accounts; empty: none can be connected. Its callback is KIJKO_API_URL/api/v1/oauth/callback/github; the other providers' ends in their name."`
	GitHubSecret    string   `env:"KIJKO_GIT_GITHUB_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	GitHubAPI       string   `env:"KIJKO_GIT_GITHUB_API_URL" doc:"API of GitHub. Default: https://api.github.com, or /api/v3 below KIJKO_GIT_GITHUB_URL. /api/v1 below it for Gitea and Forgejo."`
	GitHubScopes    []string `env:"KIJKO_GIT_GITHUB_SCOPES" doc:"What is asked for, separated by commas. Default: repo,read:user; for Gitea and Forgejo read:user,read:repository."`
	GitLabID        string   `env:"KIJKO_GIT_GITLAB_CLIENT_ID" doc:"OAuth application at GitLab."`
	GitLabSecret    string   `env:"KIJKO_GIT_GITLAB_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	GitLabAPI       string   `env:"KIJKO_GIT_GITLAB_API_URL" doc:"API of GitLab. Default: /api/v4 below its base URL."`
	BitbucketID     string   `env:"KIJKO_GIT_BITBUCKET_CLIENT_ID" doc:"OAuth consumer at Bitbucket."`
	BitbucketSecret string   `env:"KIJKO_GIT_BITBUCKET_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	BitbucketAPI    string   `env:"KIJKO_GIT_BITBUCKET_API_URL" doc:"API of Bitbucket. Default: https://api.bitbucket.org/2.0, or /2.0 below KIJKO_GIT_BITBUCKET_URL."`
	AzureID         string   `env:"KIJKO_GIT_AZURE_CLIENT_ID" doc:"Application at Microsoft Entra ID with rights at Azure DevOps."`
	AzureSecret     string   `env:"KIJKO_GIT_AZURE_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	AzureAPI        string   `env:"KIJKO_GIT_AZURE_PROFILE_URL" doc:"Where Azure DevOps tells people's organizations. Default: https://app.vssps.visualstudio.com."`
	AzureLogin      string   `env:"KIJKO_GIT_AZURE_LOGIN_URL" doc:"Where Microsoft asks for consent, with the tenant. Default: https://login.microsoftonline.com/organizations."`
	GitRedirects    []string `env:"KIJKO_GIT_REDIRECTS" doc:"Further addresses, of pages of the frontend, that a consent at a Git provider may lead back to; exact, separated by commas."`

	OktaURL       string `env:"KIJKO_OKTA_URL" doc:"Address of an Okta organization whose groups may become members of projects; empty: none."`
	OktaID        string `env:"KIJKO_OKTA_CLIENT_ID" doc:"Application there, with the grants okta.groups.read and okta.users.read. Its callback ends in okta."`
	OktaSecret    string `env:"KIJKO_OKTA_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	AzureADID     string `env:"KIJKO_AZURE_AD_CLIENT_ID" doc:"Application at Microsoft Entra ID whose groups may become members of projects; empty: none. Its callback ends in azure_ad."`
	AzureADSecret string `env:"KIJKO_AZURE_AD_CLIENT_SECRET" secret:"true" doc:"Its secret."`
	AzureADLogin  string `env:"KIJKO_AZURE_AD_LOGIN_URL" doc:"Where Microsoft asks for consent, with the tenant. Default: https://login.microsoftonline.com/organizations."`
	GraphURL      string `env:"KIJKO_AZURE_AD_GRAPH_URL" doc:"Microsoft Graph. Default: https://graph.microsoft.com/v1.0."`

	SMTPHost     string `env:"SMTP_HOST" doc:"Mail server; empty: this installation sends no mail, and what needs it answers 503."`
	SMTPPort     int    `env:"SMTP_PORT" envDefault:"587" doc:"Its port."`
	SMTPUsername string `env:"SMTP_USERNAME" doc:"Login at the mail server; empty: none."`
	SMTPPassword string `env:"SMTP_PASSWORD" secret:"true" doc:"Password of that login."`
	SMTPFrom     string `env:"SMTP_FROM" doc:"Sender, such as Kijko <mail@example.nl>. Required with SMTP_HOST."`
	SMTPTLS      string `env:"SMTP_TLS" envDefault:"starttls" doc:"starttls, tls (encrypted from the start) or none (only for a server nearby, without a login)."`

	GraphBackend string `env:"GRAPH_BACKEND" envDefault:"postgres" doc:"Where knowledge graphs are kept: postgres, or besides Postgres also falkordb (which then answers reads) or graphiti (which only receives)."`
	FalkorDBURL  string `env:"FALKORDB_URL" secret:"true" doc:"FalkorDB, such as redis://user:password@falkordb:6379; required with GRAPH_BACKEND=falkordb."`
	GraphitiURL  string `env:"GRAPHITI_URL" doc:"Server of Graphiti; required with GRAPH_BACKEND=graphiti."`

	ZulipSite     string   `env:"ZULIP_SITE" doc:"Zulip, where ended ingestions and unattended runs of skills are announced; empty: none. The three names are those of Zulip's own client."`
	ZulipEmail    string   `env:"ZULIP_EMAIL" doc:"Address of the bot that writes there."`
	ZulipKey      string   `env:"ZULIP_API_KEY" secret:"true" doc:"Its key."`
	ZulipStream   string   `env:"ZULIP_STREAM" envDefault:"kijko" doc:"Stream (channel) that it writes to."`
	CXDBURL       string   `env:"CXDB_URL" doc:"HTTP port of cxdb, which gets the turns of runs of skills, such as http://cxdb:9010; empty: none."`
	LightningURL  string   `env:"AGENT_LIGHTNING_URL" doc:"Store of Agent-Lightning, which gets runs of skills as rollouts with spans, such as http://store:4747; empty: none."`
	NeighborTexts []string `env:"KIJKO_NEIGHBOR_TEXTS" doc:"Which of zulip, cxdb and lightning get texts of customers (names, inputs, answers, error messages), separated by commas. The others get ids and numbers only."`

	AnthropicKey    string        `env:"ANTHROPIC_API_KEY" secret:"true" doc:"Key at Anthropic for organizations without one of their own; empty: only those with one."`
	AnthropicURL    string        `env:"ANTHROPIC_BASE_URL" envDefault:"https://api.anthropic.com" doc:"Where Anthropic is reached."`
	GoogleKey       string        `env:"GEMINI_API_KEY" secret:"true" doc:"The same for Google's models. GOOGLE_API_KEY is another name for it."`
	GoogleURL       string        `env:"GOOGLE_GEMINI_BASE_URL" envDefault:"https://generativelanguage.googleapis.com" doc:"Where Google's models are reached."`
	ModelTimeout    time.Duration `env:"KIJKO_MODEL_TIMEOUT" envDefault:"120s" doc:"Longest time for one request to a model provider."`
	LocalModel      string        `env:"KIJKO_LOCAL_MODEL" envDefault:"auto" doc:"The labelled local model, which answers for providers without a key: on, off, or auto (on in development without any key). Refused in production."`
	EmbeddingKey    string        `env:"KIJKO_EMBEDDING_KEY" secret:"true" doc:"Key at a provider of embeddings; empty: the built-in embedder kijko-hash-256, which knows names but no meaning."`
	EmbeddingURL    string        `env:"KIJKO_EMBEDDING_URL" envDefault:"https://api.openai.com/v1" doc:"Base of the provider's API, which has OpenAI's operation embeddings."`
	LocalModelDelay time.Duration `env:"KIJKO_LOCAL_MODEL_DELAY" envDefault:"0s" doc:"How long the local model pretends to think."`

	Slots int `env:"KIJKO_WORKER_SLOTS" envDefault:"2" doc:"Ingestions that one worker runs at a time."`
	// Each run is a goroutine that waits for a provider; it holds no connection to the database.
	Executions int `env:"KIJKO_WORKER_EXECUTIONS" envDefault:"50" doc:"Runs of skills that one worker has in hand at a time."`

	MemoryMB int `env:"KIJKO_WORKER_MEMORY_MB" envDefault:"512" doc:"Soft memory limit of a worker process, which cleans up more often near it; GOMEMLIMIT goes first."`

	LogLevel string `env:"KIJKO_LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error."`
	Tracing  string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"OpenTelemetry collector (OTLP over HTTP) for the traces of requests and model calls; empty: none."`
	// The names are those of Langfuse's own SDKs.
	LangfuseURL         string `env:"LANGFUSE_BASE_URL" envDefault:"https://cloud.langfuse.com" doc:"Langfuse, which gets each call of a model with user, usage and cost."`
	LangfusePublicKey   string `env:"LANGFUSE_PUBLIC_KEY" doc:"Public key of a project at Langfuse; empty: Langfuse gets nothing."`
	LangfuseSecretKey   string `env:"LANGFUSE_SECRET_KEY" secret:"true" doc:"Its secret key."`
	LangfuseEnvironment string `env:"LANGFUSE_TRACING_ENVIRONMENT" doc:"Environment that Langfuse shows, such as staging; empty: its default."`
	TracingTexts        bool   `env:"KIJKO_TRACING_TEXTS" envDefault:"false" doc:"Send prompts and answers of models with their traces, to the collector and to Langfuse. They hold personal data and secrets of users."`

	StripePublishable string        `env:"STRIPE_PUBLISHABLE_KEY" doc:"Publishable key, which pages give to Stripe's elements."`
	StripeTimeout     time.Duration `env:"KIJKO_STRIPE_TIMEOUT" envDefault:"15s" doc:"Longest time for one request to Stripe."`
	VIESMode          string        `env:"VIES_MODE" envDefault:"live" doc:"Whether VAT numbers are checked with VIES: live, or offline, where form and check digits decide."`
	VIESURL           string        `env:"VIES_URL" envDefault:"https://ec.europa.eu/taxation_customs/vies/rest-api" doc:"Where VIES is reached."`
	VIESRequester     string        `env:"VIES_REQUESTER_NUMBER" doc:"The seller's own VAT number, such as NL123456789B01; with it each answer of VIES has a consultation number."`
	VATOSS            bool          `env:"VAT_OSS_ENABLED" envDefault:"false" doc:"The seller declares VAT of other EU states by the One Stop Shop, so consumers there pay the rate of their state."`

	StripeKey           string   `env:"STRIPE_SECRET_KEY" secret:"true" doc:"Secret key at Stripe, sk_... or rk_...; empty: what needs Stripe answers 503. Events for real money are ignored with a test key, and the other way round."`
	StripeBase          string   `env:"STRIPE_API_BASE" doc:"Where Stripe is reached; empty: Stripe's own address."`
	StripeProMonthly    string   `env:"STRIPE_PRICE_PRO_MONTHLY" doc:"Price at Stripe of a month of Pro, price_..."`
	StripeProAnnually   string   `env:"STRIPE_PRICE_PRO_ANNUALLY" doc:"The price of a year of Pro."`
	StripeTeamsMonthly  string   `env:"STRIPE_PRICE_TEAMS_MONTHLY" doc:"The price of a month of Teams."`
	StripeTeamsAnnually string   `env:"STRIPE_PRICE_TEAMS_ANNUALLY" doc:"The price of a year of Teams."`
	StripeContracts     []string `env:"STRIPE_PRICES_ENTERPRISE" doc:"Prices of contracts for Enterprise that are paid through Stripe, separated by commas, such as price_123=annually."`

	OpenMeterURL string `env:"OPENMETER_URL" doc:"OpenMeter, which gets a copy of each counted unit; empty: none."`
	OpenMeterKey string `env:"OPENMETER_API_KEY" secret:"true" doc:"Key there; empty: none is sent."`
}

// Load reads the environment. The result still needs Validate.
func Load() (Config, error) {
	var c Config
	if err := env.Parse(&c); err != nil {
		return c, fmt.Errorf("settings: %w", err)
	}
	c.Complete()
	return c, nil
}

// Complete fills settings that default to another setting.
func (c *Config) Complete() {
	if c.DatabaseWorker == "" {
		c.DatabaseWorker = c.Database
	}
	if c.GoogleKey == "" {
		c.GoogleKey = os.Getenv("GOOGLE_API_KEY")
	}
}

// Validate reports all faults at once, each with the name of its setting.
func (c Config) Validate() error {
	faults := c.Faults()
	if c.DatabaseWorker == "" {
		faults = append(faults, Fault("DATABASE_WORKER_URL", "is missing"))
	}
	return Join(faults)
}

// Fault is the error of one setting.
func Fault(name, format string, args ...any) error {
	return fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...))
}

// Join combines faults, in the order of their names.
func Join(faults []error) error {
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// FaultsOfURLs returns the faults of settings that must be web addresses if they are set.
func FaultsOfURLs(settings map[string]string) (faults []error) {
	for name, value := range settings {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			faults = append(faults, Fault(name, "must be an http or https URL"))
		}
	}
	return faults
}

// Faults returns the faults of these settings. A production start without its secrets is refused; there is no default secret.
func (c Config) Faults() []error {
	faults := FaultsOfURLs(map[string]string{"KEYCLOAK_URL": c.KeycloakURL, "KIJKO_GIT_GITHUB_URL": c.GitHub, "KIJKO_GIT_GITLAB_URL": c.GitLab,
		"KIJKO_GIT_BITBUCKET_URL": c.Bitbucket, "KIJKO_GIT_AZURE_URL": c.Azure, "ANTHROPIC_BASE_URL": c.AnthropicURL,
		"KIJKO_GIT_GITHUB_API_URL": c.GitHubAPI, "KIJKO_GIT_GITLAB_API_URL": c.GitLabAPI, "KIJKO_GIT_BITBUCKET_API_URL": c.BitbucketAPI,
		"KIJKO_GIT_AZURE_PROFILE_URL": c.AzureAPI, "KIJKO_GIT_AZURE_LOGIN_URL": c.AzureLogin, "KIJKO_OKTA_URL": c.OktaURL,
		"KIJKO_AZURE_AD_LOGIN_URL": c.AzureADLogin, "KIJKO_AZURE_AD_GRAPH_URL": c.GraphURL, "GOOGLE_GEMINI_BASE_URL": c.GoogleURL, "KIJKO_EMBEDDING_URL": c.EmbeddingURL, "OTEL_EXPORTER_OTLP_ENDPOINT": c.Tracing,
		"LANGFUSE_BASE_URL": c.LangfuseURL, "OPENMETER_URL": c.OpenMeterURL,
		"MCP_REGISTRY_URL": c.MCPRegistryURL, "STRIPE_API_BASE": c.StripeBase})
	fault := func(name, format string, args ...any) { faults = append(faults, Fault(name, format, args...)) }
	if !c.Debug && c.EncryptionKey == "" {
		fault("ENCRYPTION_KEY", "is missing; make one with: openssl rand -base64 32")
	}
	if _, err := c.EncryptionKeys(); err != nil {
		fault("ENCRYPTION_KEY", "%v", err)
	}
	if _, err := gitfetch.NewHosts(c.Hosts()); err != nil {
		fault("KIJKO_GIT_*", "%v", err)
	}
	for name, pair := range map[string][2]string{"KIJKO_GIT_GITHUB_CLIENT_SECRET": {c.GitHubID, c.GitHubSecret}, "KIJKO_GIT_GITLAB_CLIENT_SECRET": {c.GitLabID, c.GitLabSecret},
		"KIJKO_GIT_BITBUCKET_CLIENT_SECRET": {c.BitbucketID, c.BitbucketSecret}, "KIJKO_GIT_AZURE_CLIENT_SECRET": {c.AzureID, c.AzureSecret},
		"KIJKO_OKTA_CLIENT_SECRET": {c.OktaID, c.OktaSecret}, "KIJKO_AZURE_AD_CLIENT_SECRET": {c.AzureADID, c.AzureADSecret}} {
		if (pair[0] == "") != (pair[1] == "") {
			fault(name, "an application has both an id and a secret")
		}
	}
	for _, address := range c.GitRedirects {
		faults = append(faults, FaultsOfURLs(map[string]string{"KIJKO_GIT_REDIRECTS": address})...)
	}
	if _, err := c.Integrations(); err != nil {
		fault("KIJKO_INTEGRATION_*", "%v", err)
	}
	if c.IntegrationTimeout < time.Second/10 || c.IntegrationTimeout > time.Minute {
		fault("KIJKO_INTEGRATION_TIMEOUT", "must lie between 100ms and 1m")
	}
	if c.MCPRegistryMax < 1 || c.MCPRegistryMax > 10_000 {
		fault("MCP_REGISTRY_MAX", "must lie between 1 and 10000")
	}
	if c.SMTPHost != "" {
		if _, err := mail.New(c.Mail()); err != nil {
			fault("SMTP_*", "%v", err)
		}
	}
	if _, err := stripe.New(c.Stripe(), nil); err != nil {
		faults = append(faults, err)
	}
	if c.StripeTimeout < time.Second/10 || c.StripeTimeout > time.Minute {
		fault("KIJKO_STRIPE_TIMEOUT", "must lie between 100ms and 1m")
	}
	if _, err := graph.Open(c.Graph()); err != nil {
		faults = append(faults, err)
	}
	if (c.LangfusePublicKey == "") != (c.LangfuseSecretKey == "") {
		fault("LANGFUSE_SECRET_KEY", "a project at Langfuse has both a public and a secret key")
	}
	if e := c.LangfuseEnvironment; e != "" && (!environments.MatchString(e) || strings.HasPrefix(e, "langfuse")) {
		fault("LANGFUSE_TRACING_ENVIRONMENT", "must be at most 40 of a-z, 0-9, - and _, and not begin with langfuse")
	}
	if _, err := neighbors.Open(c.Neighbors()); err != nil {
		faults = append(faults, err)
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
	if _, err := vies.New(c.VIES(), nil); err != nil {
		faults = append(faults, err)
	}
	if _, err := c.StripePrices(); err != nil {
		faults = append(faults, err)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		fault("KIJKO_LOG_LEVEL", "must be debug, info, warn or error")
	}
	return faults
}

// environments is the form that Langfuse takes.
var environments = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)

// Telemetry returns the receivers of traces.
func (c Config) Telemetry() telemetry.Config {
	t := telemetry.Config{Collector: c.Tracing, Version: c.Version}
	if c.LangfusePublicKey != "" {
		t.Langfuse = &telemetry.Langfuse{URL: c.LangfuseURL, PublicKey: c.LangfusePublicKey, SecretKey: c.LangfuseSecretKey, Environment: c.LangfuseEnvironment}
	}
	return t
}

// IsTraced says whether calls of models are traced.
func (c Config) IsTraced() bool { return c.Tracing != "" || c.LangfusePublicKey != "" }

// VIES returns how VAT numbers are checked.
func (c Config) VIES() vies.Config {
	return vies.Config{Mode: c.VIESMode, URL: c.VIESURL, Requester: c.VIESRequester}
}

// IsStripeLive reports whether the key of Stripe is one for real money; nil without a key.
func (c Config) IsStripeLive() *bool {
	if c.StripeKey == "" {
		return nil
	}
	live := strings.Contains(c.StripeKey, "_live_")
	return &live
}

// StripePrice is a price at Stripe and what it pays for.
type StripePrice struct {
	Price    string `json:"price"`
	Plan     string `json:"plan"`
	Interval string `json:"interval"`
}

// StripePrices returns the prices that are set.
func (c Config) StripePrices() ([]StripePrice, error) {
	all := []StripePrice{{c.StripeProMonthly, "pro", "monthly"}, {c.StripeProAnnually, "pro", "annually"}, {c.StripeTeamsMonthly, "teams", "monthly"},
		{c.StripeTeamsAnnually, "teams", "annually"}}
	for _, entry := range c.StripeContracts {
		price, interval, _ := strings.Cut(entry, "=")
		if price == "" || (interval != "monthly" && interval != "annually") {
			return nil, Fault("STRIPE_PRICES_ENTERPRISE", "%q is not like price_123=annually", entry)
		}
		all = append(all, StripePrice{price, "enterprise", interval})
	}
	prices, seen := []StripePrice{}, map[string]bool{}
	for _, p := range all {
		if p.Price == "" {
			continue
		}
		if seen[p.Price] {
			return nil, Fault("STRIPE_PRICE_*", "%s is set twice", p.Price)
		}
		seen[p.Price] = true
		prices = append(prices, p)
	}
	return prices, nil
}

// Metering returns the receiver of units.
func (c Config) Metering() metering.Config {
	return metering.Config{URL: c.OpenMeterURL, Key: c.OpenMeterKey}
}

// Hosts returns the configuration of Git hosts.
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

// Connections returns the configuration of connected accounts.
func (c Config) Connections() connections.Config {
	return connections.Config{Hosts: c.Hosts(), OktaURL: c.OktaURL, GraphURL: c.GraphURL, Applications: map[string]connections.Application{
		"github":    {ClientID: c.GitHubID, ClientSecret: c.GitHubSecret, APIURL: c.GitHubAPI, Scopes: c.GitHubScopes},
		"gitlab":    {ClientID: c.GitLabID, ClientSecret: c.GitLabSecret, APIURL: c.GitLabAPI},
		"bitbucket": {ClientID: c.BitbucketID, ClientSecret: c.BitbucketSecret, APIURL: c.BitbucketAPI},
		"azure":     {ClientID: c.AzureID, ClientSecret: c.AzureSecret, APIURL: c.AzureAPI, LoginURL: c.AzureLogin},
		"okta":      {ClientID: c.OktaID, ClientSecret: c.OktaSecret},
		"azure_ad":  {ClientID: c.AzureADID, ClientSecret: c.AzureADSecret, LoginURL: c.AzureADLogin},
	}}
}

// HostProviders returns the hosts besides the providers' own, for the database's rule on repository addresses.
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

// Integrations returns the configuration of the providers of integrations.
func (c Config) Integrations() (integrations.Config, error) {
	return integrations.ParseConfig(c.IntegrationClients, c.IntegrationURLs)
}

// Graph returns where graphs are kept besides Postgres.
func (c Config) Graph() graph.Config {
	return graph.Config{Backend: c.GraphBackend, FalkorDB: c.FalkorDBURL, Graphiti: c.GraphitiURL}
}

// Neighbors returns the configuration of the neighbors that get deliveries of the outbox.
func (c Config) Neighbors() neighbors.Config {
	return neighbors.Config{Zulip: zulip.Config{Site: c.ZulipSite, Email: c.ZulipEmail, Key: c.ZulipKey, Stream: c.ZulipStream}, CXDB: c.CXDBURL,
		Lightning: c.LightningURL, Texts: c.NeighborTexts}
}

// Stripe returns the configuration of payments.
func (c Config) Stripe() stripe.Config {
	return stripe.Config{Secret: c.StripeKey, Publishable: c.StripePublishable, URL: c.StripeBase, Timeout: c.StripeTimeout, AllowPrivate: c.Debug || c.GitAllowPrivate}
}

// Mail returns the configuration of the mail server.
func (c Config) Mail() mail.Config {
	return mail.Config{Host: c.SMTPHost, Port: c.SMTPPort, Username: c.SMTPUsername, Password: c.SMTPPassword, From: c.SMTPFrom, TLS: c.SMTPTLS}
}

// Keycloak returns the configuration of the service account at Keycloak.
func (c Config) Keycloak() keycloak.Config {
	return keycloak.Config{URL: c.KeycloakURL, InternalURL: c.KeycloakInternalURL, Realm: c.KeycloakRealm, ClientID: c.KeycloakClientID,
		ClientSecret: c.KeycloakSecret}
}

// Models returns the configuration of model providers.
func (c Config) Models() llm.Config {
	local := c.LocalModel == "on" || c.LocalModel == "auto" && c.Debug && c.AnthropicKey == "" && c.GoogleKey == ""
	return llm.Config{Texts: c.TracingTexts && c.IsTraced(), AnthropicKey: c.AnthropicKey, AnthropicURL: c.AnthropicURL, GoogleKey: c.GoogleKey, GoogleURL: c.GoogleURL,
		Local: local, LocalDelay: c.LocalModelDelay}
}

// Embedding returns the configuration of the provider of embeddings.
func (c Config) Embedding() embed.Config {
	return embed.Config{URL: c.EmbeddingURL, Key: c.EmbeddingKey}
}

// Storage returns the address of the blob store; a relative data folder is made absolute.
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

// EncryptionKeys decodes ENCRYPTION_KEY; the first key encrypts, all keys decrypt.
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
