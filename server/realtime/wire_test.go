package realtime

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

// of makes the frame of an event of a project, as its room sends it.
func of(id int64, eventType, project string) *Frame {
	return (&Event{ID: id, Type: eventType, Room: "project:" + project, Data: []byte(`{"type":"chromaCode","status":"processing"}`)}).frame(false)
}

func update(id int64) *Frame             { return of(id, typeProgress, "a") }
func data(id int64) *Frame               { return of(id, typePhaseData, "a") }
func event(id int64, kind string) *Frame { return of(id, kind, "a") }

func ids(frames []*Frame) []int64 {
	out := []int64{}
	for _, f := range frames {
		out = append(out, f.ID)
	}
	return out
}

func TestGate(t *testing.T) {
	t.Parallel()
	fresh := func() *gate { return &gate{interval: 500 * time.Millisecond} }

	t.Run("FirstGoesAtOnceTheLastIsNeverLost", func(t *testing.T) {
		g := fresh()
		require.Equal(t, []int64{1}, ids(g.offer(update(1), after(0))))
		require.Empty(t, g.offer(update(2), after(100)))
		require.Empty(t, g.offer(update(3), after(499)))
		require.Equal(t, after(500), g.next())
		require.Empty(t, g.due(after(499)))
		require.Equal(t, []int64{3}, ids(g.due(after(500))))
		require.True(t, g.next().IsZero())
		require.Empty(t, g.due(after(5000)))
		require.Equal(t, []int64{4}, ids(g.offer(update(4), after(1000))), "after a quiet period at once again")
	})
	t.Run("APhaseStartDropsTheOldUpdateAndResetsTheClock", func(t *testing.T) {
		g := fresh()
		g.offer(update(1), after(0))
		g.offer(update(2), after(10))
		require.Equal(t, []int64{3}, ids(g.offer(event(3, typePhaseStarted), after(20))))
		require.Equal(t, []int64{4}, ids(g.offer(update(4), after(30))))
	})
	t.Run("TheEndFlushesWhatWaits", func(t *testing.T) {
		for _, end := range []string{typeComplete, typeError} {
			g := fresh()
			g.offer(update(1), after(0))
			g.offer(data(2), after(0))
			g.offer(update(3), after(10))
			g.offer(data(4), after(10))
			require.Equal(t, []int64{3, 4, 5}, ids(g.offer(event(5, end), after(20))))
		}
	})
	t.Run("IdsAscendOverTwoSeries", func(t *testing.T) {
		g := fresh()
		require.Equal(t, []int64{1}, ids(g.offer(update(1), after(0))))
		require.Equal(t, []int64{2}, ids(g.offer(data(2), after(300))))
		require.Empty(t, g.offer(data(3), after(350)))
		require.Empty(t, g.offer(update(4), after(600)), "due, but an older one waits")
		require.Equal(t, []int64{3, 4}, ids(g.due(after(800))))
	})
	t.Run("OtherRoomsHaveTheirOwnClockButTheOrderOfIds", func(t *testing.T) {
		g := fresh()
		require.Equal(t, []int64{1}, ids(g.offer(update(1), after(0))))
		require.Equal(t, []int64{2}, ids(g.offer(of(2, typeProgress, "b"), after(10))))
		require.Empty(t, g.offer(update(3), after(100)))
		require.Empty(t, g.offer(of(4, typeNotification, "b"), after(200)), "a larger id must not go before the one that waits")
		require.Equal(t, []int64{3, 4}, ids(g.due(after(500))))
		require.Empty(t, g.offer(update(5), after(600)))
		require.Equal(t, []int64{5, 6}, ids(g.offer(of(6, typePhaseStarted, "b"), after(610))), "the start of a phase waits for nothing, and ends its own series only")
	})
	t.Run("AReplacedUpdateLetsTheOthersGo", func(t *testing.T) {
		g := fresh()
		g.offer(update(1), after(0))
		g.offer(update(2), after(10))
		require.Empty(t, g.offer(of(3, typeResource, "a"), after(20)))
		require.Equal(t, []int64{3}, ids(g.offer(update(4), after(30))))
		require.Equal(t, []int64{4}, ids(g.due(after(500))))
	})
	t.Run("EnrichmentIsConflatedWhileItIsProcessing", func(t *testing.T) {
		g := fresh()
		require.Equal(t, []int64{1}, ids(g.offer(of(1, typeEnrichment, "a"), after(0))))
		require.Empty(t, g.offer(of(2, typeEnrichment, "a"), after(1)))
		done := (&Event{ID: 3, Type: typeEnrichment, Room: "context:a", Data: []byte(`{"type":"chromaCode","status":"completed"}`)}).frame(false)
		require.Empty(t, done.series)
	})
	t.Run("ARoomThatIsLeftTakesItsFramesAlong", func(t *testing.T) {
		g := fresh()
		g.offer(update(1), after(0))
		g.offer(update(2), after(10))
		g.forget("project:a")
		require.True(t, g.next().IsZero())
	})
	t.Run("ASnapshotCountsAsSent", func(t *testing.T) {
		g := fresh()
		g.note(seriesName(typeProgress, "project:a"), after(0))
		require.Empty(t, g.offer(update(1), after(100)))
		require.Equal(t, []int64{1}, ids(g.due(after(500))))
	})
}

