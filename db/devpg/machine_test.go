package devpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func listenOn(t *testing.T, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	return l
}

// bare is a machine without PostgreSQL on which the named programs exist.
func bare(uid int, programs ...string) (*system, *[]string) {
	var ran []string
	return &system{
		uid:    uid,
		getenv: func(string) string { return "" },
		lookPath: func(name string) (string, error) {
			for _, p := range programs {
				if p == name {
					return "/usr/bin/" + name, nil
				}
			}
			return "", exec.ErrNotFound
		},
		lookupUser: func(name string) (*user.User, error) { return nil, user.UnknownUserError(name) },
		lookupUID:  func(uid string) (*user.User, error) { return nil, errors.New("no name for " + uid) },
		run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			ran = append(ran, strings.Join(append([]string{name}, args...), " "))
			return nil, nil
		},
	}, &ran
}

// fakePostgres makes a folder that looks like an installed PostgreSQL of the given version.
func fakePostgres(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), version, "bin")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"initdb", "postgres", "pg_config"} {
		text := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
		if name == "pg_config" {
			text = "#!/bin/sh\necho " + dir + "\n"
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	old, good, newer := fakePostgres(t, "14.9"), fakePostgres(t, "15.4"), fakePostgres(t, "17.1")
	machine := func() *system {
		sys, _ := bare(1000)
		sys.run = runProgram
		return sys
	}
	tests := map[string]struct {
		want    int
		arrange func(*system)
		dir     string
		err     string
	}{
		"PgConfigGoesFirst": {arrange: func(s *system) {
			s.getenv = func(name string) string {
				return map[string]string{"PG_CONFIG": filepath.Join(good, "pg_config")}[name]
			}
			s.binGlobs = []string{newer}
		}, dir: good},
		"ThatOfTheTestsIsTheOnlyOne": {arrange: func(s *system) {
			s.getenv = func(name string) string { return map[string]string{TestVariable: newer}[name] }
			s.binGlobs = []string{good}
		}, dir: newer},
		"ThatOfTheTestsHasNoSubstitute": {arrange: func(s *system) {
			s.getenv = func(name string) string { return map[string]string{TestVariable: old}[name] }
			s.binGlobs = []string{good}
		}, err: "found 14 in"},
		"PathIsSearched": {arrange: func(s *system) {
			s.lookPath = func(string) (string, error) { return filepath.Join(newer, "initdb"), nil }
		}, dir: newer},
		"TooOldIsPassedOver":        {arrange: func(s *system) { s.binGlobs = []string{old, good} }, dir: good},
		"ExistingDatabaseDecides":   {want: 15, arrange: func(s *system) { s.binGlobs = []string{newer, good} }, dir: good},
		"NothingInstalled":          {arrange: func(*system) {}, err: "not installed (needed: version 15 or later)"},
		"OnlyTooOld":                {arrange: func(s *system) { s.binGlobs = []string{old} }, err: "found 14 in"},
		"VersionOfDatabaseIsAbsent": {want: 16, arrange: func(s *system) { s.binGlobs = []string{newer} }, err: "16, with which the existing database was made"},
		"BrokenProgramIsPassedOver": {arrange: func(s *system) {
			broken := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(broken, "initdb"), nil, 0o755))
			s.binGlobs = []string{broken, "[", good}
		}, dir: good},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sys := machine()
			tt.arrange(sys)
			got, err := findBinaries(t.Context(), sys, tt.want)
			if tt.err != "" {
				require.ErrorIs(t, err, errNoBinaries)
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.dir, got.dir)
		})
	}
}

func TestNewestOfADistributionIsTaken(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"9", "15", "16"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, v, "bin"), 0o755))
	}
	sys, _ := bare(0)
	sys.binGlobs = []string{filepath.Join(root, "*", "bin")}
	dirs := binFolders(t.Context(), sys)
	require.Equal(t, []string{
		filepath.Join(root, "16", "bin"), filepath.Join(root, "15", "bin"), filepath.Join(root, "9", "bin"),
	}, dirs)
}

