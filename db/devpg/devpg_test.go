package devpg

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// within bounds one test's dealings with real servers.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// folder is a temporary folder whose path is short enough for a unix socket inside it and that
// other users can enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "devpg-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// stopAtEnd stops the cluster on the folder when the test ends, also one that a failed test left.
func stopAtEnd(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		c, err := Attach(context.Background(), dir)
		if err == nil {
			require.NoError(t, c.Stop(context.Background()))
		}
	})
}

func query[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	ctx := within(t)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	var v T
	require.NoError(t, conn.QueryRow(ctx, sql).Scan(&v))
	return v
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	ctx := within(t)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}

func TestKept(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	ctx := within(t)
	var told []string
	o := Options{DataDir: dir, Progress: func(s string) { told = append(told, s) }}

	c, err := Start(ctx, o)
	require.NoError(t, err)
	kijko := c.DSN(Superuser, "kijko")
	port := c.place.Port

	t.Run("FirstStartSaysWhatItDoes", func(t *testing.T) {
		require.Equal(t, []string{"creating a private database in " + c.DataDir(), "starting the database"}, told)
	})

	t.Run("DatabaseIsCreatedOnce", func(t *testing.T) {
		created, err := c.EnsureDatabase(ctx, "kijko")
		require.NoError(t, err)
		require.True(t, created)
		created, err = c.EnsureDatabase(ctx, "kijko")
		require.NoError(t, err)
		require.False(t, created)
		execute(t, kijko, `create table kept (n int); insert into kept values (42)`)
	})

	t.Run("SettingsAreThoseOfDevelopment", func(t *testing.T) {
		for name, want := range map[string]string{
			"fsync": "on", "synchronous_commit": "on", "track_functions": "none", "server_encoding": "UTF8",
			"listen_addresses": "127.0.0.1", "password_encryption": "scram-sha-256", "TimeZone": "UTC",
		} {
			require.Equal(t, want, query[string](t, kijko, "show "+name), name)
		}
		require.Equal(t, "C.UTF-8", query[string](t, kijko, "select datcollate from pg_database where datname = current_database()"))
		require.GreaterOrEqual(t, c.Version(), MinVersion)
	})

	t.Run("AnyRoleComesInThroughTheSocket", func(t *testing.T) {
		execute(t, kijko, `create role somebody login`)
		require.Equal(t, "somebody", query[string](t, c.DSN("somebody", "kijko"), `select current_user::text`))
	})

	t.Run("OverTCPAPasswordIsNeeded", func(t *testing.T) {
		require.Equal(t, 42, query[int](t, c.TCPDSN("kijko"), `select n from kept`))
		_, err := pgx.Connect(ctx, "postgres://somebody@127.0.0.1:"+strconv.Itoa(port)+"/kijko?sslmode=disable")
		require.Error(t, err)
		_, err = pgx.Connect(ctx, "postgres://postgres:wrong@127.0.0.1:"+strconv.Itoa(port)+"/kijko?sslmode=disable")
		require.ErrorContains(t, err, "28P01")
	})

	t.Run("NobodyElseEntersTheSocketFolder", func(t *testing.T) {
		info, err := os.Stat(c.place.Socket)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		info, err = os.Stat(filepath.Join(dir, pointerFile))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	})

	t.Run("SecondOwnerIsToldWhoHasIt", func(t *testing.T) {
		_, err := Start(ctx, Options{DataDir: dir})
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid()))
		require.ErrorContains(t, err, "KIJKO_DATA_DIR")
	})

	t.Run("ToolsMayAttachBesideTheOwner", func(t *testing.T) {
		a, err := Attach(ctx, dir)
		require.NoError(t, err)
		require.Equal(t, kijko, a.DSN(Superuser, "kijko"))
		out, err := exec.CommandContext(ctx, a.Tool("psql"), "-XAtqc", "select n from kept", a.DSN(Superuser, "kijko")).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, "42\n", string(out))
	})

	t.Run("StopIsCleanAndMayBeRepeated", func(t *testing.T) {
		pid := c.PID()
		require.NotZero(t, pid)
		require.NoError(t, c.Stop(ctx))
		require.NoError(t, c.Stop(ctx))
		// The postmaster's last act is to remove its pid file; its process is gone a moment later.
		require.Eventually(t, func() bool { return !isAlive(pid) }, 10*time.Second, 5*time.Millisecond)
		require.Zero(t, c.PID())
		_, err := Attach(ctx, dir)
		require.ErrorIs(t, err, ErrNotRunning)
	})

	t.Run("SecondStartKeepsDataAndPort", func(t *testing.T) {
		told = nil
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.Equal(t, []string{"starting the database"}, told)
		require.Equal(t, port, again.place.Port)
		require.Equal(t, 42, query[int](t, again.DSN(Superuser, "kijko"), `select n from kept`))
		c = again
	})

	t.Run("KilledPostmasterIsRecovered", func(t *testing.T) {
		execute(t, kijko, `insert into kept values (43)`)
		// a backend that is busy while its postmaster dies holds the shared memory for a while
		busy, err := pgx.Connect(ctx, kijko)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { _, err := busy.Exec(ctx, `select pg_sleep(1)`); done <- err }()
		require.NoError(t, syscall.Kill(c.PID(), syscall.SIGKILL))
		<-c.server.exited
		require.NoError(t, c.Stop(ctx)) // releases the folder; there is nothing to stop

		again, err := Start(ctx, o)
		require.NoError(t, err)
		<-done
		require.Equal(t, 85, query[int](t, again.DSN(Superuser, "kijko"), `select sum(n) from kept`))
		c = again
	})

	t.Run("RunningPostmasterOfAnEarlierRunIsAdopted", func(t *testing.T) {
		pid := c.PID()
		require.NoError(t, c.lock.Close()) // what the kernel does when the owner is killed
		told = nil
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.Equal(t, pid, again.PID())
		require.Len(t, told, 1)
		require.Contains(t, told[0], "adopting")
		c = again
	})

	t.Run("PostmasterThatIsStoppingIsAwaited", func(t *testing.T) {
		pid := c.PID()
		held, err := pgx.Connect(ctx, kijko) // a smart stop waits for this one
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
		require.NoError(t, c.lock.Close())
		go func() {
			time.Sleep(300 * time.Millisecond) // so that Start meets a server that refuses connections
			_ = held.Close(ctx)
		}()
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.NotEqual(t, pid, again.PID())
		c = again
	})

	t.Run("ProcessIDThatWentToAnotherProgramIsNotMistaken", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		other := exec.Command("sleep", "60")
		require.NoError(t, other.Start())
		t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
		stale := filepath.Join(c.DataDir(), "postmaster.pid")
		require.NoError(t, os.WriteFile(stale, []byte(strconv.Itoa(other.Process.Pid)+"\n"+c.DataDir()+"\n1\n5432\n"), 0o600))
		require.NoError(t, c.account.own(stale))
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.True(t, isAlive(other.Process.Pid))
		c = again
	})

	t.Run("TornProcessFileIsCleared", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		torn := filepath.Join(c.DataDir(), "postmaster.pid")
		require.NoError(t, os.WriteFile(torn, nil, 0o600))
		require.NoError(t, c.account.own(torn))
		again, err := Start(ctx, o)
		require.NoError(t, err)
		c = again
	})

	t.Run("TakenPortIsReplaced", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		thief := listenOn(t, port)
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.NotEqual(t, port, again.place.Port)
		require.NoError(t, thief.Close())
		c = again
		kept, err := loadPlace(dir)
		require.NoError(t, err)
		require.Equal(t, again.place.Port, kept.Port)
	})

	t.Run("SettingThatTheServerRefusesIsShown", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		auto := filepath.Join(c.DataDir(), "postgresql.auto.conf")
		require.NoError(t, os.WriteFile(auto, []byte("no_such_setting = 'x'\n"), 0o600))
		_, err := Start(ctx, o)
		require.ErrorContains(t, err, "no_such_setting")
		require.NoError(t, os.WriteFile(auto, nil, 0o600))
		c, err = Start(ctx, o) // and the failed start released the folder
		require.NoError(t, err)
	})

	t.Run("CancelledStartGivesUp", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := Start(gone, o)
		require.ErrorIs(t, err, context.Canceled)
		c, err = Start(ctx, o) // the next start copes with every state it left
		require.NoError(t, err)
		require.Equal(t, 85, query[int](t, c.DSN(Superuser, "kijko"), `select sum(n) from kept`))
	})
}

