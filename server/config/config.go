// Package config holds the settings of the server: those that both programs read (worker/config), and those of the edge. They come from
// environment variables; each field has its meaning beside it. The table of docs/settings.md is printed from here (`go run ./server
// -settings`). Validate reports every fault at once.
package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	worker "kijko/worker/config"
)

// Config holds every setting. The tag `doc` is the text in docs/settings.md; `secret` marks values that are never shown.
type Config struct {
	Addr string `env:"KIJKO_ADDR" envDefault:"127.0.0.1:8000" doc:"Address to listen on."`
	// Metrics cover all tenants, so only operators may read them.
	MetricsAddr  string `env:"KIJKO_METRICS_ADDR" doc:"Address of a listener of its own for /metrics, for a private network. Empty: none."`
	MetricsToken string `env:"KIJKO_METRICS_TOKEN" secret:"true" doc:"Bearer token that opens /metrics on KIJKO_ADDR; at least 32 characters. Empty: 404 there."`

	DatabaseDirect string        `env:"DATABASE_DIRECT_URL" secret:"true" doc:"The same without a transaction pooler, for LISTEN. Default: DATABASE_URL."`
	DatabaseReads  []string      `env:"DATABASE_READ_URLS" secret:"true" doc:"Addresses of hot standbys that answer reads, separated by commas (docs/operations.md, Standbys). Empty: none."`
	DatabasePool   int           `env:"KIJKO_DB_POOL" envDefault:"0" doc:"Connections for requests; 0 is ten for each processor (reads use two of them at a time)."`
	DatabaseNames  bool          `env:"KIJKO_DB_PREPARED" envDefault:"true" doc:"Named prepared statements. Set false behind a transaction pooler that cannot keep them."`
	Timeout        time.Duration `env:"KIJKO_REQUEST_TIMEOUT" envDefault:"15s" doc:"Longest time for one request to the database."`

	PublicURL      string   `env:"APP_URL" doc:"Where people reach this installation; the issuer of built-in tokens. Default: http:// and KIJKO_ADDR."`
	APIURL         string   `env:"KIJKO_API_URL" doc:"Public origin of the API, which the addresses of webhooks begin with. Default: APP_URL."`
	Origins        []string `env:"CORS_ORIGINS" envDefault:"http://localhost:3000,https://app.kijko.nl" doc:"Origins of web pages that may call the API and open sockets; http://host:* stands for every port. -dev adds those of this machine."`
	TrustedProxies string   `env:"TRUSTED_PROXIES" doc:"Addresses or CIDR ranges whose X-Forwarded-For is believed."`
	PerCaller      int      `env:"KIJKO_RATE_PER_MINUTE" envDefault:"6000" doc:"Calls per minute and person on one process; 0 switches the limit off."`
	AuthRates      float64  `env:"KIJKO_AUTH_RATE_FACTOR" envDefault:"1" doc:"Multiplies the limits of the sign-in routes (tests and load runs)."`

	JWTPrivateKey string `env:"JWT_PRIVATE_KEY" secret:"true" doc:"PEM of an EC P-256 key that signs built-in tokens. Required outside development unless Keycloak or Supabase signs people in."`
	ServiceToken  string `env:"KIJKO_SERVICE_TOKEN" secret:"true" doc:"Opens the routes for external workers; at least 32 characters. Empty: closed."`

	AccessTTL            time.Duration `env:"KIJKO_ACCESS_TOKEN_TTL" envDefault:"1h" doc:"Life of an access token, 5 minutes to 1 hour."`
	SupabaseURL          string        `env:"SUPABASE_URL" doc:"Base URL of a Supabase project whose users may sign in; empty: not used."`
	SupabaseSecret       string        `env:"SUPABASE_JWT_SECRET" secret:"true" doc:"Secret of that project's HS256 tokens."`
	SupabaseConfirmation bool          `env:"SUPABASE_EMAILS_CONFIRMED" envDefault:"false" doc:"The Supabase project confirms e-mail addresses."`

	Google       bool `env:"GOOGLE_ENABLED" envDefault:"false" doc:"Sign-in with Google is on in Keycloak's realm, whose import reads the same setting."`
	GitHubSignIn bool `env:"GITHUB_ENABLED" envDefault:"false" doc:"The same for GitHub."`

	ExecutionWait time.Duration `env:"KIJKO_EXECUTION_WAIT" envDefault:"120s" doc:"How long a request waits for the end of the run that it started, or, at most 25 s, of its work on a context."`
	DataRegion    string        `env:"KIJKO_DATA_REGION" envDefault:"Unknown" doc:"Where the data of this installation is, as the compliance page shows it: region."`
	DataCountry   string        `env:"KIJKO_DATA_COUNTRY" envDefault:"Unknown" doc:"The country of it, such as Germany."`
	DataProvider  string        `env:"KIJKO_DATA_PROVIDER" envDefault:"Unknown" doc:"Whose machines they are, such as Hetzner."`
	ExecutionDays int           `env:"KIJKO_EXECUTION_DAYS" envDefault:"90" doc:"Days that the numbers of runs are kept, at least 90; their texts go after 30."`
	ContextDays   int           `env:"CONTEXT_TTL_DAYS" envDefault:"30" doc:"Days after which the newest ingestion of a context counts as expired."`
	TokenPrice    float64       `env:"TOKEN_PRICE_PER_MILLION_USD" envDefault:"10" doc:"Price of a million tokens, for the savings that compression shows."`

	StripeWebhookSecrets []string `env:"STRIPE_WEBHOOK_SECRET" secret:"true" doc:"Signing secret of the webhook at Stripe that delivers to /api/v1/webhooks/stripe; several, separated by commas, while one replaces another. Empty: the route answers 503."`
	SellerName           string   `env:"SELLER_NAME" doc:"The seller's name on what is kept of an invoice. Default: the name of the account at Stripe."`
	SellerAddress        string   `env:"SELLER_ADDRESS" doc:"The seller's address there; the VAT number is VIES_REQUESTER_NUMBER."`
	SellerKVK            string   `env:"SELLER_KVK_NUMBER" doc:"The seller's number at the Dutch chamber of commerce."`

	HypervisaURL     string        `env:"HYPERVISA_URL" doc:"Where HyperVisa is reached, such as http://hypervisa:8042; its paths begin with /api/hypervisa/. Empty: its routes answer 503."`
	HypervisaRoot    string        `env:"HYPERVISA_DIRECTORY_ROOT" doc:"Folder on HyperVisa's machine below which owners and admins may ingest directories. Empty: none."`
	HypervisaTimeout time.Duration `env:"KIJKO_HYPERVISA_TIMEOUT" envDefault:"120s" doc:"Longest time for one request to HyperVisa."`

	SocketsMax int `env:"KIJKO_SOCKETS_PER_USER" envDefault:"30" doc:"Open WebSockets per person."`

	// The settings that both programs read.
	worker.Config
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
	c.Complete()
	if c.PublicURL == "" {
		c.PublicURL = urlOf(c.Addr)
	}
	for i, origin := range c.Origins {
		c.Origins[i] = asOrigin(origin)
	}
	return c, nil
}