func TestInstall(t *testing.T) {
	tests := map[string]struct {
		uid      int
		programs []string
		want     int
		err      string
	}{
		"OrdinaryUserGetsTheCommand": {uid: 1000, programs: []string{"apt-get"}, err: "sudo apt-get update && sudo apt-get install -y postgresql postgresql-common"},
		"VersionIsNamedWhereItCounts": {uid: 1000, programs: []string{"apt-get"}, want: 16,
			err: "sudo apt-get update && sudo apt-get install -y postgresql-16 postgresql-16-pgtap"},
		"MacGetsItsCommand":    {uid: 501, programs: []string{"brew"}, err: "brew install postgresql@15 pgtap"},
		"UnknownSystemIsTold":  {uid: 0, err: "your system's package manager"},
		"NothingSuitableOnApt": {uid: 0, programs: []string{"apt-get"}, err: "apt offers no PostgreSQL 15 or later"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sys, _ := bare(tt.uid, tt.programs...)
			_, err := provideBinaries(t.Context(), sys, tt.want, func(string) {})
			require.ErrorIs(t, err, errNoBinaries)
			require.ErrorContains(t, err, tt.err)
		})
	}

	t.Run("RootInstallsTheNewestWithPgTAP", func(t *testing.T) {
		sys, ran := bare(0, "apt-get")
		dir := fakePostgres(t, "17.1")
		fake := sys.run
		sys.run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
			out, err := fake(ctx, name, args...)
			switch {
			case name == "apt-cache":
				return []byte("postgresql-14-pgtap - x\npostgresql-17-pgtap - x\npostgresql-16-pgtap - x\n"), nil
			case name == "apt-get" && slices.Contains(args, "install"):
				sys.binGlobs = []string{dir}
			case strings.HasPrefix(name, dir):
				return runProgram(ctx, name, args...)
			}
			return out, err
		}
		var told []string
		b, err := provideBinaries(t.Context(), sys, 0, func(s string) { told = append(told, s) })
		require.NoError(t, err)
		require.Equal(t, binaries{dir: dir, major: 17}, b)
		require.Contains(t, *ran, "apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends postgresql-17 postgresql-17-pgtap")
		require.Len(t, told, 2)
	})

	for _, step := range []string{"update", "search", "install"} {
		t.Run("FailureOf"+strings.ToUpper(step[:1])+step[1:]+"IsReported", func(t *testing.T) {
			sys, _ := bare(0, "apt-get")
			sys.run = func(_ context.Context, name string, args ...string) ([]byte, error) {
				if slices.Contains(args, step) {
					return nil, commandError(name, args, []byte("E: no network"), exec.Command("false").Run())
				}
				return []byte("postgresql-15-pgtap - x\n"), nil
			}
			_, err := provideBinaries(t.Context(), sys, 0, func(string) {})
			require.ErrorContains(t, err, "E: no network")
		})
	}
}

func TestAccountFor(t *testing.T) {
	t.Run("OrdinaryUserStaysItself", func(t *testing.T) {
		sys, _ := bare(4242)
		a, err := accountFor(sys, "")
		require.NoError(t, err)
		require.True(t, a.self)
		require.Equal(t, "4242", a.name)
		require.Nil(t, a.attributes().Credential)
	})
	t.Run("RootBecomesNobodyWherePostgresIsAbsent", func(t *testing.T) {
		sys, _ := bare(0)
		sys.lookupUser = func(name string) (*user.User, error) {
			if name == "nobody" {
				return &user.User{Uid: "65534", Gid: "65533", Username: "nobody"}, nil
			}
			return nil, user.UnknownUserError(name)
		}
		a, err := accountFor(sys, "")
		require.NoError(t, err)
		require.Equal(t, account{name: "nobody", uid: 65534, gid: 65533}, a)
		require.Equal(t, uint32(65534), a.attributes().Credential.Uid)
	})
	t.Run("RootWithoutAnyUserIsTold", func(t *testing.T) {
		sys, _ := bare(0)
		_, err := accountFor(sys, "")
		require.ErrorContains(t, err, "useradd --system postgres")
	})
	t.Run("DatabaseOfAnotherUserIsRefused", func(t *testing.T) {
		sys, _ := bare(4242)
		data := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o644))
		_, err := accountFor(sys, data)
		require.ErrorContains(t, err, "belongs to another user")
	})
}

