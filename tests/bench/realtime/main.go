// Command realtime measures the cost of events for the writers (target R1), the time of an event from commit to frame (R2), fan-out and
// bursts beside other servers (R3, R4), the database queries of an event (R5), the memory of an open socket (R6), and a storm of clients
// that reconnect at once. Each figure is a ratio against something run beside it in the same run, or is printed with its percentiles.
//
//	DATABASE_URL=postgres://postgres@127.0.0.1:5432/bench go run ./tests/bench/realtime writes
//	DATABASE_URL=... go run ./tests/bench/realtime latency
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 1000 fanout     (beside centrifuge and Socket.IO)
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 500 burst       (the same)
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 500 reads
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 10000 idle      (the same)
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 1000 sockets    (ours alone, in this process, with the heap)
//	DATABASE_URL=... go run ./tests/bench/realtime -sockets 1000 storm
//
// The database must be set up (go run ./db/cmd/kijko-db setup), with track_functions = all for the counts; `writes` needs pgbench and adds
// tables named bench_*. The yardsticks are a Go module and a Node package of their own, in the folders beside this file.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "realtime:", err)
		os.Exit(1)
	}
}

// allowFiles raises the limit of open files for this process and the servers that it starts.
func allowFiles(want uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	want = max(want, uint64(limit.Cur))
	limit.Cur, limit.Max = want, max(want, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d open files are needed (ulimit -n): %w", want, err)
	}
	return nil
}

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	seconds := flag.Int("seconds", 4, "length of one measurement")
	sockets := flag.Int("sockets", 1000, "open sockets")
	events := flag.Int("events", 50, "events of `fanout` and `burst`")
	rate := flag.Int("rate", 1000, "events a second of `latency`")
	hold := flag.Bool("hold", false, "`writes`: keep a transaction with a snapshot open meanwhile")
	flag.Parse()
	if err := allowFiles(uint64(*sockets) + 1000); err != nil {
		return err
	}
	if flag.Arg(0) != "serve" {
		fmt.Fprintln(os.Stderr, "realtime:", flag.Arg(0))
	}
	dsn := os.Getenv("DATABASE_URL")
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	switch flag.Arg(0) {
	case "writes":
		return writes(ctx, dsn, log, *rounds, *seconds, *hold)
	case "latency":
		return latency(ctx, dsn, log, *rate, *seconds)
	case "sockets":
		return memory(ctx, dsn, log, *sockets)
	case "fanout":
		return fanout(ctx, *rounds, *sockets, *events)
	case "burst":
		return bursts(ctx, *rounds, *sockets, *events)
	case "idle":
		return idle(ctx, *rounds, *sockets)
	case "storm":
		return storm(ctx, dsn, log, *sockets)
	case "reads":
		return reads(ctx, dsn, log, *sockets)
	case "serve":
		return serve(ctx, dsn, log)
	}
	return fmt.Errorf("usage: realtime [flags] writes | latency | fanout | burst | reads | idle | sockets | storm")
}
