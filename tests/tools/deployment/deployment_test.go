// Package deployment checks the files that start Kijko elsewhere: compose file, Keycloak realm, Supabase configuration. They cannot be run
// without a container engine, but faults that must never occur can be found by reading them: a secret with a default, a realm without PKCE,
// an exposed private schema.
package deployment

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", path))
	require.NoError(t, err)
	return text
}

type compose struct {
	Services map[string]struct {
		Image       string
		Build       any
		Environment map[string]string
		Ports       []string
		Healthcheck map[string]any
		Restart     string
		Profiles    []string
		DependsOn   map[string]any `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func loadCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	require.NoError(t, yaml.Unmarshal(read(t, "docker-compose.yml"), &c))
	return c
}

func TestCompose(t *testing.T) {
	c := loadCompose(t)

	t.Run("SecretsComeFromTheEnvironmentOrStopTheStart", func(t *testing.T) {
		secret := regexp.MustCompile(`PASSWORD|SECRET$|ENCRYPTION_KEY|_URL$|^SERVER$|^WORKER$`)
		literal := regexp.MustCompile(`://[^/:]*:[^$@][^@]*@`)
		for name, s := range c.Services {
			for key, value := range s.Environment {
				require.False(t, literal.MatchString(value), "%s.%s holds a password", name, key)
				if secret.MatchString(key) && !strings.HasSuffix(key, "_URL") {
					require.Regexp(t, `^\$\{[A-Z_]+:(\?.*|-)\}$`, value, "%s.%s", name, key)
				}
			}
		}
	})

	t.Run("ServicesThatStayAreCheckedAndRestarted", func(t *testing.T) {
		for name, s := range c.Services {
			if s.Restart == "no" || name == "tracing" { // one-shot; an image without a shell
				continue
			}
			require.Equal(t, "unless-stopped", s.Restart, name)
			require.True(t, s.Build != nil || len(s.Healthcheck) > 0, "%s has no health check", name)
		}
	})

	t.Run("NothingIsOpenToTheNetworkByItself", func(t *testing.T) {
		for name, s := range c.Services {
			for _, port := range s.Ports {
				require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s publishes %s", name, port)
			}
		}
	})

	t.Run("ImagesArePinned", func(t *testing.T) {
		for name, s := range c.Services {
			if s.Build == nil {
				require.Regexp(t, `:[^:]*\d`, s.Image, name)
				require.NotContains(t, s.Image, ":latest", name)
			}
		}
	})

	t.Run("DependenciesExist", func(t *testing.T) {
		names := slices.Collect(maps.Keys(c.Services))
		for name, s := range c.Services {
			for d := range s.DependsOn {
				require.Contains(t, names, d, name)
			}
		}
	})
}

type realm struct {
	Realm                string
	DefaultSignature     string `json:"defaultSignatureAlgorithm"`
	BruteForceProtected  bool   `json:"bruteForceProtected"`
	RegistrationAsEmail  bool   `json:"registrationEmailAsUsername"`
	AccessTokenLifespan  int    `json:"accessTokenLifespan"`
	RevokeRefreshToken   bool   `json:"revokeRefreshToken"`
	Roles                struct{ Realm []struct{ Name string } }
	Clients              []client
	IdentityProviders    []broker `json:"identityProviders"`
	Users                []struct{ Username string }
	RefreshTokenMaxReuse int `json:"refreshTokenMaxReuse"`
	bruteForce
}

type bruteForce struct {
	FailureFactor int `json:"failureFactor"`
	WaitIncrement int `json:"waitIncrementSeconds"`
	MaxWait       int `json:"maxFailureWaitSeconds"`
	MaxDelta      int `json:"maxDeltaTimeSeconds"`
	// Keycloak's default of a second locks after two wrong passwords typed quickly.
	QuickLogin *int `json:"quickLoginCheckMilliSeconds"`
}

type client struct {
	ClientID        string `json:"clientId"`
	Secret          *string
	PublicClient    bool     `json:"publicClient"`
	ImplicitFlow    bool     `json:"implicitFlowEnabled"`
	StandardFlow    bool     `json:"standardFlowEnabled"`
	RedirectURIs    []string `json:"redirectUris"`
	Attributes      map[string]string
	ProtocolMappers []struct {
		Mapper string `json:"protocolMapper"`
		Config map[string]string
	} `json:"protocolMappers"`
}

type broker struct {
	Alias   string
	Enabled string
	Config  map[string]string
}

