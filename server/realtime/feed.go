package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kijko/db"
)

// feed reads the log over a dedicated connection, which also listens. It never reads an id twice and never skips one. `last` is the highest
// dispatched id: after a reconnect the feed subscribes first and reads from there.
type feed struct {
	dsn      string
	log      *slog.Logger
	poll     time.Duration // the fallback for lost notifications
	deaf     bool          // in tests: subscribe to nothing
	dispatch func(ctx context.Context, events []*Event)
	// returned is called after a reconnect, before the first read.
	returned func(ctx context.Context)
	// wake is called when another process committed events.
	wake func()
	// ephemeral gets the payload of an ephemeral event.
	ephemeral func(payload string)

	last      atomic.Int64 // -1 before the first connection
	readAt    atomic.Int64 // unix nanoseconds of the last successful read
	listening atomic.Int64 // of the last notification received
	backend   atomic.Uint32
}

const (
	channelEvents    = "kijko_events"
	channelWake      = "kijko_wake"
	channelEphemeral = "kijko_ephemeral"

	// readAtOnce is well below a socket's queue limit: a backlog for one room must not look like a slow socket, and between two reads the
	// socket writers get to run.
	readAtOnce = 100
	queryTime  = 10 * time.Second
	// pingEvery is how often the feed notifies itself. This detects a connection that reads but does not listen (a transaction pooler).
	pingEvery = 10 * time.Second
)

// run serves until ctx is done.
func (f *feed) run(ctx context.Context) {
	first := true
	db.Follow(ctx, db.To(f.dsn, db.DefaultLimits()), f.log, "the event feed lost its connection", func(ctx context.Context, conn *pgx.Conn) error {
		again := !first
		first = false
		if err := f.subscribe(ctx, conn); err != nil {
			return err
		}
		if again && f.last.Load() >= 0 {
			f.returned(ctx)
		}
		return f.follow(ctx, conn)
	})
}

// subscribe listens first and then finds the position to read from: nothing that commits in between is missed.
func (f *feed) subscribe(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if !f.deaf {
		if _, err := conn.Exec(ctx, "listen "+channelEvents+"; listen "+channelWake+"; listen "+channelEphemeral); err != nil {
			return fmt.Errorf("listening: %w", err)
		}
	}
	if f.last.Load() < 0 {
		var head int64
		if err := conn.QueryRow(ctx, "select head from private.log_position('')").Scan(&head); err != nil {
			return fmt.Errorf("reading the head of the log: %w", err)
		}
		f.last.Store(head)
	}
	f.backend.Store(conn.PgConn().PID())
	return nil
}

// follow reads after each notification or poll interval, until the connection fails.
func (f *feed) follow(ctx context.Context, conn *pgx.Conn) error {
	var pinged time.Time
	for {
		if err := f.read(ctx, conn); err != nil {
			return err
		}
		if !f.deaf && time.Since(pinged) > pingEvery {
			pinged = time.Now()
			if _, err := conn.Exec(ctx, "select pg_notify('"+channelEvents+"', '0')"); err != nil {
				return fmt.Errorf("notifying oneself: %w", err)
			}
		}
		if err := f.wait(ctx, conn); err != nil {
			return err
		}
	}
}

// wait returns when there may be new rows: after a notification of a higher id, or after the poll interval. A notification of an event that
// was already read costs no query.
func (f *feed) wait(ctx context.Context, conn *pgx.Conn) error {
	waitCtx, cancel := context.WithTimeout(ctx, f.poll)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(waitCtx)
		switch {
		case err == nil && n.Channel == channelWake:
			f.listening.Store(time.Now().UnixNano())
			f.wake()
		case err == nil && n.Channel == channelEphemeral:
			f.ephemeral(n.Payload)
		case err == nil:
			f.listening.Store(time.Now().UnixNano())
			if head, err := strconv.ParseInt(n.Payload, 10, 64); err != nil || head > f.last.Load() {
				return nil
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case waitCtx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)) && !conn.IsClosed():
			return nil
		default:
			return fmt.Errorf("waiting for notifications: %w", err)
		}
	}
}

// read dispatches everything after last, in batches.
func (f *feed) read(ctx context.Context, conn *pgx.Conn) error {
	for {
		events, err := f.batch(ctx, conn)
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
		f.readAt.Store(time.Now().UnixNano())
		if len(events) > 0 {
			f.dispatch(ctx, events)
			f.last.Store(events[len(events)-1].ID)
		}
		if len(events) < readAtOnce {
			return nil
		}
	}
}

func (f *feed) batch(ctx context.Context, conn *pgx.Conn) ([]*Event, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	rows, err := conn.Query(ctx, `select id, seq, room, type, data, audience, coalesce(organization_id::text, ''),
		coalesce(project_id::text, ''), coalesce(actor_user_id::text, ''), coalesce(conflation_key, ''), user_ids::text[], created_at
		from private.read_events($1, $2)`, f.last.Load(), readAtOnce)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Event, error) {
		e := Event{shared: &frames{}}
		var data string
		err := row.Scan(&e.ID, &e.Seq, &e.Room, &e.Type, &data, &e.Audience, &e.OrgID, &e.ProjectID, &e.ActorID, &e.ConflationKey,
			&e.UserIDs, &e.CreatedAt)
		e.Data = []byte(data)
		return &e, err
	})
}

// age returns how long ago the log was last read, and a notification last heard.
func (f *feed) age(now time.Time) (read, heard time.Duration) {
	return now.Sub(time.Unix(0, f.readAt.Load())), now.Sub(time.Unix(0, f.listening.Load()))
}
