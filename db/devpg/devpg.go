// Package devpg gives a private PostgreSQL (15 or later) to development and to tests, without a
// server that has to be set up first.
//
// It is our own because fergusstrange/embedded-postgres downloads a server without pgTAP and plpgsql_check, does not run as root, and knows neither
// a cluster that several processes share nor one that outlives its process.
//
// There are two kinds of cluster:
//
//   - A kept one (the default) lives in Options.DataDir, is durable, and belongs to one process at a
//     time: a second Start on the same folder fails with ErrInUse. If its process was killed, the
//     next Start adopts the postmaster that still runs, or recovers what it left.
//   - An ephemeral one (Options.Ephemeral) is shared by all processes of a user that test the same
//     checkout. The first one starts it, the others adopt it, and it stops by itself after ten
//     minutes without a connection. It trades durability for speed and begins empty at each start.
//
// PostgreSQL refuses to run as root. A root process therefore runs it as the user "postgres" (or
// "nobody"); where that user cannot reach DataDir, the cluster is placed in a folder it can reach
// and DataDir only keeps the pointer to it (postgres.json).
//
// Access: over the unix socket, every user who can enter the socket's folder, which is open to the
// cluster's owner and root alone; over 127.0.0.1, roles with a password (SCRAM).
//
// A Cluster is safe for concurrent use. Its postmaster runs in a session of its own, so that a
// Ctrl-C in the terminal reaches the program first and the program decides when the database stops.
// Stop is to be called once, after the last connection is no longer needed; it is idempotent.
package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// MinVersion is the oldest major version of PostgreSQL that Kijko's SQL runs on.
const MinVersion = 15

// Superuser is the name of the cluster's superuser.
const Superuser = "postgres"

// startLimit bounds a start whose context has no deadline of its own. Crash recovery of a
// development database takes seconds; a minute means that something else is wrong.
const startLimit = 90 * time.Second

// idleLimit is how long an ephemeral cluster stays up without any connection. It must outlast the
// compile time between two test packages.
const idleLimit = 10 * time.Minute

var (
	// ErrInUse reports that another live process owns the cluster of this folder.
	ErrInUse = errors.New("the data folder is in use")
	// ErrNotRunning reports that the folder holds no running cluster.
	ErrNotRunning = errors.New("no database is running here")
)

// Options say which cluster to start.
type Options struct {
	// DataDir holds the cluster or the pointer to it; it is created where absent. Required unless
	// Ephemeral, which then chooses a folder under the system's temporary folder.
	DataDir string
	// Log receives what an operator may want to know; nil discards it.
	Log *slog.Logger
	// Progress gets a short sentence about each step that takes time; nil discards it.
	Progress func(string)
	// Ephemeral asks for the shared, fast, forgetful cluster for tests.
	Ephemeral bool

	// idle replaces idleLimit, in this package's tests.
	idle time.Duration
	// sys replaces the machine, in this package's tests.
	sys *system
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	place   place
	tools   binaries
	account account
	sys     *system
	log     *slog.Logger

	lock   *os.File  // held while a kept cluster is ours
	holder *pgx.Conn // tells the reaper that an ephemeral cluster is in use
	server *process  // nil when adopted

	logStart int64  // where the log of the last launch begins, in bytes
	stopLog  func() // ends the tending of a kept cluster's log

	ephemeral bool
	stop      sync.Once
	stopErr   error
}

// Start returns a running cluster, after installing, initializing, recovering or adopting as needed.
// A first start takes seconds (minutes where PostgreSQL must be installed), a later one about as
// long as the postmaster needs. Errors name the command that cures them where there is one.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.sys == nil {
		o.sys = newSystem()
	}
	if o.idle == 0 {
		o.idle = idleLimit
	}
	if o.Ephemeral {
		return startEphemeral(ctx, o)
	}
	return startKept(ctx, o)
}

// Attach returns the running cluster of dataDir without taking it over: for tools beside a running
// program. It fails with ErrNotRunning where none runs. Its Stop stops the database even when
// another process owns it.
func Attach(ctx context.Context, dataDir string) (*Cluster, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("resolve data folder: %w", err)
	}
	p, err := loadPlace(dir)
	if err != nil {
		return nil, err
	}
	if p.Data == "" {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	running, err := inspect(p.Data)
	if err != nil {
		return nil, err
	}
	if !running.alive {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	sys := newSystem()
	tools, err := findBinaries(ctx, sys, versionOf(p.Data))
	if err != nil {
		return nil, err
	}
	acct, err := accountFor(sys, p.Data)
	if err != nil {
		return nil, err
	}
	p.Port = running.port
	return &Cluster{place: p, tools: tools, account: acct, sys: sys, log: slog.New(slog.NewTextHandler(io.Discard, nil))}, nil
}

// Remove deletes the stopped cluster of dataDir with everything in it, wherever it was placed, and
// its pointer file. Other files of the folder stay. It fails with ErrInUse while a process has it.
func Remove(dataDir string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return fmt.Errorf("resolve data folder: %w", err)
	}
	p, err := loadPlace(dir)
	if err != nil || p.Data == "" {
		return err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // nothing was written that could be lost
	if running, err := inspect(p.Data); err != nil || running.alive {
		return errors.Join(ErrInUse, err)
	}
	for _, path := range []string{p.Data, p.Data + ".unfinished", p.Socket, filepath.Join(dir, pointerFile)} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the database: %w", err)
		}
	}
	if home := filepath.Dir(p.Data); home != dir {
		// Made for this database alone. A folder with other content stays.
		_ = os.Remove(home)
	}
	return nil
}