func TestKeycloakRealm(t *testing.T) {
	var r realm
	require.NoError(t, json.Unmarshal(read(t, "server/keycloak/kijko-realm.json"), &r))
	require.Equal(t, "kijko", r.Realm)
	require.Equal(t, "RS256", r.DefaultSignature)
	require.True(t, r.BruteForceProtected)
	require.True(t, r.RegistrationAsEmail)
	require.LessOrEqual(t, r.AccessTokenLifespan, 3600)
	require.Equal(t, "platform_admin", r.Roles.Realm[0].Name)

	t.Run("ClientDemandsPKCEAndCarriesTheOrganization", func(t *testing.T) {
		require.Len(t, r.Clients, 1)
		c := r.Clients[0]
		require.Equal(t, "kijko-backend", c.ClientID)
		require.Nil(t, c.Secret, "a placeholder whose variable is missing would be a secret that everybody can read; without one Keycloak makes one up")
		require.False(t, c.PublicClient)
		require.False(t, c.ImplicitFlow)
		require.True(t, c.StandardFlow)
		require.Equal(t, "S256", c.Attributes["pkce.code.challenge.method"])
		for _, uri := range c.RedirectURIs {
			require.NotContains(t, uri, "*", "an open redirect")
		}
		claims := map[string]string{}
		for _, m := range c.ProtocolMappers {
			claims[m.Mapper] = m.Config["claim.name"] + m.Config["included.client.audience"]
		}
		require.Equal(t, map[string]string{
			"oidc-usermodel-attribute-mapper": "org_id", "oidc-audience-mapper": "kijko-backend",
		}, claims)
	})

	t.Run("TenFailuresWithinAQuarterOfAnHourLockForOne", func(t *testing.T) {
		require.Equal(t, bruteForce{FailureFactor: 10, WaitIncrement: 900, MaxWait: 900, MaxDelta: 900, QuickLogin: new(int)}, r.bruteForce)
	})

	t.Run("NoValueIsLeftAsItsPlaceholderUnnoticed", func(t *testing.T) {
		// Keycloak keeps a placeholder whose variable is unset. These two then make the import fail, because they are no URLs.
		loud := map[string]bool{"${APP_URL}": true, "${KIJKO_WEB_URL}": true}
		for _, m := range regexp.MustCompile(`\$\{[A-Z][A-Z_]*(:[^}]*)?\}`).FindAllStringSubmatch(string(read(t, "server/keycloak/kijko-realm.json")), -1) {
			require.True(t, loud[m[0]] || m[1] != "", "%s has no default", m[0])
		}
	})

	t.Run("BrokersAreOffUntilConfigured", func(t *testing.T) {
		var names []string
		for _, p := range r.IdentityProviders {
			names = append(names, p.Alias)
			upper := strings.ToUpper(p.Alias)
			require.Equal(t, "${"+upper+"_ENABLED:false}", p.Enabled)
			require.Equal(t, "${"+upper+"_CLIENT_SECRET:}", p.Config["clientSecret"])
		}
		require.Equal(t, []string{"google", "github"}, names)
	})

	t.Run("NobodyIsShippedButTheServiceAccount", func(t *testing.T) {
		require.Len(t, r.Users, 1)
		require.Equal(t, "service-account-kijko-backend", r.Users[0].Username)
	})

	t.Run("EveryPlaceholderIsGivenByTheComposeFile", func(t *testing.T) {
		given := loadCompose(t).Services["keycloak"].Environment
		placeholder := regexp.MustCompile(`\$\{([A-Z_]+)[:}]`)
		for _, m := range placeholder.FindAllStringSubmatch(string(read(t, "server/keycloak/kijko-realm.json")), -1) {
			require.Contains(t, given, m[1])
		}
	})
}

func TestSupabaseConfiguration(t *testing.T) {
	var c struct {
		API struct{ Schemas []string }
		DB  struct {
			MajorVersion int `toml:"major_version"`
			Seed         struct {
				SQLPaths []string `toml:"sql_paths"`
			}
		}
		Auth struct {
			JWTExpiry     int `toml:"jwt_expiry"`
			MinPassword   int `toml:"minimum_password_length"`
			ReuseInterval int `toml:"refresh_token_reuse_interval"`
		}
	}
	require.NoError(t, toml.Unmarshal(read(t, "supabase/config.toml"), &c))
	require.Equal(t, []string{"public", "api", "graphql_public"}, c.API.Schemas, "private and jobs are never exposed")
	require.Equal(t, 15, c.DB.MajorVersion)
	require.Equal(t, 8, c.Auth.MinPassword)
	require.Equal(t, 30, c.Auth.ReuseInterval)
	for _, path := range c.DB.Seed.SQLPaths {
		require.FileExists(t, filepath.Join("..", "..", "..", "supabase", path))
	}
}

func TestImage(t *testing.T) {
	text := string(read(t, "Dockerfile"))
	require.Contains(t, text, "\nUSER kijko\n")
	require.Contains(t, text, "\nHEALTHCHECK ")
	require.Regexp(t, `apt-get install [^\n]*\bgit\b`, text, "the worker clones with git")
	require.NotRegexp(t, `(?i)(ENV|ARG) [^\n]*(password|secret|key)=`, text)
}
