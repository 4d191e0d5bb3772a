package keys

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/testdb"
)

const (
	// waiting bounds the wait for an event; no test waits for it to pass.
	waiting = 20 * time.Second
	tick    = 20 * time.Millisecond
)

// A server that can be killed is this test program again; its environment says that it is one.
const serverVariable = "KIJKO_TEST_SERVER"

func init() {
	if os.Getenv(serverVariable) == "" {
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve prints its address when it listens. It ends when its standard input closes, which happens when its parent ends.
func serve() error {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	a, err := app.New(context.Background(), cfg, app.Options{})
	if err != nil {
		return err
	}
	fmt.Println(a.URL())
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	return a.Run(ctx)
}

// process is a server of its own on a database.
func process(t *testing.T, db *testdb.DB) (*exec.Cmd, *client.Client) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), serverVariable+"=1", "DEBUG=true", "KIJKO_ADDR=127.0.0.1:0", "KIJKO_DATA_DIR="+t.TempDir(), "KIJKO_RATE_PER_MINUTE=0",
		"DATABASE_URL="+db.DSN("kijko_server"), "ENCRYPTION_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	cmd.Stderr = os.Stderr
	_, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	c := client.New(t, strings.TrimSpace(url))
	require.Eventually(t, func() bool { r, err := c.Try("GET", "/health/live", nil); return err == nil && r.Status == 200 }, waiting, tick)
	return cmd, c
}
