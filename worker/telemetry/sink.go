package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// exportLimit bounds one attempt to send, retries included.
	exportLimit = 10 * time.Second
	// maxWaiting and maxWaitingBytes bound the spans that wait for one receiver. A span with texts is large.
	maxWaiting      = 2048
	maxWaitingBytes = 32 << 20
	// maxRequest is about how many bytes of spans one request holds; many receivers refuse requests beyond some megabytes.
	maxRequest = 2 << 20
	// sayAgain is how often the log repeats that a receiver is away.
	sayAgain = time.Minute
)

// sink sends spans to one receiver. The work that ends a span only puts it into a queue. A full queue drops the span and counts it: the SDK's
// own processor drops without a number that could be read, and knows no bound of bytes. A slow, refusing or dead receiver therefore costs its
// own spans only.
type sink struct {
	name     string
	exporter sdk.SpanExporter
	batches  sdk.SpanProcessor
	// keep chooses spans; nil: all. change makes the receiver's form; nil: none.
	keep   func(sdk.ReadOnlySpan) bool
	change func(sdk.ReadOnlySpan) sdk.ReadOnlySpan
	limit  time.Duration
	log    *slog.Logger

	waiting, bytes         atomic.Int64
	sent, dropped, refused atomic.Uint64
	failing                atomic.Bool
	// alive ends the requests that a stop does not wait for any more.
	alive context.Context
	end   context.CancelFunc
	once  sync.Once
	said  time.Time // of the one goroutine that sends
}

func newSink(name string, exporter sdk.SpanExporter, keep func(sdk.ReadOnlySpan) bool, change func(sdk.ReadOnlySpan) sdk.ReadOnlySpan,
	limit time.Duration, log *slog.Logger) *sink {
	s := &sink{name: name, exporter: exporter, keep: keep, change: change, limit: limit, log: log}
	s.alive, s.end = context.WithCancel(context.Background())
	// The time limit is that of a request, and a batch is up to a few of them.
	s.batches = sdk.NewBatchSpanProcessor(s, sdk.WithMaxQueueSize(maxWaiting), sdk.WithBatchTimeout(time.Second), sdk.WithExportTimeout(4*limit))
	return s
}

// OnStart does nothing.
func (s *sink) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd queues a span, or drops it.
func (s *sink) OnEnd(span sdk.ReadOnlySpan) {
	if !span.SpanContext().IsSampled() || s.keep != nil && !s.keep(span) {
		return
	}
	n := sizeOf(span)
	waiting, bytes := s.waiting.Add(1), s.bytes.Add(n)
	if waiting > maxWaiting || bytes > maxWaitingBytes {
		s.waiting.Add(-1)
		s.bytes.Add(-n)
		s.dropped.Add(1)
		return
	}
	s.batches.OnEnd(span)
}

// ExportSpans sends a batch in requests of a bounded size. It returns no error: the receiver's state tells what happened.
func (s *sink) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.alive, cancel)()
	for len(spans) > 0 {
		var request []sdk.ReadOnlySpan
		var bytes int64
		for _, span := range spans {
			if n := sizeOf(span); len(request) == 0 || bytes+n <= maxRequest {
				request, bytes = append(request, span), bytes+n
				continue
			}
			break
		}
		spans = spans[len(request):]
		s.send(ctx, request)
		s.waiting.Add(-int64(len(request)))
		s.bytes.Add(-bytes)
	}
	return nil
}

func (s *sink) send(ctx context.Context, spans []sdk.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	ready := make([]sdk.ReadOnlySpan, len(spans))
	for i, span := range spans {
		if s.change != nil {
			span = s.change(span)
		}
		ready[i] = valid(span)
	}
	if err := s.exporter.ExportSpans(ctx, ready); err != nil {
		s.refused.Add(uint64(len(spans)))
		s.failing.Store(true)
		if time.Since(s.said) > sayAgain {
			s.said = time.Now()
			s.log.Warn("spans could not be sent", "to", s.name, "sent", s.sent.Load(), "dropped", s.dropped.Load(), "refused", s.refused.Load(), "error", err)
		}
		return
	}
	s.sent.Add(uint64(len(spans)))
	s.failing.Store(false)
}

// ForceFlush sends what waits.
func (s *sink) ForceFlush(ctx context.Context) error { return s.batches.ForceFlush(ctx) }

// Shutdown closes the exporter, as its processor and the provider ask for.
func (s *sink) Shutdown(ctx context.Context) (err error) {
	s.once.Do(func() { err = s.exporter.Shutdown(ctx) })
	return err
}

// close sends what waits until ctx ends, and drops the rest.
func (s *sink) close(ctx context.Context) {
	err := s.batches.Shutdown(ctx)
	s.end()
	if err != nil {
		s.log.Warn("the last spans were not sent", "to", s.name, "waiting", s.waiting.Load(), "error", err)
	}
}

func (s *sink) state() Receiver {
	return Receiver{Name: s.name, Sent: s.sent.Load(), Dropped: s.dropped.Load(), Refused: s.refused.Load(), Failing: s.failing.Load()}
}

// sizeOf is about how much memory a span takes.
func sizeOf(span sdk.ReadOnlySpan) int64 {
	n := 256 + len(span.Name()) + len(span.Status().Description)
	for _, a := range span.Attributes() {
		n += len(a.Key) + 16
		if a.Value.Type() == attribute.STRING {
			n += len(a.Value.AsString())
		}
	}
	return int64(n)
}

// changed is a span with another name, status and attributes.
type changed struct {
	sdk.ReadOnlySpan
	name       string
	status     sdk.Status
	attributes []attribute.KeyValue
}

func (c changed) Name() string                     { return c.name }
func (c changed) Status() sdk.Status               { return c.status }
func (c changed) Attributes() []attribute.KeyValue { return c.attributes }

func withAttributes(span sdk.ReadOnlySpan, attributes []attribute.KeyValue) changed {
	return changed{ReadOnlySpan: span, name: span.Name(), status: span.Status(), attributes: attributes}
}

// valid replaces bytes that are not UTF-8: one such text would make the encoder refuse the whole request.
func valid(span sdk.ReadOnlySpan) sdk.ReadOnlySpan {
	ok := utf8.ValidString(span.Name()) && utf8.ValidString(span.Status().Description)
	for _, a := range span.Attributes() {
		ok = ok && isValid(a)
	}
	if ok {
		return span
	}
	c := withAttributes(span, make([]attribute.KeyValue, 0, len(span.Attributes())))
	c.name, c.status.Description = mend(c.name), mend(c.status.Description)
	for _, a := range span.Attributes() {
		if !isValid(a) {
			a = mended(a)
		}
		c.attributes = append(c.attributes, a)
	}
	return c
}

func isValid(a attribute.KeyValue) bool {
	switch a.Value.Type() {
	case attribute.STRING:
		return utf8.ValidString(a.Value.AsString())
	case attribute.STRINGSLICE:
		for _, text := range a.Value.AsStringSlice() {
			if !utf8.ValidString(text) {
				return false
			}
		}
	}
	return true
}

func mended(a attribute.KeyValue) attribute.KeyValue {
	if a.Value.Type() == attribute.STRING {
		return a.Key.String(mend(a.Value.AsString()))
	}
	texts := a.Value.AsStringSlice()
	for i := range texts {
		texts[i] = mend(texts[i])
	}
	return a.Key.StringSlice(texts)
}

func mend(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
