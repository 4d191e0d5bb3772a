package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// beat is how often the state of another process is read again: no event announces that a foreign
// postmaster is ready or gone.
const beat = 15 * time.Millisecond

// process is a postmaster that this process started.
type process struct {
	pid    int
	exited chan struct{} // closed once it has ended and was reaped
}

// postmaster is the content of the folder's postmaster.pid, checked against the living processes.
type postmaster struct {
	recorded bool // the file exists
	alive    bool // and a postmaster of this very folder runs
	pid      int
	port     int
}

// inspect reads postmaster.pid. A process id that now belongs to another program counts as dead.
func inspect(data string) (postmaster, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return postmaster{}, nil
	}
	if err != nil {
		return postmaster{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	lines := append(strings.Split(string(raw), "\n"), "", "", "", "")
	p := postmaster{recorded: true}
	// A file cut short by a full disk or a kill has no numbers: recorded, but of no process.
	if p.pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil || p.pid <= 0 {
		return postmaster{recorded: true}, nil
	}
	if p.port, err = strconv.Atoi(strings.TrimSpace(lines[3])); err != nil {
		p.port = 0
	}
	p.alive = isAlive(p.pid) && worksIn(p.pid, data)
	return p, nil
}

func isAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// worksIn says whether the process is a server of this folder. A postmaster and all its children
// have it as their working folder; where /proc does not exist the name has to do.
func worksIn(pid int, data string) bool {
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		out, err := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
		return err == nil && strings.Contains(string(out), "postgres")
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if errors.Is(err, fs.ErrPermission) {
		// Root in a container may not look there, but may read the command line of the postmaster.
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		return err == nil && strings.Contains(string(line), "\x00-D\x00"+data+"\x00")
	}
	if err != nil {
		return false // gone, or a zombie
	}
	real, err := filepath.EvalSymlinks(data)
	return err == nil && cwd == real
}

// orphans counts the server processes of this folder: after kill -9 of a postmaster its children
// live on for a moment.
func orphans(data string) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && worksIn(pid, data) {
			n++
		}
	}
	return n
}

// run makes the postmaster run and accept connections: by adopting the one that is there, or by
// starting one, again if need be, until ctx ends.
func (c *Cluster) run(ctx context.Context, s settings, progress func(string)) error {
	for {
		running, err := inspect(c.place.Data)
		if err != nil {
			return err
		}
		switch {
		case running.alive:
			progress(fmt.Sprintf("adopting the database that an earlier run left running (process %d)", running.pid))
			if running.port != 0 {
				c.place.Port = running.port
			}
		case running.recorded:
			if err := c.clearStale(ctx, running); err != nil {
				return err
			}
			fallthrough
		default:
			progress("starting the database")
			if err := c.launch(s); err != nil {
				return err
			}
		}
		ended, err := c.awaitReady(ctx, running)
		if err == nil {
			c.log.InfoContext(ctx, "database is ready", "data", c.place.Data, "port", c.place.Port, "adopted", c.server == nil)
			return nil
		}
		if !ended {
			return err
		}
		if !c.maySucceedAgain(err, running.alive) {
			return err
		}
		if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// maySucceedAgain says whether an error is a passing one: an adopted server that was about to stop,
// shared memory whose last user is ending, a port that was taken in between.
func (c *Cluster) maySucceedAgain(err error, adopted bool) bool {
	if adopted {
		return true
	}
	for _, passing := range []string{"is still in use", "already exists", "could not create any TCP/IP sockets"} {
		if strings.Contains(err.Error(), passing) {
			return true
		}
	}
	return false
}

// clearStale removes a postmaster.pid whose number has gone to another program or to a zombie,
// which PostgreSQL would take for a running server. One whose process is gone is left to
// PostgreSQL, which uses it to see whether the old shared memory is still in use.
func (c *Cluster) clearStale(ctx context.Context, stale postmaster) error {
	if stale.pid != 0 && !isAlive(stale.pid) {
		return nil
	}
	for orphans(c.place.Data) > 0 {
		if !pause(ctx, beat) {
			return fmt.Errorf("wait for the last processes of a killed database: %w", context.Cause(ctx))
		}
	}
	if err := os.Remove(filepath.Join(c.place.Data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a stale postmaster.pid: %w", err)
	}
	return nil
}

// launch starts a postmaster and does not wait for it.
func (c *Cluster) launch(s settings) error {
	if !portIsFree(c.place.Port) {
		port, err := freePort()
		if err != nil {
			return err
		}
		c.log.Warn("the database's port is taken by another program; using another", "taken", c.place.Port, "port", port)
		c.place.Port = port
		if err := c.place.save(); err != nil {
			return err
		}
	}
	if err := c.writeSettings(s); err != nil {
		return err
	}
	if err := c.clearSockets(); err != nil {
		return err
	}
	logFile, err := c.openLog()
	if err != nil {
		return err
	}
	cmd := exec.Command(c.Tool("postgres"), "-D", c.place.Data)
	cmd.Dir = c.place.Data
	cmd.Env = cleanEnvironment()
	cmd.SysProcAttr = c.account.attributes()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	err = cmd.Start()
	if cerr := logFile.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("start the database as user %s: %w", c.account.name, err)
	}
	p := &process{pid: cmd.Process.Pid, exited: make(chan struct{})}
	c.server = p
	// Ends with the postmaster, or with this process. The log says more than the exit status.
	go func() {
		defer close(p.exited)
		if err := cmd.Wait(); err != nil {
			c.log.Debug("the database process ended", "error", err)
		}
	}()
	return nil
}

// clearSockets removes the lock file that a killed postmaster left in the private socket folder: it
// names a process id that may belong to another process by now.
func (c *Cluster) clearSockets() error {
	left, err := filepath.Glob(filepath.Join(c.place.Socket, ".s.PGSQL.*"))
	if err != nil {
		return fmt.Errorf("look for old sockets: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old socket: %w", err)
		}
	}
	return nil
}

func (c *Cluster) openLog() (*os.File, error) {
	name := c.place.logFile()
	if info, err := os.Stat(name); err == nil && info.Size() > logLimit {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("put the database's log aside: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the database's log: %w", err)
	}
	if c.logStart, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(fmt.Errorf("find the end of the database's log: %w", err), f.Close())
	}
	return f, nil
}