func TestReaches(t *testing.T) {
	dir := folder(t)
	closed := filepath.Join(dir, "closed", "below")
	require.NoError(t, os.MkdirAll(closed, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(closed), 0o700))
	stranger := account{name: "stranger", uid: 60001, gid: 60001}

	ok, err := stranger.reaches(dir)
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = stranger.reaches(closed)
	require.NoError(t, err)
	require.False(t, ok)
	_, err = stranger.reaches(filepath.Join(dir, "absent"))
	require.Error(t, err)

	owner := account{uid: 7, gid: 8}
	require.True(t, owner.enters(0o100, &syscall.Stat_t{Uid: 7}))
	require.False(t, owner.enters(0o011, &syscall.Stat_t{Uid: 7}))
	require.True(t, owner.enters(0o010, &syscall.Stat_t{Uid: 1, Gid: 8}))
	require.False(t, owner.enters(0o101, &syscall.Stat_t{Uid: 1, Gid: 8}))
}

// The same tests once more as an ordinary user, because CI is root and developers are not.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("every test here runs as an ordinary user already")
		return
	}
	nobody, err := accountFor(newSystem(), "")
	require.NoError(t, err)
	dir := folder(t)
	self, err := os.Executable()
	require.NoError(t, err)
	binary, err := os.ReadFile(self)
	require.NoError(t, err)
	program := filepath.Join(dir, "devpg.test")
	require.NoError(t, os.WriteFile(program, binary, 0o755))
	cmd := exec.CommandContext(within(t), program, "-test.run", "^(TestKept|TestEphemeral|TestRemove)$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
	cmd.SysProcAttr = nobody.attributes()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestKept/KilledPostmasterIsRecovered")
}

func TestClusterOfRootIsExplainedToAnOrdinaryUser(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "postgres")
	require.NoError(t, os.Mkdir(data, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600))
	require.NoError(t, place{Data: data, dir: dir}.save())
	sys := newSystem()
	sys.uid = os.Geteuid() + 1
	_, err := Start(within(t), Options{DataDir: dir, sys: sys})
	require.ErrorContains(t, err, "run as that user again")
}

func TestUnwritablePlacesAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	under := filepath.Join(file, "folder") // nothing can be made below a file, not even by root
	ctx := within(t)

	_, err := Start(ctx, Options{DataDir: under})
	require.ErrorContains(t, err, "create data folder")
	_, err = Start(ctx, Options{Ephemeral: true, DataDir: under})
	require.ErrorContains(t, err, "create data folder")
	require.ErrorContains(t, makeOwn(under), "create "+under)
	require.ErrorContains(t, place{dir: under}.save(), "remember where the database is")
	_, err = socketFolder(under, account{self: true})
	require.ErrorContains(t, err, "create a folder for the socket")
	_, err = lockFolder(under)
	require.ErrorContains(t, err, "open the lock")
	_, err = awaitLock(ctx, filepath.Join(under, "lock"))
	require.ErrorContains(t, err, "open the lock")
	_, err = loadPlace(under)
	require.ErrorContains(t, err, "read where the database is")
	_, err = inspect(under)
	require.ErrorContains(t, err, "read postmaster.pid")
	require.ErrorContains(t, account{uid: 60001, gid: 60001, name: "stranger"}.own(under), "to user stranger")
	require.Empty(t, (&Cluster{place: place{dir: under}}).logTail())
	require.Zero(t, (&Cluster{place: place{Data: under}}).PID())
}

func TestLargeLogIsPutAside(t *testing.T) {
	c := &Cluster{place: place{dir: t.TempDir()}}
	require.NoError(t, os.WriteFile(c.LogFile(), nil, 0o600))
	require.NoError(t, os.Truncate(c.LogFile(), logLimit+1))
	f, err := c.openLog()
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.FileExists(t, c.LogFile()+".1")
	require.Zero(t, c.logStart)
}