// ListenAt is called once the server has its port: the default of APP_URL follows from it.
func (c *Config) ListenAt(addr string) {
	if c.PublicURL == urlOf(c.Addr) {
		c.PublicURL = urlOf(addr)
	}
	c.Addr = addr
}

// urlOf returns a listening address as a URL for a browser on this machine. An address that means all addresses becomes the loopback
// address.
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

// AdmitLoopback allows pages of this machine to call and open sockets, from any port of their development server.
func (c *Config) AdmitLoopback() {
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		c.Origins = append(c.Origins, "http://"+host+":*", "https://"+host+":*")
	}
}

// Validate reports every fault at once, each by the name of its setting. A production start without its secrets is refused; there is no
// default secret.
func (c Config) Validate() error {
	faults := append(c.Faults(), worker.FaultsOfURLs(map[string]string{"APP_URL": c.PublicURL, "KIJKO_API_URL": c.APIURL, "SUPABASE_URL": c.SupabaseURL,
		"HYPERVISA_URL": c.HypervisaURL})...)
	fault := func(name, format string, args ...any) { faults = append(faults, worker.Fault(name, format, args...)) }
	if c.Database == "" {
		fault("DATABASE_URL", "is missing (development: start with -dev)")
	}
	if !c.Debug && c.JWTPrivateKey == "" && c.KeycloakURL == "" && c.SupabaseURL == "" {
		fault("JWT_PRIVATE_KEY", "is missing; make one with: openssl ecparam -genkey -name prime256v1 -noout")
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
	for _, origin := range c.Origins {
		if u, err := url.Parse(strings.TrimSuffix(origin, ":*")); err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || origin == "*" {
			fault("CORS_ORIGINS", "%q is no origin", origin)
		}
	}
	if c.ExecutionWait < 0 || c.ExecutionWait > 10*time.Minute {
		fault("KIJKO_EXECUTION_WAIT", "must lie between 0 and 10m")
	}
	if u, err := url.Parse(c.HypervisaURL); err == nil && (u.RawQuery != "" || u.Fragment != "") {
		fault("HYPERVISA_URL", "has neither a query nor a fragment")
	}
	if c.HypervisaRoot != "" && !strings.HasPrefix(c.HypervisaRoot, "/") {
		fault("HYPERVISA_DIRECTORY_ROOT", "must be an absolute path")
	}
	if c.HypervisaTimeout < time.Second/10 || c.HypervisaTimeout > 10*time.Minute {
		fault("KIJKO_HYPERVISA_TIMEOUT", "must lie between 100ms and 10m")
	}
	if c.ContextDays < 1 || c.ContextDays > 36500 {
		fault("CONTEXT_TTL_DAYS", "must lie between 1 and 36500")
	}
	if c.TokenPrice < 0 || c.TokenPrice > 1e6 {
		fault("TOKEN_PRICE_PER_MILLION_USD", "must lie between 0 and 1000000")
	}
	for _, secret := range c.StripeWebhookSecrets {
		if len(secret) < 16 {
			fault("STRIPE_WEBHOOK_SECRET", "is too short for a secret of Stripe")
		}
	}
	if c.ExecutionDays < 90 || c.ExecutionDays > 36500 {
		fault("KIJKO_EXECUTION_DAYS", "must be at least 90, because the statistics reach as far")
	}
	return worker.Join(faults)
}

// Origin returns the URL at which clients reach the API: KIJKO_API_URL, or else APP_URL.
func (c Config) Origin() string { return cmp.Or(c.APIURL, c.PublicURL) }

// PublicOrigin returns the origin of APP_URL.
func (c Config) PublicOrigin() string {
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return ""
	}
	return asOrigin(u.Scheme + "://" + u.Host)
}

