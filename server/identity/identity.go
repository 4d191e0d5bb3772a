package identity

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/openapi"
	"kijko/server/security"
)

// sessionRefreshes is how many times a session may refresh in a minute (contract 40, 1.9).
const sessionRefreshes = 30

// Deps are the dependencies of Identity. Exec, Pool, Verifier and Hasher are required. Without Issuer there is no sign-in with a password:
// an external provider signs users in.
type Deps struct {
	Exec     *api.Executor
	Pool     *pgxpool.Pool
	Verifier *auth.Verifier
	Issuer   *auth.Issuer
	Hasher   *auth.Hasher
	Cookies  *auth.Cookies
	// Codes checks second factors; nil without an encryption key.
	Codes *security.Codes
	// SealKey protects stored answers of public routes; 32 bytes, required with Issuer.
	SealKey []byte
	// InsecureCookies omits the attribute Secure: development without TLS.
	InsecureCookies bool
	// Provider is Keycloak; nil when it is not used or no client secret is configured.
	Provider Provider
	// Brokers are the providers (google, github) that are enabled at Keycloak.
	Brokers map[string]bool
	// Origins are the sites that sign-in at a provider may return to. CallbackURL is the default page to return to.
	Origins     api.Origins
	CallbackURL string
	// RateFactor multiplies the limits per session and per address, as ScaleRates does the others; 0 is 1.
	RateFactor float64
	Log        *slog.Logger
}

// Provider signs users in through a broker and ends their sessions there (*keycloak.Admin is one).
type Provider interface {
	Issuer() string
	EndSession(ctx context.Context, sid string) error
	SignInURL(broker, redirectURI, state, verifier string) string
	Exchange(ctx context.Context, code, redirectURI, verifier string) (accessToken string, err error)
}

// Identity answers the sign-in routes and implements api.Authenticator.
type Identity struct {
	exec            *api.Executor
	verifier        *auth.Verifier
	issuer          *auth.Issuer
	hasher          *auth.Hasher
	cookies         *auth.Cookies
	codes           *security.Codes
	sealKey         []byte
	insecureCookies bool
	sessionLimit    int
	linkLimit       int
	provider        Provider
	brokers         map[string]bool
	origins         api.Origins
	callbackURL     string
	callers         *callers
	toucher         *Toucher
	log             *slog.Logger
}

var (
	_ api.Authenticator       = (*Identity)(nil)
	_ api.CookieAuthenticator = (*Identity)(nil)
)

// New checks that the dependencies fit together.
func New(deps Deps) (*Identity, error) {
	if deps.Exec == nil || deps.Pool == nil || deps.Verifier == nil || deps.Hasher == nil {
		return nil, errors.New("identity: Exec, Pool, Verifier and Hasher are required")
	}
	if deps.Issuer != nil && (deps.Cookies == nil || len(deps.SealKey) != 32) {
		return nil, errors.New("identity: an issuer needs Cookies and a SealKey of 32 bytes")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.RateFactor == 0 {
		deps.RateFactor = 1
	}
	return &Identity{
		exec: deps.Exec, verifier: deps.Verifier, issuer: deps.Issuer, hasher: deps.Hasher, cookies: deps.Cookies, codes: deps.Codes, sealKey: deps.SealKey,
		insecureCookies: deps.InsecureCookies, sessionLimit: scaled(sessionRefreshes, deps.RateFactor),
		linkLimit: scaled(linkRequests, deps.RateFactor), provider: deps.Provider, brokers: deps.Brokers, origins: deps.Origins, callbackURL: deps.CallbackURL, callers: newCallers(maxCallers), toucher: NewToucher(deps.Pool, deps.Log), log: deps.Log,
	}, nil
}

// Handlers returns the operations of identity that are answered in Go, by operationId.
func (i *Identity) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"signUp": i.builtin(i.signUp), "logIn": i.builtin(i.logIn), "proveSecondFactor": i.builtin(i.proveSecondFactor), "refreshSession": i.builtin(i.refreshSession),
		"switchOrganization": i.builtin(i.switchOrganization), "logOut": i.logOut,
		"forgotPassword": i.builtin(i.forgotPassword), "resetPassword": i.builtin(i.resetPassword), "requestMagicLink": i.builtin(i.requestMagicLink),
		"verifyMagicLink": i.builtin(i.verifyMagicLink), "changePassword": i.builtin(i.changePassword), "startOAuth": i.builtin(i.startOAuth), "finishOAuth": i.builtin(i.finishOAuth),
	}
}

// builtin refuses a request when no built-in issuer is configured.
func (i *Identity) builtin(next api.Handler) api.Handler {
	return func(c *api.Call) error {
		if i.issuer == nil {
			return notConfigured("builtin", "On this installation people sign in with an identity provider.")
		}
		return next(c)
	}
}

// Mount registers the discovery document and the key set of the built-in issuer.
func (i *Identity) Mount(app *fiber.App) {
	if i.issuer == nil {
		return
	}
	for path, document := range map[string][]byte{auth.DiscoveryPath: i.issuer.Discovery(), auth.JWKSPath: i.issuer.JWKS()} {
		app.Get(path, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentType, "application/json")
			c.Set(fiber.HeaderCacheControl, "public, max-age=300")
			return c.Send(document)
		})
	}
}

// Hasher returns the hasher of passwords. All its users share one queue.
func (i *Identity) Hasher() *auth.Hasher { return i.hasher }

// Issuer returns the signer of this installation's tokens; nil when an external provider signs them.
func (i *Identity) Issuer() *auth.Issuer { return i.issuer }

// Verifier returns the verifier that Authenticate uses first.
func (i *Identity) Verifier() *auth.Verifier { return i.verifier }

// Run writes last_active_at until ctx ends, and then the remaining entries.
func (i *Identity) Run(ctx context.Context) { i.toucher.Run(ctx) }

// Close cancels running key fetches.
func (i *Identity) Close() { i.verifier.Close() }

// ScaleRates gives the document with other limits that all processes share for signing in and for protecting accounts (those of 15 minutes,
// and those open to restricted sessions): multiplied, and never below one call. The document itself belongs to the whole process.
func ScaleRates(document *openapi.Document, factor float64) *openapi.Document {
	scaledDocument := *document
	scaledDocument.Operations = slices.Clone(document.Operations)
	for i, op := range scaledDocument.Operations {
		if op.SharedRate != nil && (op.Access == openapi.Public || op.Unrestricted || op.SharedRate.Per >= 900) {
			changed, rate := *op, *op.SharedRate
			rate.Limit = scaled(rate.Limit, factor)
			changed.SharedRate = &rate
			scaledDocument.Operations[i] = &changed
		}
	}
	return &scaledDocument
}

func scaled(limit int, factor float64) int {
	return int(min(max(1, math.Round(float64(limit)*factor)), math.MaxInt32))
}
