package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/server/realtime"
)

// serve is Kijko's side of the comparison with other servers, in a process of its own. Its events are durable, written to Postgres by one
// transaction a burst, and published to a project's room.
func serve(ctx context.Context, dsn string, log *slog.Logger) error {
	w, err := build(ctx, dsn, log)
	if err != nil {
		return err
	}
	defer w.stop()
	dispatched := make(chan int64, 1)
	stop := w.server.Watch("project:"+w.project, func(realtime.Event) {
		select {
		case dispatched <- time.Now().UnixNano():
		default:
		}
	})
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/burst", func(out http.ResponseWriter, r *http.Request) {
		number := func(name string) int { n, _ := strconv.Atoi(r.URL.Query().Get(name)); return n }
		select {
		case <-dispatched:
		default:
		}
		batch := &pgx.Batch{}
		batch.Queue(`select set_config('app.wakes', 'on', true)`)
		batch.Queue(`select private.emit('project:' || $1::text, 'error', jsonb_build_object('n', $2::int + i, 'text', $3::text), $4, $1::text::uuid)
			from generate_series(0, $5::int - 1) i`, w.project, number("from"), strings.Repeat("x", number("size")), w.org, number("n"))
		if err := w.pool.SendBatch(r.Context(), batch).Close(); err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		w.server.Waker().Wake(true, false)
		// The other servers measure from this point too: the event is in the process and is published to its sockets.
		_ = json.NewEncoder(out).Encode(map[string]int64{"at": <-dispatched})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf(`{"ws":"ws://%s/projects/%s/ws?token=x&snapshot=false","http":"http://%s"}`+"\n", w.addr, w.project, listener.Addr())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// program is this program, for a child process.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return self
}
