package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/billing"
	"kijko/worker/compression"
	"kijko/worker/condition"
	"kijko/worker/connections"
	"kijko/worker/dataexports"
	"kijko/worker/embed"
	"kijko/worker/enrichments"
	"kijko/worker/executions"
	"kijko/worker/gitfetch"
	"kijko/worker/graph"
	"kijko/worker/ingestion"
	"kijko/worker/integrations"
	"kijko/worker/jobs"
	"kijko/worker/lease"
	"kijko/worker/llm"
	"kijko/worker/metering"
	"kijko/worker/outbox"
	"kijko/worker/public"
	"kijko/worker/pushes"
	"kijko/worker/registry"
	"kijko/worker/runner"
	"kijko/worker/seal"
	"kijko/worker/stripe"
	"kijko/worker/summary"
)

// Config configures a Worker.
type Config struct {
	// DSN is Postgres as kijko_worker. ListenDSN is the same without a transaction pooler; default DSN.
	DSN       string
	ListenDSN string
	// DataDir holds the files of running work, in ingest/.
	DataDir string
	Blobs   jobs.Blobs
	// Hosts are the Git hosts that may be contacted. Its AllowPrivate also opens private addresses to chunking webhooks.
	Hosts gitfetch.HostConfig
	// GitCAFile names further trusted authorities for Git hosts; "" means the system's authorities only.
	GitCAFile string
	GitLimits gitfetch.Limits
	// Connections are the Git providers and directories. Nil: all repositories are fetched anonymously, and no token is given back.
	Connections *connections.Providers
	// Box opens sealed values. Nil: connections of people, tokens of integrations and secrets of webhooks are not used.
	Box *seal.Box
	// Unseal opens the secrets of chunking webhooks; nil: projects with such a webhook fail.
	Unseal func(sealed string) (string, error)
	// Graph receives copies of graphs; nil: they are in Postgres only. The worker closes it.
	Graph graph.Backend
	// GraphSweep is how often copies of graphs are looked over; default 30 s.
	GraphSweep time.Duration
	// Metering receives copies of counted units; nil: none are written. MeteringEvery is how often they are sent; default 5 s.
	Metering      *metering.Client
	MeteringEvery time.Duration
	// Traced: the spans of model calls are sent, and need prices.
	Traced bool
	// Mailer sends mail. Nil: mail.send fails and is tried again like after any other failure.
	Mailer jobs.Mailer
	// Provider ends sessions at Keycloak and writes organizations there. Nil: the worker changes nothing at Keycloak.
	Provider jobs.Provider
	// Canceler ends subscriptions and customers at Stripe; default Stripe. Nil without either: such jobs fail, and are tried again.
	Canceler jobs.Canceler
	// Stripe takes payments. Nil: calls to it wait for a worker that has a key.
	Stripe *stripe.Client
	// Slots is how many ingestion runs are worked at once; default 2.
	Slots int
	// Models are the model providers that run skills and write summaries (*llm.Set is one). Nil: this worker does neither.
	Models executions.Providers
	// Embed is what makes vectors. Nil: the built-in embedder.
	Embed *embed.Set
	// Integrations is the operator's configuration of providers. IntegrationTimeout is the longest time for one request to a provider;
	// default 10 s.
	Integrations       integrations.Config
	IntegrationTimeout time.Duration
	// Register answers about VAT numbers; nil: none is checked again.
	Register billing.Register
	// Registry is the registry of MCP servers to synchronize.
	Registry registry.Source
	// Neighbors get deliveries of the outbox. The worker closes them.
	Neighbors []outbox.Neighbor
	// UnsealKey opens an organization's own key for a model provider; nil: runs that need one fail.
	UnsealKey func(organizationID uuid.UUID, provider, sealed string) (string, error)
	// Policy is the retry policy for model providers. Nil: the contract's policy.
	Policy *llm.Policy
	// Executions is how many runs of skills are worked at once; default 50.
	Executions int
	// Workers is how many short jobs are worked at once; default 2.
	Workers int
	// Parsers is how many files of one run are parsed at once; default one per core.
	Parsers int
	// ContextFiles is the largest number of files of a context; 0 is the contract's.
	ContextFiles int
	// Poll is how often idle loops look at their queues, in case a wake-up was lost; default 2 s.
	Poll time.Duration
	// Grace is the time that running work gets at shutdown; default 20 s.
	Grace time.Duration
	Log   *slog.Logger
}

