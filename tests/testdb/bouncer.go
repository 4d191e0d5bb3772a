package testdb

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Bouncer starts a PgBouncer of this test's own in front of the database, in a pool mode (transaction or session), with its default
// configuration, which knows none of our start-up parameters. It gives the address as a role.
func (d *DB) Bouncer(role, mode string) string {
	d.t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	_, err = os.Stat(program)
	require.NoError(d.t, err, "PgBouncer is not installed; sh tests/tools/prepare.sh tests installs it on Debian")
	c, err := pgx.ParseConfig(d.DSN(role))
	require.NoError(d.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(d.t, err)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	require.NoError(d.t, listener.Close())

	folder, err := os.MkdirTemp("", "kijko-bouncer")
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(d.t, os.Chmod(folder, 0o711))
	ini := filepath.Join(folder, "bouncer.ini")
	require.NoError(d.t, os.WriteFile(ini, fmt.Appendf(nil, "[databases]\n%[1]s = host=%[2]s port=%[3]d dbname=%[1]s user=%[4]s\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+
		"listen_port = %[5]s\nauth_type = any\npool_mode = %[6]s\ndefault_pool_size = 2\nunix_socket_dir =\n", d.Name, c.Host, c.Port, role, port, mode), 0o644))
	cmd := exec.Command(program, "-q", ini)
	if os.Geteuid() == 0 {
		// PgBouncer refuses to run as root. The owner of the socket may use it.
		info, err := os.Stat(c.Host)
		require.NoError(d.t, err)
		owner, err := user.LookupId(strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid)))
		require.NoError(d.t, err)
		cmd.Args = []string{program, "-q", "-u", owner.Username, ini}
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(d.t, cmd.Start())
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(d.t, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 5*time.Millisecond, "PgBouncer did not start")
	return fmt.Sprintf("postgres://%s@127.0.0.1:%s/%s?sslmode=disable", role, port, d.Name)
}
