// Command realtime measures what events cost the writers (targets R1), how long an event takes from commit to frame (R2) and what an
// open socket costs in memory (R6). Each figure is a ratio against something run beside it in the same run, or is printed with its
// percentiles.
//
//	DATABASE_URL=postgres://postgres@127.0.0.1:5432/bench go run ./tests/bench/realtime writes
//	DATABASE_URL=... go run ./tests/bench/realtime latency
//	DATABASE_URL=... go run ./tests/bench/realtime sockets
//
// The database must be set up (go run ./db/cmd/kijko-db setup); `writes` needs pgbench and adds tables named bench_*.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "realtime:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	rounds := flag.Int("rounds", 5, "interleaved rounds of `writes`")
	seconds := flag.Int("seconds", 4, "length of one measurement")
	sockets := flag.Int("sockets", 1000, "open sockets of `sockets`")
	rate := flag.Int("rate", 1000, "events a second of `latency`")
	hold := flag.Bool("hold", false, "`writes`: keep a transaction with a snapshot open meanwhile")
	flag.Parse()
	dsn := os.Getenv("DATABASE_URL")
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	switch flag.Arg(0) {
	case "writes":
		return writes(ctx, dsn, log, *rounds, *seconds, *hold)
	case "latency":
		return latency(ctx, dsn, log, *rate, *seconds)
	case "sockets":
		return memory(ctx, dsn, log, *sockets)
	}
	return fmt.Errorf("usage: realtime [flags] writes | latency | sockets")
}
