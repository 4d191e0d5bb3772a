package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// reaperScript stops an ephemeral cluster that is no longer used. Every process that uses it holds
// a connection, so a whole idle limit without a client connection means that it is unused. The file
// "stopping" closes the gap between the last look and the stop: a process that connects after the
// file exists waits for the end and starts the cluster again; the second look sees a process that
// connected before.
// Arguments: pg_ctl, psql, data folder, socket folder, port, seconds between looks, looks.
const reaperScript = `
pg_ctl=$1 psql=$2 data=$3 socket=$4 port=$5 every=$6 looks=$7
users() {
  "$psql" -XAtq -h "$socket" -p "$port" -U postgres -d postgres -c \
    "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()" 2>/dev/null
}
idle=0
while sleep "$every"; do
  n=$(users) || exit 0
  if [ "$n" != 0 ]; then idle=0; continue; fi
  idle=$((idle + 1))
  [ "$idle" -lt "$looks" ] && continue
  : > "$data/stopping"
  if [ "$(users)" = 0 ]; then
    "$pg_ctl" -D "$data" -m immediate -w -s stop
    find "$data" -mindepth 1 -maxdepth 1 ! -name stopping -exec rm -rf {} +
    rm -f "$data/stopping"
    exit 0
  fi
  rm -f "$data/stopping"
  idle=0
done
`

// looks is how often the reaper looks during an idle limit.
const looks = 10

// startEphemeral joins the cluster that is shared by all test processes of this checkout, or makes it.
func startEphemeral(ctx context.Context, o Options) (*Cluster, error) {
	dir, err := ephemeralDir(o)
	if err != nil {
		return nil, err
	}
	unlock, err := awaitLock(ctx, filepath.Join(dir, "start.lock"))
	if err != nil {
		return nil, err
	}
	c, err := join(ctx, o, dir)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	if err := unlock(); err != nil {
		return nil, errors.Join(err, c.Stop(ctx))
	}
	return c, nil
}

// join adopts the running cluster or makes a new one; the caller holds the start lock.
func join(ctx context.Context, o Options, dir string) (*Cluster, error) {
	p, err := loadPlace(dir)
	if err != nil {
		return nil, err
	}
	if p.Data != "" {
		running, err := inspect(p.Data)
		if err != nil {
			return nil, err
		}
		if running.alive {
			c, err := adoptEphemeral(ctx, o, dir)
			if c != nil || err != nil {
				return c, err
			}
		}
		awaitEmptied(ctx, p.Data)
		// The files of a dead cluster without fsync may be torn, and no process needs them.
		if err := os.RemoveAll(p.Data); err != nil {
			return nil, fmt.Errorf("remove the old test database: %w", err)
		}
	}
	c, err := bringUp(ctx, o, dir, forgetfulSettings)
	if err != nil {
		return nil, err
	}
	c.ephemeral = true
	if err := c.hold(ctx); err != nil {
		return nil, err
	}
	return c, c.startReaper(o.idle)
}

// adoptEphemeral returns nil without an error when the reaper stopped the cluster first; the
// cluster is then gone.
func adoptEphemeral(ctx context.Context, o Options, dir string) (*Cluster, error) {
	c, err := bringUp(ctx, o, dir, forgetfulSettings)
	if err != nil {
		return nil, err
	}
	c.ephemeral = true
	if err := c.hold(ctx); err != nil {
		return nil, err
	}
	stopping := filepath.Join(c.place.Data, "stopping")
	for {
		if _, err := os.Stat(stopping); err != nil {
			return c, nil // absent: the reaper sees our connection
		}
		if c.PID() == 0 || c.holder.Ping(ctx) != nil {
			return nil, c.awaitGone(ctx)
		}
		if !pause(ctx, beat) {
			return nil, fmt.Errorf("wait for the test database to stop: %w", context.Cause(ctx))
		}
	}
}

// awaitEmptied waits for a reaper that empties the folder of a cluster that it stopped. A reaper that was killed has left its file.
func awaitEmptied(ctx context.Context, data string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(filepath.Join(data, "stopping")); err != nil || !pause(ctx, beat) {
			return
		}
	}
}

func (c *Cluster) awaitGone(ctx context.Context) error {
	for c.PID() != 0 {
		if !pause(ctx, beat) {
			return fmt.Errorf("wait for the test database to stop: %w", context.Cause(ctx))
		}
	}
	return nil
}

// hold opens the connection that shows the reaper that this process uses the cluster. The kernel
// closes it when the process ends, however it ends.
func (c *Cluster) hold(ctx context.Context) error {
	config, err := pgx.ParseConfig(c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("hold the test database: %w", err)
	}
	config.RuntimeParams["application_name"] = "kijko-test-holder"
	if c.holder, err = pgx.ConnectConfig(ctx, config); err != nil {
		return fmt.Errorf("hold the test database: %w", err)
	}
	return nil
}

func (c *Cluster) startReaper(idle time.Duration) error {
	every := strconv.FormatFloat((idle / looks).Seconds(), 'f', 3, 64)
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "sh",
		c.Tool("pg_ctl"), c.Tool("psql"), c.place.Data, c.place.Socket, strconv.Itoa(c.place.Port), every, strconv.Itoa(looks))
	cmd.Dir = "/" // not the data folder: it would count as a server process of it
	cmd.Env = cleanEnvironment()
	cmd.SysProcAttr = c.account.attributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watcher of the test database: %w", err)
	}
	// Reaps it if it ends before this process does; otherwise it lives on by itself, as it should.
	go func() {
		if err := cmd.Wait(); err != nil {
			c.log.Debug("the watcher of the test database ended", "error", err)
		}
	}()
	return nil
}

// ephemeralDir returns the folder shared by the test processes of this user and this checkout.
// Two checkouts do not share: roles are the cluster's, and theirs may differ. Nor do two versions.
func ephemeralDir(o Options) (string, error) {
	if o.DataDir != "" {
		return makeDataDir(o.DataDir)
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(fastFolder(), fmt.Sprintf("kijko-test-%d-%s", o.sys.uid, fingerprint(root+o.sys.getenv(TestVariable))))
	return dir, makeOwn(dir)
}

// roomInMemory is what the databases of all tests at once may take, with much to spare, in bytes.
const roomInMemory = 8 << 30

// fastFolder is the file system in memory where there is one with room, else the temporary folder. Each test makes and removes a
// database of 700 files: on ext4, which looks for an inode that was not freed lately, that took a third of PostgreSQL's processor time.
func fastFolder() string {
	const memory = "/dev/shm"
	var s syscall.Statfs_t
	if err := syscall.Statfs(memory, &s); err != nil || s.Bavail*uint64(s.Bsize) < roomInMemory {
		return os.TempDir()
	}
	return memory
}

// moduleRoot is the nearest folder above the working folder with a go.mod, else the working folder.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return start, nil
		}
	}
}

// awaitLock takes a lock file, waiting for the process that has it.
func awaitLock(ctx context.Context, name string) (unlock func() error, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the test database: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock the test database: %w", err), f.Close())
		}
		if !pause(ctx, beat) {
			return nil, errors.Join(fmt.Errorf("wait for the process that starts the test database: %w", context.Cause(ctx)), f.Close())
		}
	}
}
