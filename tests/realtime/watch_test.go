package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/realtime"
	"kijko/tests/stack"
)

// A part of a server process (a handler that waits for an execution) follows a room without a socket.
func TestRealtimeWatch(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	a, b := l.node(), l.node()
	ann := l.actor()
	room := "user:" + ann.user
	heard := make(chan realtime.Event, 10)
	listen := func(n *node) func() { return n.Watch(room, func(e realtime.Event) { heard <- e }) }
	stopA, stopB := listen(a), listen(b)
	next := func() realtime.Event {
		select {
		case e := <-heard:
			return e
		case <-time.After(stack.Patience):
			require.FailNow(t, "nothing was heard")
		}
		return realtime.Event{}
	}

	l.db.Exec(`select private.emit($1, 'execution_update', '{"status": "running"}', null)`, room)
	for range 2 {
		e := next()
		require.Equal(t, "execution_update", e.Type)
		require.JSONEq(t, `{"status": "running"}`, string(e.Data))
		require.Positive(t, e.ID)
	}
	for _, role := range []string{"kijko_server", "kijko_worker"} {
		_, err := l.db.Connect(role).Exec(t.Context(), `select private.publish($1, 'execution_output', '{"seq": 0, "chunk": "Grüße"}')`, room)
		require.NoError(t, err)
		for range 2 {
			e := next()
			require.Equal(t, "execution_output", e.Type)
			require.JSONEq(t, `{"seq": 0, "chunk": "Grüße"}`, string(e.Data))
			require.Zero(t, e.ID, "it is not kept")
			require.WithinDuration(t, time.Now(), e.CreatedAt, time.Minute)
		}
	}
	// Events that are too large, or of other rooms, are not delivered. A watcher that stopped receives nothing.
	stopA()
	l.db.Exec(`select private.publish($1, 'execution_output', jsonb_build_object('chunk', repeat('x', 7000)))`, room)
	l.db.Exec(`select private.publish('user:' || gen_random_uuid(), 'execution_output', '{}')`)
	l.db.Exec(`select private.publish($1, 'end', '{}')`, room)
	require.Equal(t, "end", next().Type)
	stopB()
	require.Empty(t, heard)
}