func TestQueue(t *testing.T) {
	t.Parallel()
	sized := func(id, n int, series string) queued {
		wire := make([]byte, n)
		wire[0] = byte(id)
		return queued{series: series, wire: wire}
	}
	ids := func(items []queued) []int {
		out := []int{}
		for _, item := range items {
			out = append(out, int(item.wire[0]))
		}
		return out
	}

	t.Run("ANewerFrameOfASeriesReplacesTheOlder", func(t *testing.T) {
		q := queue{maxFrames: 2, maxBytes: 100}
		require.True(t, q.push(sized(1, 10, "p")))
		require.True(t, q.push(sized(2, 10, "")))
		require.True(t, q.push(sized(3, 10, "p")))
		require.Equal(t, []int{2, 3}, ids(q.take()))
	})
	t.Run("FramesAreLimitedWhoeverHasThem", func(t *testing.T) {
		q := queue{maxFrames: 2, maxBytes: 100}
		require.True(t, q.push(sized(1, 1, "")))
		q.take()
		require.True(t, q.push(sized(2, 1, "")))
		require.False(t, q.push(sized(3, 1, "")), "one is with the writer")
		q.take()
		require.Empty(t, q.take(), "the writer has written")
		require.True(t, q.push(sized(4, 1, "")))
		require.True(t, q.push(sized(5, 1, "")))
	})
	t.Run("BytesAreLimited", func(t *testing.T) {
		q := queue{maxFrames: 10, maxBytes: 100}
		require.True(t, q.push(sized(1, 60, "")))
		require.False(t, q.push(sized(2, 41, "")))
		require.True(t, q.push(sized(3, 40, "")))
	})
	t.Run("AReplayDoesNotCount", func(t *testing.T) {
		q := queue{maxFrames: 1, maxBytes: 10}
		for i := range 5 {
			q.force(sized(i, 100, "p"))
		}
		require.True(t, q.push(sized(9, 10, "")))
		require.False(t, q.push(sized(10, 1, "")))
		require.Len(t, q.take(), 6)
		require.False(t, q.push(sized(11, 1, "")))
		q.clear()
		require.Empty(t, q.take())
	})
}

func TestWindows(t *testing.T) {
	t.Parallel()
	start := noon.Truncate(time.Minute)
	w := newWindows(2, time.Minute)
	take := func(key string, at time.Duration) bool {
		ok, _ := w.take(key, start.Add(at))
		return ok
	}
	require.True(t, take("a", 0))
	require.True(t, take("a", time.Second))
	ok, wait := w.take("a", start.Add(2*time.Second))
	require.False(t, ok)
	require.Equal(t, 58*time.Second, wait)
	require.True(t, take("b", 2*time.Second), "others are not concerned")
	require.False(t, take("a", 61*time.Second), "the past window still counts")
	require.True(t, take("a", 3*time.Minute))

	w.maxKeys = 2
	require.True(t, take("c", 3*time.Minute))
	require.True(t, take("d", 3*time.Minute), "beyond the bound keys share one count")
	require.True(t, take("e", 3*time.Minute))
	require.False(t, take("f", 3*time.Minute))
}

func TestBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	for range 20 {
		ok, _ := b.take(10, 20, noon)
		require.True(t, ok)
	}
	ok, wait := b.take(10, 20, noon)
	require.False(t, ok)
	require.Equal(t, 100*time.Millisecond, wait)
	ok, _ = b.take(10, 20, after(100))
	require.True(t, ok)
	var s strikes
	require.Equal(t, 1, s.add(noon))
	require.Equal(t, 2, s.add(after(59_000)))
	require.Equal(t, 1, s.add(after(61_000)))
}

