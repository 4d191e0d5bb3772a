// Command analytics measures POST /analytics/events: events a second in batches from anonymous and signed-in clients, each batch from an
// address of its own minute, beside plain inserts of the same rows by as many connections. Rounds are interleaved, medians are printed. At
// the end every accepted event is in the table.
//
//	go run ./tests/bench/analytics
//	go run ./tests/bench/analytics -rounds 1
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/db/devpg"
)

const (
	clients = 32
	round   = 3 * time.Second
	target  = 10_000
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	rounds := flag.Int("rounds", 5, "rounds of each measurement")
	flag.Parse()
	if err := run(ctx, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench analytics:", err)
		os.Exit(1)
	}
}

// bench is one database, one server process and one signed-up person.
type bench struct {
	dir, url, token string
	cluster         *devpg.Cluster
	owner           *pgxpool.Pool
	server          *exec.Cmd
	client          *http.Client
	accepted        atomic.Int64
}

func run(ctx context.Context, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "kijko-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: time.Minute}}
	defer b.close()
	if err := b.start(ctx); err != nil {
		return err
	}
	fmt.Printf("%d clients, half of them signed in; plain inserts by %d connections\n", clients, clients)
	for _, size := range []int{100, 10} {
		var served, plain []float64
		for range rounds {
			n, err := b.load(ctx, size, b.send)
			if err != nil {
				return err
			}
			served = append(served, n)
			if n, err = b.load(ctx, size, b.insert); err != nil {
				return err
			}
			plain = append(plain, n)
		}
		s, p := median(served), median(plain)
		fmt.Printf("batches of %3d: %6.0f events a second (must %d), plain inserts %6.0f, ratio %.2f\n", size, s, target, p, s/p)
	}
	var stored int64
	if err := b.owner.QueryRow(ctx, "select count(*) from private.analytics_events where session_id like 'served-%'").Scan(&stored); err != nil {
		return err
	}
	fmt.Printf("%d events accepted, %d stored\n", b.accepted.Load(), stored)
	if stored != b.accepted.Load() {
		return errors.New("events were lost")
	}
	return nil
}

// load runs one round and returns events a second.
func (b *bench) load(ctx context.Context, size int, work func(ctx context.Context, client, size int) error) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var done atomic.Int64
	began := time.Now()
	for client := range clients {
		wg.Go(func() {
			for time.Since(began) < round && ctx.Err() == nil {
				if err := work(ctx, client, size); err != nil {
					cancel(err)
					return
				}
				done.Add(int64(size))
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), context.Cause(ctx)
}

type event struct {
	Type       string         `json:"type"`
	Timestamp  string         `json:"timestamp"`
	Persona    string         `json:"persona"`
	SessionID  string         `json:"sessionId"`
	Properties map[string]any `json:"properties"`
}

var numbers atomic.Int64

func events(prefix string, client, size int) []event {
	all := make([]event, size)
	for i := range all {
		all[i] = event{"ingestion_phase_completed", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "alex", fmt.Sprintf("%s-%d", prefix, client),
			map[string]any{"project_id": "2f1c7c1e-8a53-4c0c-9a53-6d8f8a9f3c11", "phase": "parsing", "duration": numbers.Add(1), "files": 120}}
	}
	return all
}

// send makes a request as the client does.
func (b *bench) send(ctx context.Context, client, size int) error {
	raw, err := json.Marshal(map[string]any{"events": events("served", client, size)})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/api/analytics/events", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	// An address may send 60 requests a minute, so each request has another one.
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256)))
	if client%2 == 0 {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	var receipt struct{ Accepted int }
	if err := json.NewDecoder(answer.Body).Decode(&receipt); err != nil || answer.StatusCode != http.StatusAccepted || receipt.Accepted != size {
		return fmt.Errorf("%d of %d events were accepted with status %d: %w", receipt.Accepted, size, answer.StatusCode, err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	b.accepted.Add(int64(size))
	return nil
}

const plainly = `insert into private.analytics_events (session_id, type, persona, occurred_at, client_timestamp, properties, digest)
	select e ->> 'sessionId', e ->> 'type', e ->> 'persona', (e ->> 'timestamp')::timestamptz, (e ->> 'timestamp')::timestamptz, e -> 'properties', uuid_send(gen_random_uuid())
	from jsonb_array_elements($1) e`

// insert writes the same rows into the same table, as its owner and without a check.
func (b *bench) insert(ctx context.Context, client, size int) error {
	raw, err := json.Marshal(events("plain", client, size))
	if err != nil {
		return err
	}
	_, err = b.owner.Exec(ctx, plainly, raw)
	return err
}

func (b *bench) start(ctx context.Context) (err error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, "server"), "./server")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the server: %w", err)
	}
	if b.cluster, err = devpg.Start(ctx, devpg.Options{DataDir: filepath.Join(b.dir, "data")}); err != nil {
		return err
	}
	if _, err := b.cluster.EnsureDatabase(ctx, "kijko"); err != nil {
		return err
	}
	owner := b.cluster.DSN(devpg.Superuser, "kijko")
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Setup(ctx, conn), conn.Close(ctx)); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(owner)
	if err != nil {
		return err
	}
	config.MaxConns = clients
	if b.owner, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	b.url = "http://" + address
	b.server = exec.CommandContext(ctx, filepath.Join(b.dir, "server"))
	b.server.Env = append(os.Environ(), "DEBUG=true", "KIJKO_ADDR="+address, "KIJKO_RATE_PER_MINUTE=0", "KIJKO_DATA_DIR="+b.dir, "TRUSTED_PROXIES=127.0.0.1",
		"DATABASE_URL="+b.cluster.DSN("kijko_server", "kijko"))
	if err := b.server.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		answer, err := b.client.Get(b.url + "/health/ready")
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return b.signUp(ctx)
			}
		}
		if time.Now().After(deadline) {
			return errors.New("the server did not become ready")
		}
	}
}

func (b *bench) signUp(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/api/v1/auth/signup",
		bytes.NewReader([]byte(`{"email":"bench@example.nl","password":"bench-password","first_name":"Bench","last_name":"Mark"}`)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := b.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&tokens); err != nil || tokens.AccessToken == "" {
		return fmt.Errorf("signing up: %d %w", answer.StatusCode, err)
	}
	b.token = tokens.AccessToken
	return nil
}

func (b *bench) close() {
	if b.server != nil && b.server.Process != nil {
		_ = b.server.Process.Signal(syscall.SIGTERM)
		_ = b.server.Wait()
	}
	if b.owner != nil {
		b.owner.Close()
	}
	if b.cluster != nil {
		_ = b.cluster.Stop(context.Background())
		_ = devpg.Remove(filepath.Join(b.dir, "data"))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