// awaitReady waits until the server answers a query. ended is true when the server went away
// meanwhile; the error then holds the end of its log.
func (c *Cluster) awaitReady(ctx context.Context, adopted postmaster) (ended bool, err error) {
	for {
		if err = c.ping(ctx); err == nil {
			return false, nil
		}
		if c.hasEnded(adopted) {
			return true, fmt.Errorf("the database ended while starting: %w\n%s", err, c.logTail())
		}
		if !pause(ctx, beat) {
			return false, fmt.Errorf("wait for the database: %w (last: %w)\n%s", context.Cause(ctx), err, c.logTail())
		}
	}
}

func (c *Cluster) hasEnded(adopted postmaster) bool {
	if adopted.alive {
		return !isAlive(adopted.pid) || !worksIn(adopted.pid, c.place.Data)
	}
	select {
	case <-c.server.exited:
		return true
	default:
		return false
	}
}

func (c *Cluster) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return conn.Close(ctx)
}

// logTail returns the last lines that the server wrote since the last launch; nothing where the log
// cannot be read, since it only adorns an error.
func (c *Cluster) logTail() string {
	f, err := os.Open(c.place.logFile())
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.NewSectionReader(f, c.logStart, 64<<10))
	if err != nil {
		return ""
	}
	return lastLines(string(raw), 8)
}

// halt stops the server in "fast" mode: open transactions are rolled back, connections cut, and all
// committed data is on disk.
func (c *Cluster) halt(ctx context.Context) error {
	running, err := inspect(c.place.Data)
	if err != nil || !running.alive {
		return err
	}
	if err := syscall.Kill(running.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the database: %w", err)
	}
	for isAlive(running.pid) && worksIn(running.pid, c.place.Data) {
		if !pause(ctx, beat) {
			return fmt.Errorf("wait for the database to stop: %w", context.Cause(ctx))
		}
	}
	c.log.InfoContext(ctx, "database stopped", "data", c.place.Data)
	return nil
}

// pause waits for d; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// cleanEnvironment keeps the caller's libpq and locale settings from the server.
func cleanEnvironment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, pair := range os.Environ() {
		if strings.HasPrefix(pair, "PG") || strings.HasPrefix(pair, "LC_") || strings.HasPrefix(pair, "LANG") || strings.HasPrefix(pair, "TZ=") {
			continue
		}
		env = append(env, pair)
	}
	return env
}
