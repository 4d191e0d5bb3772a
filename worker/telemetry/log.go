package telemetry

import (
	"bufio"
	"io"
	"log/slog"
	"sync"
	"time"
)

// NewLogger writes JSON lines to w. Lines are buffered for a moment, because a system call per line is the main cost of an access
// log. flush writes the remaining lines; call it last.
func NewLogger(w io.Writer, level string) (log *slog.Logger, flush func()) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	b := &bufferedWriter{w: bufio.NewWriterSize(w, 64<<10)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.flush()
			case <-stop:
				b.flush()
				return
			}
		}
	})
	var once sync.Once
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: l})), func() {
		once.Do(func() {
			close(stop)
			wg.Wait()
		})
	}
}

type bufferedWriter struct {
	mu sync.Mutex
	w  *bufio.Writer
}

func (b *bufferedWriter) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Write(p)
}

func (b *bufferedWriter) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.w.Flush() // there is no place to report a failure of the log itself
}
