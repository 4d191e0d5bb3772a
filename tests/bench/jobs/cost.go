package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// cost is what draining a backlog took. Unlike time it hardly depends on what else the machine does.
type cost struct {
	// worker and postgres are processor time: of this process, and of all processes of the cluster.
	worker, postgres time.Duration
	wal              int64
	transactions     int64
}

// spent reads the counters. It asks the database by a session of its own, which costs a transaction or two.
func (b *bench) spent(ctx context.Context, database string) (c cost, err error) {
	conn, err := pgx.Connect(ctx, b.cluster.TCPDSN(database))
	if err != nil {
		return c, err
	}
	defer func() { _ = conn.Close(ctx) }()
	// Sessions report their transactions within a second after they become idle.
	time.Sleep(1200 * time.Millisecond)
	var data string
	if err := conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, xact_commit, current_setting('data_directory') from pg_stat_database
		where datname = current_database()`).Scan(&c.wal, &c.transactions, &data); err != nil {
		return c, err
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return c, err
	}
	c.worker = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	c.postgres, err = processorTime(data)
	return c, err
}

// processorTime sums the time of the postmaster, its living children, and those that have ended.
func processorTime(data string) (time.Duration, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	postmaster, _, _ := strings.Cut(string(raw), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	ticks := 0
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		last := 13 // user and system time
		switch {
		case name == "/proc/"+postmaster+"/stat":
			last = 15 // and that of its children that have ended
		case fields[1] != postmaster:
			continue
		}
		for _, f := range fields[11:last] {
			n, err := strconv.Atoi(f)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// costs reports J6, what a trivial job of a backlog costs.
func (b *bench) costs(ctx context.Context) error {
	const jobs = 20_000
	e := b.engines["kijko"]
	for range 3 {
		if err := e.enqueue(ctx, jobs); err != nil {
			return err
		}
		before, err := b.spent(ctx, "kijko")
		if err != nil {
			return err
		}
		if _, err := e.drain(ctx, jobs); err != nil {
			return err
		}
		after, err := b.spent(ctx, "kijko")
		if err != nil {
			return err
		}
		a := func(d time.Duration) float64 { return float64(d.Microseconds()) / jobs }
		fmt.Printf("J6   a job: %.1f us of the worker, %.1f us of Postgres, %d bytes of WAL, %.2f transactions\n", a(after.worker-before.worker),
			a(after.postgres-before.postgres), (after.wal-before.wal)/jobs, float64(after.transactions-before.transactions)/jobs)
	}
	return nil
}
