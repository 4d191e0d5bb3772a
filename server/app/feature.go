package app

import (
	"context"
	"encoding/json"
	"time"

	"kijko/db"
	"kijko/server/analytics"
	"kijko/server/api"
	"kijko/server/audit"
	"kijko/server/auth"
	"kijko/server/billing"
	"kijko/server/chat"
	"kijko/server/connections"
	"kijko/server/contexts"
	"kijko/server/dataexports"
	"kijko/server/executions"
	"kijko/server/exports"
	"kijko/server/gdpr"
	"kijko/server/graph"
	"kijko/server/hypervisa"
	"kijko/server/ingestion"
	"kijko/server/integrations"
	"kijko/server/mcp"
	"kijko/server/models"
	"kijko/server/openapi"
	"kijko/server/profile"
	"kijko/server/projects"
	"kijko/server/pushes"
	"kijko/server/reflexes"
	"kijko/server/registry"
	"kijko/server/retrieval"
	"kijko/server/search"
	"kijko/server/security"
	"kijko/server/skills"
	"kijko/server/summary"
	"kijko/server/support"
	paying "kijko/worker/billing"
	hosting "kijko/worker/connections"
	"kijko/worker/embed"
	"kijko/worker/gitfetch"
	copied "kijko/worker/graph"
	connected "kijko/worker/integrations"
	"kijko/worker/llm"
	"kijko/worker/neighbors"
	"kijko/worker/seal"
	"kijko/worker/stripe"
	"kijko/worker/vies"
)

// addFeatures makes the features whose operations are answered in Go.
func (a *App) addFeatures(ctx context.Context, exec *api.Executor) error {
	keys, err := a.cfg.EncryptionKeys()
	if err != nil {
		return err
	}
	uploads, err := projects.New(ctx, projects.Settings{Storage: a.cfg.Storage(), Keys: keys}, a.log)
	if err != nil {
		return err
	}
	a.features, a.files = append(a.features, uploads), newStorageProbe(uploads.Store(), a.log)
	hosts, err := gitfetch.NewHosts(a.cfg.Hosts())
	if err != nil {
		return err
	}
	git, err := gitfetch.New(ctx, gitfetch.Options{Hosts: hosts, Log: a.log})
	if err != nil {
		return err
	}
	if a.models, err = llm.New(a.cfg.Models()); err != nil {
		return err
	}
	box := a.box
	providers, err := hosting.New(a.cfg.Connections())
	if err != nil {
		return err
	}
	keeper := &hosting.Keeper{Pool: a.pool, Providers: providers, Box: box, Log: a.log}
	clients, err := a.cfg.Integrations()
	if err != nil {
		return err
	}
	executions, err := a.executions(exec, box)
	if err != nil {
		return err
	}
	if a.reflexes, err = reflexes.New(reflexes.Settings{Exec: exec, Box: box, Tester: executions.Tester(), Log: a.log}); err != nil {
		return err
	}
	if a.contexts, err = contexts.New(contexts.Settings{Exec: exec, Uploads: uploads, Watch: a.realtime.Watch, Wait: a.cfg.ExecutionWait, Log: a.log}); err != nil {
		return err
	}
	received, err := pushes.New(exec, box, a.log)
	if err != nil {
		return err
	}
	copies, err := copied.Open(a.cfg.Graph())
	if err != nil {
		return err
	}
	a.graph = copies
	a.mcp = mcp.New(mcp.Settings{Version: a.cfg.Version, Origin: a.cfg.Origin(), Issuer: a.issuer(), Origins: a.cfg.Origins, Log: a.log})
	if a.others, err = neighbors.Open(a.cfg.Neighbors()); err != nil {
		return err
	}
	register, err := vies.New(a.cfg.VIES(), a.log)
	if err != nil {
		return err
	}
	payments, err := a.payments(exec)
	if err != nil {
		return err
	}
	drawing := &graph.Feature{Exec: exec, Log: a.log}
	drawing.Copies, _ = copies.(copied.Reader)
	guard := connected.NewGuard(a.cfg.GitAllowPrivate)
	proxy, err := hypervisa.New(hypervisa.Settings{Exec: exec, URL: a.cfg.HypervisaURL, Root: a.cfg.HypervisaRoot, Timeout: a.cfg.HypervisaTimeout, Guard: guard, Log: a.log})
	if err != nil {
		return err
	}
	erasing := &gdpr.Feature{InsecureCookies: a.cfg.Debug}
	if box != nil {
		erasing.Codes = security.NewCodes(box)
	}
	a.features = append(a.features, erasing, proxy, &registry.Feature{Exec: exec, Box: box, Guard: guard})
	a.features = append(a.features, a.reflexes, a.keys, a.mcp, a.contexts, received, drawing, &summary.Feature{Settings: summary.Settings{Exec: exec, Wait: a.contexts, Log: a.log}})
	finder := &retrieval.Retriever{Exec: exec, Embed: embed.New(a.cfg.Embedding()), Log: a.log}
	a.chat = chat.New(chat.Settings{Exec: exec, Models: a.models, Store: uploads.Store(), Retriever: finder, Box: box, Timeout: a.cfg.ModelTimeout, Log: a.log})
	a.features = append(a.features, a.chat)
	gateway := models.New(models.Settings{Exec: exec, Models: a.models, Box: box, Timeout: a.cfg.ModelTimeout, Log: a.log})
	a.features = append(a.features, &support.Feature{Exec: exec, Gateway: gateway}, handlersOnly(analytics.Handlers()))
	a.features = append(a.features, gateway, executions,
		handlersOnly(a.identity.Handlers()), handlersOnly(a.realtime.Handlers()), handlersOnly(a.socketio.Handlers()),
		security.New(security.Settings{Exec: exec, Auth: a.identity, Hasher: a.identity.Hasher(), Box: box, Origin: a.cfg.Origin(), Log: a.log}),
		handlersOnly(skills.Handlers()), handlersOnly(profile.Handlers()), a.integrations(exec, box, guard, clients), &audit.Feature{Exec: exec, Files: uploads.Store()},
		&dataexports.Feature{Exec: exec, Files: uploads.Store()},
		&exports.Feature{Exec: exec}, &billing.Feature{Exec: exec, VIES: register, Payments: payments, Secrets: a.cfg.StripeWebhookSecrets, IsLive: a.cfg.IsStripeLive(), Log: a.log}, handlersOnly(search.Handlers()),
		&ingestion.Feature{Exec: exec, Git: git, Connected: keeper.Git},
		connections.New(connections.Settings{Exec: exec, Git: git, Providers: providers, Keeper: keeper, Box: box, Origin: a.cfg.Origin(), AppURL: a.cfg.PublicURL,
			Redirects: a.cfg.GitRedirects, Origins: a.cfg.Origins, Log: a.log}))
	return nil
}

