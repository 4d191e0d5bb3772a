package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
)

// storm lets many clients lose their connection and reconnect at once with their last id, and counts the queries that this costs. The
// clients are people of one organization with ten sockets each. So there is a room for each ten sockets, and the organization's room.
func storm(ctx context.Context, dsn string, log *slog.Logger, sockets int) error {
	w, err := build(ctx, dsn, log)
	if err != nil {
		return err
	}
	defer w.stop()
	const missed, socketsEach = 20, 10
	people := max(1, sockets/socketsEach)
	if err := w.hire(ctx, people); err != nil {
		return err
	}
	head, err := w.reached(ctx)
	if err != nil {
		return err
	}
	for i := range missed {
		if _, err := w.pool.Exec(ctx, `select private.emit('org:' || $1::text, 'note', jsonb_build_object('n', $2::int), $1::text::uuid)`, w.org, i); err != nil {
			return err
		}
	}
	if _, err := w.reached(ctx); err != nil {
		return err
	}
	before := w.asked.n.Load()
	began := time.Now()
	took := make([]float64, sockets)
	faults := make([]error, sockets)
	var coming sync.WaitGroup
	for i := range sockets {
		coming.Go(func() {
			took[i], faults[i] = comeBack(fmt.Sprintf("ws://%s/ws?token=%d&lastEventId=%d", w.addr, i%people, head), missed, began)
		})
	}
	coming.Wait()
	all := time.Since(began)
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	questions := w.asked.n.Load() - before
	slices.Sort(took)
	rooms := people + 1
	fmt.Printf("%d clients of %d people come back at once, each with %d missed events: all resumed after %.2f s (p50 %.0f ms, p99 %.0f ms)\n", sockets,
		people, missed, all.Seconds(), took[sockets/2], took[sockets*99/100])
	fmt.Printf("  %d queries, %.2f for each of their %d rooms\n", questions, float64(questions)/float64(rooms), rooms)
	return nil
}

// reached waits until every committed event has been numbered and dispatched, and gives the head of the log.
func (w *world) reached(ctx context.Context) (head int64, err error) {
	for {
		var pending bool
		if err := w.pool.QueryRow(ctx, `select exists (select from private.event_inbox), coalesce(max(id), 0) from public.events`).Scan(&pending, &head); err != nil {
			return 0, err
		}
		if !pending && w.server.Stats().LastEventID == head {
			return head, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func comeBack(address string, missed int, began time.Time) (float64, error) {
	dialer := websocket.Dialer{HandshakeTimeout: time.Minute, ReadBufferSize: 1024, WriteBufferSize: 256}
	conn, _, err := dialer.Dial(address, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	for got := 0; ; {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return 0, err
		}
		var f struct{ Type string }
		if err := json.Unmarshal(raw, &f); err != nil {
			return 0, err
		}
		switch f.Type {
		case "note":
			got++
		case "resumed":
			if got != missed {
				return 0, fmt.Errorf("%d of %d missed events came", got, missed)
			}
			return ms(time.Since(began)), nil
		}
	}
}

// reads counts the database queries of an event for many subscribers (R5). The subscribers are people of one organization in its room. The
// events are about projects of which each subscriber may see some.
func reads(ctx context.Context, dsn string, log *slog.Logger, sockets int) error {
	w, err := build(ctx, dsn, log)
	if err != nil {
		return err
	}
	defer w.stop()
	conns := make([]*websocket.Conn, sockets)
	for i := range conns {
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+w.addr+"/ws?token=x", nil)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, _, err := conn.ReadMessage(); err != nil {
			return err
		}
		conns[i] = conn
	}
	time.Sleep(1500 * time.Millisecond)
	logReads := func() (n int64, err error) {
		err = w.pool.QueryRow(ctx, `select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions where schemaname = 'private' and funcname = 'read_events'`).Scan(&n)
		return n, err
	}
	reading, err := logReads()
	if err != nil {
		return err
	}
	asked := w.asked.n.Load()
	const events = 50
	began := time.Now()
	for range events {
		if _, err := w.pool.Exec(ctx, `select private.emit('org:' || $1::text, 'resource_changed', '{}', $1::text::uuid, $2::text::uuid, 'project')`, w.org, w.project); err != nil {
			return err
		}
	}
	for _, conn := range conns {
		for range events {
			if _, _, err := conn.ReadMessage(); err != nil {
				return err
			}
		}
	}
	seconds := time.Since(began).Seconds()
	asked = w.asked.n.Load() - asked - events // subtract the writes
	time.Sleep(1500 * time.Millisecond)
	after, err := logReads()
	if err != nil {
		return err
	}
	fmt.Printf("%d events that not everybody may have, to %d subscribers in %.2f s: %d reads of the log (those of the poll included), %d questions about permission\n",
		events, sockets, seconds, after-reading, asked)
	return nil
}