func startKept(ctx context.Context, o Options) (*Cluster, error) {
	if o.DataDir == "" {
		return nil, errors.New("devpg: Options.DataDir is required")
	}
	dir, err := makeDataDir(o.DataDir)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	c, err := bringUp(ctx, o, dir, durableSettings)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	c.lock, c.stopLog = lock, c.tendLog(logLook)
	return c, nil
}

// bringUp makes the cluster of dir run; the caller holds the folder's lock.
func bringUp(ctx context.Context, o Options, dir string, s settings) (*Cluster, error) {
	p, err := loadPlace(dir)
	if err != nil {
		return nil, err
	}
	tools, err := provideBinaries(ctx, o.sys, versionOf(p.Data), o.Progress)
	if err != nil {
		return nil, err
	}
	acct, err := accountFor(o.sys, p.Data)
	if err != nil {
		return nil, err
	}
	p, err = settle(o.sys, dir, p, acct)
	if err != nil {
		return nil, err
	}
	c := &Cluster{place: p, tools: tools, account: acct, sys: o.sys, log: o.Log}
	if versionOf(p.Data) == 0 {
		o.Progress("creating a private database in " + p.Data)
		if err := c.initialize(ctx, s); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.run(ctx, s, o.Progress); err != nil {
		return nil, err
	}
	return c, nil
}

// DSN returns the connection URL of a role over the unix socket; it carries no password because the
// socket's folder is the credential. The role and the database need not exist yet.
func (c *Cluster) DSN(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: "", Path: "/" + database}
	q := url.Values{"host": {c.place.Socket}, "port": {strconv.Itoa(c.place.Port)}}
	u.RawQuery = q.Encode()
	return u.String()
}

// TCPDSN returns the connection URL of the superuser over 127.0.0.1, password included: for
// programs that cannot use a unix socket or run as another user. Keep it out of logs.
func (c *Cluster) TCPDSN(database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(Superuser, c.place.Password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(c.place.Port)),
		Path:   "/" + database,
	}
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// Tool returns the path of one of PostgreSQL's programs ("psql", "pg_dump", "pgbench", ...), of the
// same version as the server. A client that this version lacks is the system's, of any version. The
// path need not exist: on some systems clients are packaged separately.
func (c *Cluster) Tool(name string) string {
	beside := filepath.Join(c.tools.dir, name)
	if _, err := os.Stat(beside); err != nil {
		if path, err := c.sys.lookPath(name); err == nil {
			return path
		}
	}
	return beside
}

// Version returns the server's major version.
func (c *Cluster) Version() int { return c.tools.major }

// DataDir returns where the cluster's files are, which may be elsewhere than Options.DataDir.
func (c *Cluster) DataDir() string { return c.place.Data }

// LogFile returns the path of the server's log.
func (c *Cluster) LogFile() string { return c.place.logFile() }

// PID returns the postmaster's process id, or 0 when it does not run.
func (c *Cluster) PID() int {
	running, err := inspect(c.place.Data)
	if err != nil || !running.alive {
		return 0
	}
	return running.pid
}

// EnsureDatabase creates the database where it is absent and says whether it did.
func (c *Cluster) EnsureDatabase(ctx context.Context, name string) (created bool, err error) {
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return false, fmt.Errorf("connect to create database %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, name).Scan(&exists); err != nil {
		return false, fmt.Errorf("look for database %q: %w", name, err)
	}
	if exists {
		return false, nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return false, fmt.Errorf("create database %q: %w", name, err)
	}
	return true, nil
}

// Stop ends a kept cluster: open connections are cut, committed data is on disk. It gives up
// waiting when ctx ends. For an ephemeral cluster it only says that this process no longer needs
// it.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stop.Do(func() { c.stopErr = c.shutDown(ctx) })
	return c.stopErr
}

func (c *Cluster) shutDown(ctx context.Context) error {
	if c.ephemeral {
		if err := c.holder.Close(ctx); err != nil {
			return fmt.Errorf("release the shared test database: %w", err)
		}
		return nil
	}
	if c.stopLog != nil {
		c.stopLog()
	}
	err := c.halt(ctx)
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
	}
	return err
}
