package main

import (
	"context"
	"log/slog"
)

func latency(ctx context.Context, dsn string, log *slog.Logger, rate, seconds int) error { return nil }
func memory(ctx context.Context, dsn string, log *slog.Logger, sockets int) error { return nil }