// SocketOrigins are the sites that may open sockets: those that may call the API, and this installation itself under both of its addresses.
// Its own pages send that origin, and so do clients that send the address they connect to as their Origin (Python's websocket-client).
func (c Config) SocketOrigins() []string {
	origins := slices.Clone(c.Origins)
	for _, own := range []string{c.PublicURL, c.APIURL} {
		if u, err := url.Parse(own); err == nil && u.Host != "" {
			origins = append(origins, asOrigin(u.Scheme+"://"+u.Host))
		}
	}
	return origins
}

// asOrigin writes an address as browsers write origins, for comparison: in lower case, without a slash at the end and without the scheme's
// default port.
func asOrigin(text string) string {
	text = strings.ToLower(strings.TrimRight(strings.TrimSpace(text), "/"))
	for scheme, port := range map[string]string{"http://": ":80", "https://": ":443"} {
		if strings.HasPrefix(text, scheme) {
			text = strings.TrimSuffix(text, port)
		}
	}
	return text
}

// Table is the table of docs/settings.md, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if field.Anonymous {
			continue
		}
		value := field.Tag.Get("envDefault")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", field.Tag.Get("env"), value, field.Tag.Get("doc"))
	}
	return b.String()
}

// Seller is what invoices keep of the seller.
func (c Config) Seller() map[string]string {
	seller := map[string]string{}
	for name, value := range map[string]string{"name": c.SellerName, "address": c.SellerAddress, "kvkNumber": c.SellerKVK, "btwNumber": c.VIESRequester} {
		if value != "" {
			seller[name] = value
		}
	}
	return seller
}