// executionConnections is how many connections the runs of skills use at a time. A run needs a connection only for a few milliseconds at
// its beginning and at its end.
const executionConnections = 3

// summarySlots is how many summaries are written at once. Like the runs of skills they mostly wait for a provider.
const summarySlots = 10

// exportSlots is how many exports of people's data are written at once.
const exportSlots = 2

// Worker works all queues. Make it with New.
type Worker struct {
	pool        *pgxpool.Pool
	graph       graph.Backend
	neighbors   []outbox.Neighbor
	engine      *ingestion.Engine
	enrichments *enrichments.Engine
	skills      *executions.Engine
	summaries   *summary.Engine
	compression *compression.Engine
	exports     *dataexports.Engine
	process     *lease.Process
	prices      *llm.Prices // nil: no spans are sent
	runner      *runner.Runner
	log         *slog.Logger
}

// New wires all parts. It makes no network request; it only runs the local git.
func New(ctx context.Context, c Config) (_ *Worker, err error) {
	if c.DSN == "" || c.DataDir == "" || c.Blobs == nil {
		return nil, errors.New("worker: DSN, DataDir and Blobs are required")
	}
	if c.ListenDSN == "" {
		c.ListenDSN = c.DSN
	}
	if c.Slots <= 0 {
		c.Slots = 2
	}
	if c.Canceler == nil && c.Stripe != nil {
		c.Canceler = c.Stripe
	}
	if c.Workers <= 0 {
		c.Workers = 2
	}
	if c.Executions <= 0 {
		c.Executions = 50
	}
	if c.IntegrationTimeout <= 0 {
		c.IntegrationTimeout = 10 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 20 * time.Second
	}
	if c.MeteringEvery <= 0 {
		c.MeteringEvery = 5 * time.Second
	}
	if c.GraphSweep <= 0 {
		c.GraphSweep = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{graph: c.Graph, neighbors: c.Neighbors, log: c.Log}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.pool, err = openPool(ctx, c); err != nil {
		return nil, err
	}
	direct := func(ctx context.Context) (*pgx.Conn, error) { return db.Connect(ctx, c.ListenDSN, db.WorkerLimits()) }
	w.process = lease.NewProcess(direct, w.takenOver, c.Log)
	hosts, err := gitfetch.NewHosts(c.Hosts)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	git, err := gitfetch.New(ctx, gitfetch.Options{Hosts: hosts, CAFile: c.GitCAFile, Log: c.Log})
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	keeper := &connections.Keeper{Pool: w.pool, Process: w.process, Providers: c.Connections, Box: c.Box, Log: c.Log}
	if c.Connections == nil {
		keeper.Box = nil
	}
	watching := &pushes.Engine{Pool: w.pool, Keeper: keeper, Git: git, Log: c.Log}
	keeper.Leave = watching.Leave
	w.engine, err = ingestion.New(ingestion.Config{Pool: w.pool, Process: w.process, Git: git, Open: c.Blobs.Get, Connected: keeper.Git, Unseal: c.Unseal,
		Webhook: public.Client(c.Hosts.AllowPrivate), WorkDir: filepath.Join(c.DataDir, "ingest"), Parsers: c.Parsers, Limits: c.GitLimits, ContextFiles: c.ContextFiles,
		Log: c.Log})
	if err != nil {
		return nil, err
	}
	if c.Embed == nil {
		c.Embed = embed.New(embed.Config{})
	}
	w.enrichments, err = enrichments.New(enrichments.Config{Pool: w.pool, Process: w.process, Embed: c.Embed, Policy: c.Policy, Parsers: c.Parsers, Log: c.Log})
	if err != nil {
		return nil, err
	}
	w.compression = compression.New(w.pool, 0, c.Log)
	w.exports = dataexports.New(w.pool, w.process, c.Blobs, c.Log)
	check, err := condition.NewEvaluator()
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	var batches []runner.Batch
	leases := []runner.Lease{jobs.IngestionRun(w.engine, c.Slots), jobs.EnrichmentsRun(w.enrichments, c.Slots), jobs.DataExportsWrite(w.exports, exportSlots)}
	hear := map[string]func(string){}
	if c.Models != nil {
		w.skills, err = executions.New(executions.Config{Pool: w.pool, Process: w.process, Providers: c.Models, Unseal: c.UnsealKey, Policy: c.Policy,
			Connections: executionConnections, Patience: c.Grace / 2, Log: c.Log})
		if err != nil {
			return nil, err
		}
		batches = append(batches, jobs.ExecutionsRun(w.skills, c.Executions))
		w.summaries, err = summary.New(summary.Config{Pool: w.pool, Process: w.process, Providers: c.Models, Unseal: c.UnsealKey, Policy: c.Policy, Log: c.Log})
		if err != nil {
			return nil, err
		}
		leases = append(leases, jobs.SummaryGenerate(w.summaries, summarySlots))
		hear[executions.Channel] = w.skills.Cancelled
		if set, ok := c.Models.(*llm.Set); ok && c.Traced {
			w.prices = set.Prices()
		}
	}
	guard := integrations.NewGuard(c.Hosts.AllowPrivate)
	connected := integrations.NewEngine(w.pool, w.process, c.Box, integrations.NewProviders(c.Integrations, c.IntegrationTimeout), guard, c.Log)
	batches = append(batches, jobs.WebhooksDeliver(connected), jobs.IntegrationsRun(connected),
		jobs.RegistryRun(registry.New(w.pool, w.process, c.Box, guard, c.Registry, c.Log)), jobs.OutboxSend(outbox.New(w.pool, w.process, c.Neighbors, c.Log)))
	paid := &billing.Engine{Pool: w.pool, Register: c.Register}
	if c.Stripe != nil {
		paid.Stripe = billing.Reader{Stripe: c.Stripe}
	}
	meter := metering.New(w.pool, c.Metering, c.Log)
	meter.Process = w.process
	ticks := []runner.Tick{
		{Name: "schedules", Every: time.Second, Do: w.runDue},
		{Name: "metering", Every: c.MeteringEvery, Do: meter.Run},
		{Name: "work directories", Every: 10 * time.Minute, Do: w.engine.Sweep},
	}
	var payments *billing.Driver
	if c.Stripe != nil {
		payments = &billing.Driver{Stripe: c.Stripe, Ask: w.ask, Process: w.process, Log: c.Log}
	}
	var mirror *graph.Mirror
	if c.Graph != nil {
		mirror = &graph.Mirror{Pool: w.pool, To: c.Graph}
		ticks = append(ticks, runner.Tick{Name: "graph mirror", Every: c.GraphSweep, Do: mirror.Sweep})
	}
	w.runner, err = runner.New(runner.Config{
		Pool: w.pool, Process: w.process, Workers: c.Workers, Poll: c.Poll, Grace: c.Grace, Log: c.Log, Batches: batches, Hear: hear,
		Listen: direct,
		Leases: leases,
		Types: []runner.Type{jobs.IngestionDrop(w.pool), jobs.EnrichmentsDrop(w.pool), jobs.BlobsDelete(w.pool, c.Blobs), jobs.AuditExport(w.pool, c.Blobs), jobs.MailSend(w.pool, c.Mailer), jobs.AnnouncementsTell(w.pool),
			jobs.ReflexesMatch(w.pool, check), jobs.SessionsEnd(w.pool, c.Provider), jobs.InvitationsTell(w.pool), jobs.ConnectionsRevoke(keeper), jobs.ConnectionsSync(keeper),
			jobs.AccountsLink(w.pool), jobs.AccountsOrganization(w.pool, c.Provider), jobs.GdprIdentity(w.pool, c.Provider), jobs.GdprCustomer(c.Canceler), jobs.SharingTell(w.pool), jobs.GraphMirror(mirror), jobs.CompressionRun(w.compression), jobs.BillingCheckNumber(paid), jobs.BillingFetch(paid), jobs.BillingRecover(payments), jobs.BillingDetails(payments), jobs.PushesInstall(watching), jobs.PushesRemove(watching), jobs.PushesPoll(watching)},
		Ticks: ticks,
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// openPool makes the pool for all database work except LISTEN. Its search path leads to gue's table; the application's own statements name
// their schemas.
func openPool(ctx context.Context, c Config) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("worker: database address: %w", err)
	}
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := db.WorkerLimits().Hold(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "select set_config('search_path', 'jobs', false)")
		return err
	}
	pc.ConnConfig.RuntimeParams["application_name"] = "kijko worker"
	// Short jobs, in two queues, may need one connection each, and each queue needs one or two to take and end jobs. A run of an ingestion or
	// an enrichment needs one now and then, as ticks do. Hundreds of skills share a few. By default that makes thirteen connections, and
	// fifteen with the one that listens and the one that holds the lock.
	pc.MaxConns = int32(2*c.Workers + 3 + c.Slots + 1 + executionConnections)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("worker: database: %w", err)
	}
	return pool, nil
}

