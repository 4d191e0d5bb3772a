package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/server/api"
	"kijko/server/realtime"
)

// world is one project, one person and one server in this process.
type world struct {
	server  *realtime.Server
	pool    *pgxpool.Pool
	addr    string
	org     string
	project string
	caller  api.Caller
	staff   []api.Caller // further people of the organization
	asked   questions
	stop    func()
}

// questions counts the round trips that the sockets' pool makes. The feed has a connection of its own.
type questions struct{ n atomic.Int64 }

func (q *questions) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n.Add(1)
	return ctx
}

func (q *questions) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (q *questions) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	q.n.Add(1)
	return ctx
}

func (q *questions) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (q *questions) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// Authenticate accepts every client as the one person, or as the person whose number it sends. The cost of tokens is measured elsewhere.
func (w *world) Authenticate(_ context.Context, token string) (*api.Caller, error) {
	caller := w.caller
	if n, err := strconv.Atoi(token); err == nil && n < len(w.staff) {
		caller = w.staff[n]
	}
	return &caller, nil
}

func build(ctx context.Context, dsn string, log *slog.Logger) (*world, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	w := &world{}
	cfg.ConnConfig.Tracer = &w.asked
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	w.pool, w.caller = pool, api.Caller{Claims: "{}", ExpiresAt: time.Now().Add(time.Hour)}
	if err := w.seed(ctx); err != nil {
		return nil, fmt.Errorf("making a project: %w", err)
	}
	w.server, err = realtime.New(realtime.Deps{Pool: pool, ListenDSN: dsn, Auth: w, Log: log,
		Options: realtime.Options{HandshakesPerMinute: 1 << 30, SocketsPerUser: 1 << 30, SocketsPerOrg: 1 << 30, OpenTimeout: time.Minute}})
	if err != nil {
		return nil, err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ReadBufferSize: 24 << 10})
	w.server.Routes(app)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.addr = listener.Addr().String()
	runCtx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = app.Listener(listener) })
	running.Go(func() { _ = w.server.Run(runCtx) })
	w.stop = func() {
		cancel()
		_ = app.ShutdownWithTimeout(time.Second)
		running.Wait()
		pool.Close()
	}
	for w.server.Check().Probe(ctx).Status == "unhealthy" {
		time.Sleep(10 * time.Millisecond)
	}
	return w, nil
}

func (w *world) seed(ctx context.Context) error {
	for _, step := range []struct {
		sql  string
		args func() []any
		into *string
	}{
		{`insert into public.users (email) values ($1) returning id::text`, func() []any { return []any{uuid.NewString() + "@example.nl"} }, &w.caller.UserID},
		{`select private.create_organization('Bench', $1)::text`, func() []any { return []any{w.caller.UserID} }, &w.org},
		{`insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
			values ($1, $2, now() + interval '1 day', now() + interval '1 day') returning id::text`,
			func() []any { return []any{w.caller.UserID, w.org} }, &w.caller.SessionID},
		{`insert into public.projects (organization_id, user_id, name) values ($1, $2, 'Bench') returning id::text`,
			func() []any { return []any{w.org, w.caller.UserID} }, &w.project},
	} {
		if err := w.pool.QueryRow(ctx, step.sql, step.args()...).Scan(step.into); err != nil {
			return err
		}
	}
	w.caller.OrgHint = w.org // as our own tokens say
	return nil
}

// hire adds people to the organization, each with a session.
func (w *world) hire(ctx context.Context, people int) error {
	rows, err := w.pool.Query(ctx, `
		with hired as (
			insert into public.users (email) select gen_random_uuid() || '@example.nl' from generate_series(1, $2) returning id
		), members as (
			insert into public.memberships (organization_id, user_id, role) select $1, id, 'member' from hired
		)
		insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
		select id, $1, now() + interval '1 day', now() + interval '1 day' from hired returning user_id::text, id::text`, w.org, people)
	if err != nil {
		return err
	}
	w.staff, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (api.Caller, error) {
		caller := w.caller
		err := row.Scan(&caller.UserID, &caller.SessionID)
		return caller, err
	})
	return err
}