// payments are the settings of payments; without a key at Stripe none are taken.
func (a *App) payments(exec *api.Executor) (billing.Payments, error) {
	client, err := stripe.New(a.cfg.Stripe(), a.log)
	if err != nil {
		return billing.Payments{}, err
	}
	set, err := a.cfg.StripePrices()
	if err != nil {
		return billing.Payments{}, err
	}
	prices := map[string]string{}
	for _, p := range set {
		prices[p.Plan+"_"+p.Interval] = p.Price
	}
	return billing.Payments{Stripe: client, Driver: &paying.Driver{Stripe: client, Ask: billing.Ask(exec), Log: a.log}, Prices: prices, Home: a.cfg.PublicURL,
		Origins: a.cfg.Origins}, nil
}

// integrations is the feature that connects providers, MCP servers and webhooks.
func (a *App) integrations(exec *api.Executor, box *seal.Box, guard *connected.Guard, clients connected.Config) *integrations.Feature {
	return integrations.New(integrations.Settings{Exec: exec, Box: box, Providers: connected.NewProviders(clients, a.cfg.IntegrationTimeout),
		Guard: guard, Callback: a.cfg.Origin() + openapi.Prefix + "/integrations/oauth/callback",
		Client: a.cfg.PublicURL, Origins: a.cfg.Origins})
}

// executions is the feature that runs and tests skills.
func (a *App) executions(exec *api.Executor, box *seal.Box) (*executions.Feature, error) {
	settings := executions.Settings{Exec: exec, Providers: a.models, Watch: a.realtime.Watch, Wait: a.cfg.ExecutionWait, Log: a.log}
	if box != nil {
		settings.Unseal = func(organizationID, provider, sealed string) (string, error) {
			plain, err := box.Open(seal.ProviderKey(organizationID, provider), sealed)
			return string(plain), err
		}
	}
	return executions.New(settings)
}

// issuer is the authorization server that clients of MCP sign people in at; empty: they bring a key or a token of this server.
func (a *App) issuer() string {
	if a.cfg.KeycloakURL == "" {
		return ""
	}
	return auth.KeycloakConfig{URL: a.cfg.KeycloakURL, Realm: a.cfg.KeycloakRealm}.Issuer()
}

// handlersOnly is a feature without resources to close.
type handlersOnly map[string]api.Handler

func (h handlersOnly) Handlers() map[string]api.Handler { return h }

func (handlersOnly) Close() error { return nil }

// declare writes to the database which features this installation has, for rules that depend on it. It retries until the database is
// available.
func (a *App) declare(ctx context.Context) {
	offers, err := json.Marshal(map[string]any{"git_hosts": a.cfg.HostProviders(), "mail": a.mails, "app_url": a.cfg.PublicURL, "api_url": a.cfg.Origin(),
		"providers": a.models.Offers(), "execution_days": a.cfg.ExecutionDays, "context_days": a.cfg.ContextDays, "token_price": a.cfg.TokenPrice, "encryption": a.cfg.EncryptionKey != "", "neighbors": neighbors.Declaration(a.cfg.Neighbors(), a.others),
		"vies_mode": a.cfg.VIESMode, "vat_oss": a.cfg.VATOSS, "stripe": map[string]bool{"hasKey": a.cfg.StripeKey != ""}, "seller": a.cfg.Seller(),
		"worker_slots":   map[string]int{"ingestion": a.cfg.Slots, "enrichments": a.cfg.Slots, "executions": a.cfg.Executions},
		"data_residency": map[string]any{"region": a.cfg.DataRegion, "country": a.cfg.DataCountry, "provider": a.cfg.DataProvider, "certifications": []string{}}})
	if err != nil {
		return
	}
	prices, err := a.cfg.StripePrices()
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		err := db.Exec(ctx, a.pool, "select private.declare_installation(key, value) from jsonb_each($1)", offers)
		if err == nil {
			err = db.Exec(ctx, a.pool, "select private.declare_stripe_prices($1)", prices)
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
