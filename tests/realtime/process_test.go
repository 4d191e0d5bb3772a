package realtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/server/realtime"
)

// A server process that can be killed is this test program again; its environment says that it is one.
const nodeVariable = "KIJKO_TEST_NODE"

type nodeConfig struct{ DSN, Key string }

func init() {
	raw := os.Getenv(nodeVariable)
	if raw == "" {
		return
	}
	if err := serveNode(raw); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveNode prints its address when it is ready. It ends when its standard input closes, which happens when its parent ends.
func serveNode(raw string) error {
	var c nodeConfig
	keys, err := (*auth.Keys)(nil), json.Unmarshal([]byte(raw), &c)
	if err == nil {
		keys, err = auth.ParseKeys(c.Key)
	}
	if err != nil {
		return err
	}
	l := &live{keys: keys}
	if l.issuer, err = auth.NewIssuer(auth.IssuerConfig{URL: "http://kijko.test", Keys: keys}); err != nil {
		return err
	}
	if l.verifier, err = auth.NewVerifier(auth.Config{Builtin: l.issuer}); err != nil {
		return err
	}
	pool, err := pgxpool.New(context.Background(), c.DSN)
	if err != nil {
		return err
	}
	server, err := realtime.New(realtime.Deps{Pool: pool, ListenDSN: c.DSN, Auth: l, Issuer: l.issuer, Log: slog.New(slog.DiscardHandler),
		Options: realtime.Options{HandshakesPerMinute: 100_000, SocketsPerUser: 10_000, SocketsPerOrg: 10_000}})
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ReadBufferSize: 16 << 10})
	server.Routes(app)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = app.Listener(listener) }()
	go func() { _ = server.Run(context.Background()) }()
	for server.Check().Probe(context.Background()).Status == "unhealthy" {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is a server process of its own; stop kills it, without a close frame to any client.
func (l *live) process() *node {
	l.t.Helper()
	raw, err := json.Marshal(nodeConfig{DSN: l.db.DSN("kijko_server"), Key: l.pem})
	require.NoError(l.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(raw))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(l.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(l.t, err)
	require.NoError(l.t, cmd.Start())
	n := &node{live: l}
	n.stop = sync.OnceFunc(func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait(), in.Close()) })
	l.t.Cleanup(n.stop)
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(l.t, err)
	n.addr = strings.TrimSpace(addr)
	return n
}