// takenOver gives the work of a worker that died to others, at once and not when the schedules look.
func (w *Worker) takenOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := db.Exec(ctx, w.pool, "select private.sweep_leases()"); err != nil {
		w.log.Error("the work of a worker that died waits for the next sweep", "error", err)
	}
	w.runner.Wake()
}

// ask is the database of calls to Stripe.
func (w *Worker) ask(ctx context.Context, function string, p, into any) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	var answer []byte
	if err := w.pool.QueryRow(ctx, "select private."+function+"($1::jsonb)", string(raw)).Scan(&answer); err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// Names returns the registered job types.
func (w *Worker) Names() []string { return w.runner.Names() }

// Run works until ctx ends and all work has come back.
func (w *Worker) Run(ctx context.Context) error {
	holding, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	group.Go(func() { w.process.Run(holding) })
	group.Go(func() { w.engine.Hold(holding) })
	group.Go(func() { w.enrichments.Hold(holding) })
	group.Go(func() { w.exports.Hold(holding) })
	if w.skills != nil {
		group.Go(func() { w.skills.Hold(holding) })
		group.Go(func() { w.summaries.Hold(holding) })
	}
	if w.prices != nil {
		group.Go(func() { w.prices.Keep(holding, w.pool) })
	}
	err := w.runner.Run(ctx)
	stop()
	group.Wait()
	return err
}

// Close frees the resources that New opened. Call it after Run.
func (w *Worker) Close() {
	if w.engine != nil {
		w.engine.Close()
	}
	if w.enrichments != nil {
		w.enrichments.Close()
	}
	if w.compression != nil {
		w.compression.Close()
	}
	if w.pool != nil {
		w.pool.Close()
	}
	if w.graph != nil {
		_ = w.graph.Close()
	}
	for _, n := range w.neighbors {
		n.Close()
	}
}

// runDue does the work that is due by the schedules. Each piece has a transaction of its own: the rows that one piece locked are free while
// the next one works, and other workers take the other pieces meanwhile. The jobs that it enqueues are worked at the next look at the
// queue.
func (w *Worker) runDue(ctx context.Context) error {
	for {
		piece, cancel := context.WithTimeout(ctx, time.Minute)
		var done int
		err := w.pool.QueryRow(piece, "select private.run_due(1)").Scan(&done)
		cancel()
		if err != nil {
			return fmt.Errorf("schedules: %w", err)
		}
		if done == 0 {
			return nil
		}
	}
}
