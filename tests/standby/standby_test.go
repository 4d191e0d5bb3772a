// Package standby tests reads at hot standbys: real streaming replication on loopback.
package standby

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// replica is a standby, made by pg_basebackup.
type replica struct {
	t                 *testing.T
	bin, folder, port string
	owner             *syscall.Credential
	cmd               *exec.Cmd
	name              string
}

func (r *replica) run(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.bin, program), args...)
	cmd.Dir = r.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: r.owner}
	return cmd
}

func newReplica(t *testing.T, db *testdb.DB) *replica {
	t.Helper()
	primary, err := pgx.ParseConfig(db.Owner())
	require.NoError(t, err)
	hba := testdb.Value[string](db, "show hba_file")
	rules, err := os.OpenFile(hba, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = rules.WriteString("local replication all trust\n")
	require.NoError(t, err)
	require.NoError(t, rules.Close())
	db.Exec("select pg_reload_conf()")

	r := &replica{t: t, name: db.Name, bin: testdb.Value[string](db, "select setting from pg_config where name = 'BINDIR'")}
	r.folder, err = os.MkdirTemp("", "kijko-standby")
	require.NoError(t, err)
	info, err := os.Stat(hba)
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		uid := info.Sys().(*syscall.Stat_t).Uid
		account, err := user.LookupId(strconv.Itoa(int(uid)))
		require.NoError(t, err)
		gid, err := strconv.Atoi(account.Gid)
		require.NoError(t, err)
		r.owner = &syscall.Credential{Uid: uid, Gid: uint32(gid)}
		require.NoError(t, os.Chown(r.folder, int(uid), gid))
	}
	t.Cleanup(func() { _ = os.RemoveAll(r.folder) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, r.port, _ = net.SplitHostPort(listener.Addr().String())
	require.NoError(t, listener.Close())
	out, err := r.run("pg_basebackup", "-h", primary.Host, "-p", strconv.Itoa(int(primary.Port)), "-U", "postgres", "-D", filepath.Join(r.folder, "data"),
		"-R", "-X", "stream", "-c", "fast").CombinedOutput()
	require.NoError(t, err, "%s", out)
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *replica) start() {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	require.NoError(r.t, err)
	r.cmd = r.run("postgres", "-D", filepath.Join(r.folder, "data"), "-c", "port="+r.port, "-c", "unix_socket_directories="+r.folder, "-c", "fsync=off",
		"-c", "max_standby_streaming_delay=0", "-c", "logging_collector=off")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	require.NoError(r.t, r.cmd.Start())
	require.NoError(r.t, log.Close())
	stack.Eventually(r.t, "the standby answers", func() bool { return r.try("select 1") == nil })
}

// kill ends the postmaster as kill -9 does. Its children notice and end; the folder can be started again then.
func (r *replica) kill() {
	if r.cmd != nil {
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// dsn is the address as a role, over the socket.
func (r *replica) dsn(role string) string {
	return fmt.Sprintf("postgres:///%s?%s", r.name, url.Values{"host": {r.folder}, "port": {r.port}, "user": {role}}.Encode())
}

func (r *replica) try(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stack.Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.dsn("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func (r *replica) exec(sql string) {
	r.t.Helper()
	require.NoError(r.t, r.try(sql))
}

// health is the code that health shows of a standby; empty: it is used.
func health(s *stack.Stack, name string) string {
	report := client.JSON[struct {
		Checks map[string]struct{ Status, Code string } `json:"checks"`
	}](s.Get("/health/ready"))
	return report.Checks[name].Code
}

func isUsed(t *testing.T, s *stack.Stack) {
	t.Helper()
	stack.Eventually(t, "the standby is used", func() bool { return health(s, "standby1") == "" })
}

// writeThenRead renames through one server and reads through another.
func writeThenRead(t *testing.T, writer, reader *client.Client, times int, name string) {
	t.Helper()
	for i := range times {
		want := fmt.Sprintf("%s %d", name, i)
		writer.Do("PATCH", "/profile", map[string]string{"firstName": want}).Want(http.StatusOK)
		require.Equal(t, want, reader.Get("/profile").Want(http.StatusOK).String("firstName"))
	}
}

func TestReadsAtAStandbyAreNeverOldAndNeverFail(t *testing.T) {
	t.Parallel()
	db := testdb.Alone(t)
	r := newReplica(t, db)
	reads := func(c *config.Config) { c.DatabaseReads = []string{r.dsn("kijko_server")} }
	one, two := stack.On(t, db, reads), stack.On(t, db, reads)
	isUsed(t, one)
	isUsed(t, two)
	anna, stan := one.SignUp("anna"), one.SignUp("stan")
	elsewhere := anna.At(two.App.URL())
	served := func() uint64 { return one.App.Standbys().Served() + two.App.Standbys().Served() }
	readsThere := func(what string) {
		t.Helper()
		before := served()
		stack.Eventually(t, what, func() bool {
			elsewhere.Get("/profile").Want(http.StatusOK)
			return served() > before
		})
	}

	readsThere("a standby answers")
	before := served()
	writeThenRead(t, anna.Client, elsewhere, 300, "Anna")
	require.Greater(t, served(), before, "standbys answered none of the reads")

	// Tenants.
	project := anna.Do("POST", "/projects", map[string]string{"name": "Hers"}).Want(http.StatusCreated).String("project.id")
	stan.At(two.App.URL()).Get("/projects/" + project).Want(http.StatusNotFound)
	elsewhere.Get("/projects/" + project).Want(http.StatusOK)

	// Replay stands still: reads are passed over, and a session that ends is refused at once.
	r.exec("select pg_wal_replay_pause()")
	writeThenRead(t, anna.Client, elsewhere, 30, "Paused")
	db.Exec("update private.sessions set revoked_at = now() where user_id = $1", stan.ID)
	stan.At(two.App.URL()).Get("/profile").Problem(http.StatusUnauthorized, "SESSION_REVOKED")
	r.exec("select pg_wal_replay_resume()")
	readsThere("a standby that has caught up answers again")

	// Replay cancels a query: the same request goes on at the primary.
	conflicts(t, db, r, one, anna)

	// The standby is killed while both servers read and write.
	var stop atomic.Bool
	var during atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				if got, err := elsewhere.Try("GET", "/profile", nil); err != nil || got.Status != http.StatusOK {
					t.Errorf("a read failed: %v %d", err, got.Status)
					return
				}
				during.Add(1)
			}
		})
	}
	stack.Eventually(t, "reads run", func() bool { return during.Load() > 50 })
	r.kill()
	writeThenRead(t, anna.Client, elsewhere, 100, "Killed")
	stop.Store(true)
	wg.Wait()
	stack.Eventually(t, "health names the dead standby", func() bool { return health(two, "standby1") == "UNREACHABLE" })
	r.start()
	isUsed(t, two)
	readsThere("a standby that came back answers")

	// A promoted standby is no standby.
	r.exec("select pg_promote()")
	r.exec("update public.users set first_name = 'Wrong'")
	writeThenRead(t, anna.Client, elsewhere, 20, "Promoted")
	stack.Eventually(t, "health names the promoted standby", func() bool { return health(two, "standby1") == "NOT_A_STANDBY" })
}

// conflicts makes replay cancel a read: an exclusive lock is replayed while the read waits behind another session of the standby.
func conflicts(t *testing.T, db *testdb.DB, r *replica, s *stack.Stack, anna *client.Person) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.dsn("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "begin; select count(*) from public.users")
	require.NoError(t, err)
	db.Exec("begin; lock table public.users in access exclusive mode; select pg_switch_wal(); commit")
	anna.At(s.App.URL()).Get("/profile").Want(http.StatusOK)
	_, err = conn.Exec(t.Context(), "select count(*) from public.users")
	require.Error(t, err, "replay canceled the other session")
}

func TestAnotherDatabaseIsNoStandby(t *testing.T) {
	t.Parallel()
	db, other := testdb.New(t), testdb.New(t)
	s := stack.On(t, db, func(c *config.Config) {
		c.DatabaseReads = []string{other.DSN("kijko_server"), "postgres://127.0.0.1:1/kijko"}
	})
	anna := s.SignUp("anna")
	anna.Get("/profile").Want(http.StatusOK)
	stack.Eventually(t, "health names a primary", func() bool { return health(s, "standby1") == "NOT_A_STANDBY" })
	require.Equal(t, "UNREACHABLE", health(s, "standby2"))
	require.Zero(t, s.App.Standbys().Served())
	require.False(t, strings.Contains(string(s.Get("/health/ready").Body), "127.0.0.1"), "health shows no address")
}