func TestALogThatGrowsIsEmptiedUnderItsWriter(t *testing.T) {
	c := &Cluster{place: place{dir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	writer, err := c.openLog()
	require.NoError(t, err)
	defer func() { require.NoError(t, writer.Close()) }()
	_, err = writer.Write(append(make([]byte, logLimit), "the newest line\n"...))
	require.NoError(t, err)
	stop := c.tendLog(time.Millisecond)
	defer stop()
	require.Eventually(t, func() bool {
		info, err := os.Stat(c.LogFile())
		return err == nil && info.Size() == 0
	}, time.Minute, time.Millisecond)
	stop()
	_, err = writer.WriteString("and the next\n")
	require.NoError(t, err)
	kept, err := os.ReadFile(c.LogFile())
	require.NoError(t, err)
	require.Equal(t, "and the next\n", string(kept))
	aside, err := os.ReadFile(c.LogFile() + ".1")
	require.NoError(t, err)
	require.Len(t, aside, logLimit)
	require.True(t, strings.HasSuffix(string(aside), "the newest line\n"))
}

func TestWaitingForTheStartLockEndsWithTheContext(t *testing.T) {
	name := filepath.Join(t.TempDir(), "start.lock")
	unlock, err := awaitLock(within(t), name)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err = awaitLock(ctx, name)
	require.ErrorContains(t, err, "wait for the process that starts the test database")
	require.NoError(t, unlock())
}

func TestPgTAPThatCannotBeInstalledSaysHow(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	c, err := Start(within(t), Options{DataDir: dir})
	require.NoError(t, err)
	sys, _ := bare(1000, "apt-get")
	c.sys = sys
	err = c.ensure(within(t), "no_such_extension", func(string) {})
	require.ErrorContains(t, err, "sudo apt-get update && sudo apt-get install -y postgresql-")
	sys, _ = bare(0, "apt-get")
	c.sys = sys
	err = c.ensure(within(t), "no_such_extension", func(string) {})
	require.ErrorContains(t, err, "was installed, but not for the PostgreSQL in "+c.tools.dir)
}

func TestNoRefugeIsAnError(t *testing.T) {
	dir := folder(t)
	require.NoError(t, os.Chmod(dir, 0o700))
	shared := filepath.Join(folder(t), "shared")
	require.NoError(t, os.Mkdir(shared, 0o755))
	require.NoError(t, os.Chmod(shared, 0o777))
	sys, _ := bare(0)
	sys.refuges = []string{shared, filepath.Join(dir, "also-closed")}
	_, err := homeFor(sys, dir, account{name: "stranger", uid: 60001, gid: 60001})
	require.ErrorContains(t, err, "user stranger can enter")
	require.ErrorContains(t, err, "is not a folder that this user alone controls")
}

func TestDamagedPointerIsNamed(t *testing.T) {
	dir := folder(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, pointerFile), []byte("{"), 0o600))
	_, err := Start(within(t), Options{DataDir: dir})
	require.ErrorContains(t, err, "postgres.json is damaged")
	_, err = Attach(within(t), dir)
	require.ErrorContains(t, err, "postgres.json is damaged")
}

func TestAttachWithoutADatabase(t *testing.T) {
	_, err := Attach(within(t), folder(t))
	require.ErrorIs(t, err, ErrNotRunning)
}

func TestDataDirIsRequired(t *testing.T) {
	_, err := Start(within(t), Options{})
	require.ErrorContains(t, err, "DataDir is required")
}

func TestEnsurePgTAP(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stopAtEnd(t, dir)
	c, err := Start(within(t), Options{DataDir: dir})
	require.NoError(t, err)
	require.NoError(t, c.EnsurePgTAP(within(t), nil), "the suite's own database tests need it")
	ok, err := c.Offers(within(t), "no_such_extension")
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, c.Stop(within(t)))
	require.Error(t, c.EnsurePgTAP(within(t), nil), "a stopped database offers nothing")
}

func TestSharedFolderBelongsToTheCheckout(t *testing.T) {
	sys, _ := bare(os.Geteuid())
	here, err := ephemeralDir(Options{sys: sys})
	require.NoError(t, err)
	again, err := ephemeralDir(Options{sys: sys})
	require.NoError(t, err)
	require.Equal(t, here, again)
	t.Chdir(t.TempDir())
	there, err := ephemeralDir(Options{sys: sys})
	require.NoError(t, err)
	require.NotEqual(t, here, there)
	require.NoError(t, os.Remove(there))
}