func TestHalfFinishedInitdbStartsOver(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	half := filepath.Join(dir, "postgres.unfinished", "base")
	require.NoError(t, os.MkdirAll(half, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(half), "PG_VERSION"), []byte("15\n"), 0o600))
	c, err := Start(within(t), Options{DataDir: dir})
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Dir(half))
	require.Equal(t, 1, query[int](t, c.DSN(Superuser, "postgres"), `select 1`))
}

func TestFolderThatIsNoDatabaseIsLeftAlone(t *testing.T) {
	dir := folder(t)
	mine := filepath.Join(dir, "postgres", "thesis.txt")
	require.NoError(t, os.MkdirAll(filepath.Dir(mine), 0o700))
	require.NoError(t, os.WriteFile(mine, nil, 0o600))
	_, err := Start(within(t), Options{DataDir: dir})
	require.ErrorContains(t, err, "is not a database")
	require.FileExists(t, mine)
}

func TestClosedHomeFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("an ordinary user owns its folders; that path is the one of every other test here")
		return
	}
	home := folder(t)
	require.NoError(t, os.Chmod(home, 0o700))
	dir := filepath.Join(home, "checkout", ".kijko")
	sys := newSystem()
	refuge := folder(t)
	sys.refuges = []string{"/proc/none", filepath.Join(refuge, "kijko")}
	stopAtEnd(t, dir)
	c, err := Start(within(t), Options{DataDir: dir, sys: sys})
	require.NoError(t, err)
	require.Contains(t, c.DataDir(), refuge, "the database went where its user can reach it")
	require.Equal(t, 1, query[int](t, c.DSN(Superuser, "postgres"), `select 1`))
	created, err := c.EnsureDatabase(within(t), "here")
	require.NoError(t, err)
	require.True(t, created)
	require.NoError(t, c.Stop(within(t)))

	again, err := Start(within(t), Options{DataDir: dir, sys: sys})
	require.NoError(t, err)
	require.Equal(t, c.DataDir(), again.DataDir())
	require.Equal(t, "here", query[string](t, again.DSN(Superuser, "here"), `select current_database()::text`))
}

func TestLongPathsGetASocketElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "a-folder-name-that-is-rather-long-but-quite-usual", "in-a-deep-tree-of-a-company-laptop", ".kijko")
	stopAtEnd(t, dir)
	c, err := Start(within(t), Options{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(c.place.Socket)) })
	require.LessOrEqual(t, len(c.place.Socket), socketLimit)
	require.Equal(t, 1, query[int](t, c.DSN(Superuser, "postgres"), `select 1`))
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	ctx := within(t)
	o := Options{Ephemeral: true, DataDir: dir, idle: time.Second}

	first, err := Start(ctx, o)
	require.NoError(t, err)
	require.Equal(t, "off", query[string](t, first.DSN(Superuser, "postgres"), `show fsync`))
	created, err := first.EnsureDatabase(ctx, "template_of_mine")
	require.NoError(t, err)
	require.True(t, created)

	t.Run("OthersAdoptIt", func(t *testing.T) {
		second, err := Start(ctx, o)
		require.NoError(t, err)
		require.Equal(t, first.PID(), second.PID())
		require.NoError(t, second.Stop(ctx))
		require.NoError(t, first.holder.Ping(ctx), "the release of one leaves the others theirs")
	})

	t.Run("ManyAtOnceShareOne", func(t *testing.T) {
		type result struct {
			pid int
			err error
		}
		results := make(chan result)
		for range 8 {
			go func() {
				c, err := Start(ctx, o)
				if err != nil {
					results <- result{err: err}
					return
				}
				pid := c.PID()
				results <- result{pid, c.Stop(ctx)}
			}()
		}
		for range 8 {
			r := <-results
			require.NoError(t, r.err)
			require.Equal(t, first.PID(), r.pid)
		}
	})

	t.Run("UsedOneOutlivesTheIdleLimit", func(t *testing.T) {
		idle := time.NewTimer(2 * time.Second)
		defer idle.Stop()
		<-idle.C // twice the limit: the point is that nothing happens
		require.NoError(t, first.holder.Ping(ctx))
	})

	t.Run("KilledOneIsReplacedByAnEmptyOne", func(t *testing.T) {
		require.NoError(t, syscall.Kill(first.PID(), syscall.SIGKILL))
		require.Eventually(t, func() bool { return orphans(first.DataDir()) == 0 }, 20*time.Second, beat)
		next, err := Start(ctx, o)
		require.NoError(t, err)
		created, err := next.EnsureDatabase(ctx, "template_of_mine")
		require.NoError(t, err)
		require.True(t, created, "nothing of the torn cluster is left")
		first = next
	})

	t.Run("UnusedOneStopsByItself", func(t *testing.T) {
		pid := first.PID()
		require.NotZero(t, pid)
		require.NoError(t, first.Stop(ctx))
		require.Eventually(t, func() bool { return !isAlive(pid) }, 20*time.Second, 50*time.Millisecond)
	})

	t.Run("NextOneStartsAfterThat", func(t *testing.T) {
		again, err := Start(ctx, o)
		require.NoError(t, err)
		require.NoError(t, again.Stop(ctx))
	})
}

func TestEphemeralWaitsForTheOneThatIsStopping(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	ctx := within(t)
	o := Options{Ephemeral: true, DataDir: dir}
	first, err := Start(ctx, o)
	require.NoError(t, err)
	pid := first.PID()
	// What the reaper does after its second look, cut in two.
	require.NoError(t, os.WriteFile(filepath.Join(first.DataDir(), "stopping"), nil, 0o600))
	type result struct {
		c   *Cluster
		err error
	}
	got := make(chan result, 1)
	go func() { c, err := Start(ctx, o); got <- result{c, err} }()
	require.Eventually(t, func() bool {
		return query[int](t, first.DSN(Superuser, "postgres"), `select count(*) from pg_stat_activity where application_name = 'kijko-test-holder'`) == 2
	}, 20*time.Second, beat, "the second one is connected and waits")
	require.NoError(t, syscall.Kill(pid, syscall.SIGQUIT))
	r := <-got
	require.NoError(t, r.err)
	require.NotEqual(t, pid, r.c.PID())
	require.NoError(t, r.c.Stop(ctx))
}
