package identity

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/config"
	"kijko/server/security"
	"kijko/worker/keycloak"
	"kijko/worker/seal"
)

// Assemble builds an Identity from the settings. pool uses the server's role. Without JWT_PRIVATE_KEY a development installation makes a
// key and keeps it in the database.
func Assemble(ctx context.Context, cfg config.Config, pool *pgxpool.Pool, exec *api.Executor, log *slog.Logger) (*Identity, error) {
	deps := Deps{Exec: exec, Pool: pool, Log: log, InsecureCookies: cfg.Debug, RateFactor: cfg.AuthRates,
		Brokers: map[string]bool{google: cfg.Google, github: cfg.GitHubSignIn}, Origins: append(api.Origins{cfg.PublicOrigin()}, cfg.Origins...),
		CallbackURL: strings.TrimSuffix(cfg.PublicURL, "/") + "/auth/callback"}
	if err := deps.addIssuer(ctx, cfg); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	verify := auth.Config{Builtin: deps.Issuer, Log: log}
	if cfg.KeycloakURL != "" {
		verify.Keycloak = &auth.KeycloakConfig{URL: cfg.KeycloakURL, InternalURL: cfg.KeycloakInternalURL, Realm: cfg.KeycloakRealm,
			ClientID: cfg.KeycloakClientID}
	}
	if admin := keycloak.New(cfg.Keycloak()); admin != nil {
		deps.Provider = admin
	}
	if cfg.SupabaseURL != "" {
		verify.Supabase = &auth.SupabaseConfig{URL: cfg.SupabaseURL, JWTSecret: cfg.SupabaseSecret, EmailsConfirmed: cfg.SupabaseConfirmation}
	}
	var err error
	if deps.Verifier, err = auth.NewVerifier(verify); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if deps.Hasher, err = auth.NewHasher(0); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	keys, err := cfg.EncryptionKeys()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if len(keys) > 0 {
		box, err := seal.New(keys...)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		deps.Codes = security.NewCodes(box)
	}
	return New(deps)
}

func (d *Deps) addIssuer(ctx context.Context, cfg config.Config) error {
	var keys *auth.Keys
	var err error
	switch {
	case cfg.JWTPrivateKey != "":
		keys, err = auth.ParseKeys(cfg.JWTPrivateKey)
	case cfg.Debug:
		keys, err = auth.StoredKeys(ctx, keyStore{d.Pool})
	default:
		return nil
	}
	if err != nil {
		return err
	}
	if d.Issuer, err = auth.NewIssuer(auth.IssuerConfig{URL: cfg.PublicURL, Keys: keys, AccessTTL: cfg.AccessTTL}); err != nil {
		return err
	}
	cookieKeys, err := keys.Secrets("session cookie")
	if err != nil {
		return err
	}
	if d.Cookies, err = auth.NewCookies(cookieKeys...); err != nil {
		return err
	}
	sealKeys, err := keys.Secrets("idempotent answers")
	if err != nil {
		return err
	}
	d.SealKey = sealKeys[0]
	return nil
}

// keyStore keeps the generated key of a development installation in Postgres.
type keyStore struct{ pool *pgxpool.Pool }

func (s keyStore) SigningKey(ctx context.Context, offered string) (kept string, err error) {
	err = db.Row(ctx, s.pool, "select private.keep_signing_key($1)", []any{offered}, &kept)
	return kept, err
}