func TestFrame(t *testing.T) {
	t.Parallel()
	t.Run("HeadersOfAllLengths", func(t *testing.T) {
		for n, header := range map[int][]byte{
			0: {0x81, 0}, 125: {0x81, 125}, 126: {0x81, 126, 0, 126}, 65535: {0x81, 126, 0xff, 0xff}, 65536: {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0},
		} {
			wire := wrap(opText, make([]byte, n))
			require.Len(t, wire, len(header)+n)
			require.Equal(t, header, wire[:len(header)])
		}
	})
	at := noon.Add(4120 * time.Millisecond)
	read := func(k Kind, f *Frame) string {
		wire := k.encode(f)
		if wire[1] == 126 {
			return string(wire[4:])
		}
		return string(wire[2:])
	}
	t.Run("TheExampleOfTheContract", func(t *testing.T) {
		e := &Event{Type: typeProgress, ID: 48213, Room: "project:0b6e", CreatedAt: at, Data: []byte(`{"projectId":"0b6e"}`)}
		const common = `"id":"48213","timestamp":"2026-03-02T12:00:04.120Z","data":{"projectId":"0b6e"}}`
		require.JSONEq(t, `{"type":"progress_update",`+common, read(Project, e.frame(true)))
		require.JSONEq(t, `{"event":"progress_update",`+common, read(Context, e.frame(false)))
		require.JSONEq(t, `{"type":"progress_update","room":"project:0b6e",`+common, read(General, e.frame(false)))
		require.JSONEq(t, `{"type":"progress_update","room":"ingestion:0b6e",`+common, read(General, e.frame(true)))
		s := snapshotFrame(typeError, "ingestion:x", json.RawMessage(`{}`), noon)
		require.JSONEq(t, `{"type":"error","snapshot":true,"timestamp":"2026-03-02T12:00:00.000Z","data":{}}`, read(Project, s))
	})
	t.Run("OneEncodingForAll", func(t *testing.T) {
		e := &Event{Type: typeError, ID: 1, Room: "project:x", CreatedAt: at, Data: []byte(`{}`), shared: &frames{}}
		f := e.frame(false)
		require.Same(t, f, e.frame(false))
		require.Same(t, e.frame(true), e.frame(true))
		require.Same(t, &General.encode(f)[0], &General.encode(f)[0])
		require.Contains(t, read(General, f), `"ingestion_error"`)
		require.Contains(t, read(Context, f), `"event":"error"`)
	})
	t.Run("ControlFramesOfTheGeneralSocketAreFlat", func(t *testing.T) {
		pong := controlFrame(framePong, struct{}{}, "", at)
		require.Equal(t, `{"type":"pong"}`, read(General, pong))
		require.Equal(t, `{"type":"pong","timestamp":"2026-03-02T12:00:04.120Z","data":{}}`, read(Project, pong))
		require.Equal(t, `{"type":"pong","ref":"\u003ca\u003e"}`, read(General, controlFrame(framePong, struct{}{}, "<a>", at)))
		require.Equal(t, `{"type":"room_joined","room":"x:y"}`, read(General, controlFrame(frameJoined, roomData{"x:y"}, "", at)))
		refused := controlFrame(frameError, rejection{Code: "C", Message: "m"}, "", at)
		require.Equal(t, `{"type":"error","code":"C","message":"m"}`, read(General, refused))
		require.JSONEq(t, `{"event":"protocol_error","timestamp":"2026-03-02T12:00:04.120Z","data":{"code":"C","message":"m"}}`, read(Context, refused))
		require.Contains(t, read(General, controlFrame("hello", map[string]string{}, "", at)), `"data":{}`)
	})
	t.Run("WhatCannotBeEncodedIsSaid", func(t *testing.T) {
		require.Contains(t, string(controlFrame("x", func() {}, "", noon).Data), "INTERNAL")
		require.Contains(t, string(controlFrame("x", 7, "", noon).Data), "INTERNAL")
	})
	t.Run("AReasonIsCut", func(t *testing.T) {
		f := closeWire(4001, strings.Repeat("x", 500))
		require.Len(t, f, 2+125)
		require.Equal(t, []byte{0x88, 125, 0x0f, 0xa1}, f[:4])
	})
}

func TestCursor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "48213": 48213, "007": 7, strings.Repeat("9", 38): 1<<63 - 1} {
		id, ok := parseCursor(text)
		require.True(t, ok, text)
		require.Equal(t, want, id, text)
	}
	for _, text := range []string{"", "-1", "1.5", "0x1", " 1", "１", strings.Repeat("9", 39)} {
		_, ok := parseCursor(text)
		require.False(t, ok, text)
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	const id = "0b6e0000-0000-4000-8000-00000000abcd"
	for name, want := range map[string]string{
		"project:" + id: "project:" + id, "user:" + strings.ToUpper(id): "user:" + id, "org:" + id: "org:" + id,
		"ingestion:" + id: "ingestion:" + id, "context:" + id: "context:" + id,
	} {
		room, ok := parseRoom(name)
		require.True(t, ok, name)
		require.Equal(t, want, room)
	}
	for _, name := range []string{"", "invalid-format", "project", "project:", "project:x", ":" + id, "team:" + id, "project:{" + id + "}",
		"project: " + id, "project:" + id + ":" + id, "urn:uuid:" + id, "project:" + strings.ReplaceAll(id, "-", "")} {
		_, ok := parseRoom(name)
		require.False(t, ok, name)
	}
	require.Equal(t, "project:"+id, sourceOf("ingestion:"+id))
	require.Equal(t, "", projectOf("org:"+id))
}
