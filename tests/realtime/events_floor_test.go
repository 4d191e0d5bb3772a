package realtime

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
)

// The sequencer skips places of its inbox that no row can come from any more. The place of a long-open transaction must not be skipped,
// whatever other transactions did meanwhile.
func TestTheFloorWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	ctx := context.Background()
	server := db.Connect("kijko_server")
	const room = "user:00000000-0000-4000-8000-000000000001"
	emit := "select private.emit('" + room + "', 'resource_changed', '{}', null)"
	// sequence numbers the waiting events, as if a second had passed since the last time.
	sequence := func() {
		db.Exec("update private.event_log set marked_at = '-infinity'")
		_, err := server.Exec(ctx, "select private.sequence_events()")
		require.NoError(t, err)
	}
	numbered := func() int {
		return testdb.Value[int](db, "select count(*) from public.events where room = $1", room)
	}

	// The open transaction is the newest of all when its place is marked.
	db.Exec(emit)
	tx, err := db.Connect("postgres").Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, emit)
	require.NoError(t, err)
	_, err = server.Exec(ctx, "select private.sequence_events()")
	require.NoError(t, err)
	others := 1
	for range 3 {
		db.Exec(emit)
		others++
		sequence()
	}
	require.Equal(t, others, numbered(), "nobody waits for the open transaction")
	require.NoError(t, tx.Commit(ctx))
	db.Exec(emit)
	sequence()
	require.Equal(t, others+2, numbered(), "and nothing of it is lost")
}