// latency writes events at a rate, each in a transaction of its own, and measures the time from the commit's return to the frame.
func latency(ctx context.Context, dsn string, log *slog.Logger, rate, seconds int) error {
	w, err := build(ctx, dsn, log)
	if err != nil {
		return err
	}
	defer w.stop()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+w.addr+"/projects/"+w.project+"/ws?token=x&snapshot=false", nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	total := rate * seconds
	arrived := make([]time.Time, total)
	committed := make([]time.Time, total)
	var readErr error
	var reading, writing sync.WaitGroup
	reading.Go(func() { readErr = collect(conn, arrived) })
	const writers = 16
	began := time.Now().Add(100 * time.Millisecond)
	for i := range writers {
		writing.Go(func() {
			for n := i; n < total; n += writers {
				time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
				batch := &pgx.Batch{}
				batch.Queue(`select set_config('app.wakes', 'on', true)`)
				batch.Queue(`select private.emit('project:' || $1::text, 'error', jsonb_build_object('n', $2::int), $3, $1::text::uuid)`, w.project, n, w.org)
				if err := w.pool.SendBatch(ctx, batch).Close(); err != nil {
					log.Error("write", "error", err)
					return
				}
				committed[n] = time.Now()
				w.server.Waker().Wake(true, false)
			}
		})
	}
	writing.Wait()
	spent := time.Since(began)
	reading.Wait()
	if readErr != nil {
		return readErr
	}
	delays := make([]time.Duration, total)
	for i := range delays {
		delays[i] = arrived[i].Sub(committed[i])
	}
	slices.Sort(delays)
	fmt.Printf("%d events in %.1f s (%.0f/s), commit to frame: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", total, spent.Seconds(),
		float64(total)/spent.Seconds(), ms(delays[total/2]), ms(delays[total*99/100]), ms(delays[total-1]))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func collect(conn *websocket.Conn, arrived []time.Time) error {
	for got := 0; got < len(arrived); {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("after %d events: %w", got, err)
		}
		at := time.Now()
		var f struct {
			Type string
			Data struct{ N int }
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return err
		}
		if f.Type == "error" {
			arrived[f.Data.N] = at
			got++
		}
	}
	return nil
}

// memory opens sockets from raw connections, which cost the client next to nothing, and prints the memory that the process takes for each.
func memory(ctx context.Context, dsn string, log *slog.Logger, sockets int) error {
	w, err := build(ctx, dsn, log)
	if err != nil {
		return err
	}
	defer w.stop()
	before := resident()
	conns := make([]net.Conn, 0, sockets)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range sockets {
		c, err := shake(w)
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	for w.server.Stats().Sockets < sockets {
		time.Sleep(10 * time.Millisecond)
	}
	after := resident()
	runtime.GC()
	debug.FreeOSMemory()
	settled := resident()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%d sockets: resident %.1f MB before, %.1f MB with them (%.1f KB each), %.1f MB after a collection (%.1f KB each)\n",
		sockets, before, after, (after-before)*1024/float64(sockets), settled, (settled-before)*1024/float64(sockets))
	fmt.Printf("heap in use %.1f MB, stacks %.1f MB, goroutines %d\n", float64(m.HeapInuse)/(1<<20), float64(m.StackInuse)/(1<<20), runtime.NumGoroutine())
	return nil
}

func shake(w *world) (net.Conn, error) {
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET /projects/%s/ws?token=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", w.project); err != nil {
		return nil, err
	}
	line, err := bufio.NewReaderSize(c, 256).ReadString('\n')
	if err != nil || !strings.Contains(line, "101") {
		return nil, errors.Join(err, fmt.Errorf("no upgrade: %s", line))
	}
	return c, nil
}

// resident is this process's memory in MB.
func resident() float64 { return residentOf("self") }
