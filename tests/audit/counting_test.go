package audit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/testdb"
)

func TestNoBlockIsCutBeforeAnOpenTransaction(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	settled := func() *time.Time { return testdb.Value[*time.Time](l.DB, "select private.settle_audit()") }
	settled()
	open, err := l.DB.Connect("postgres").Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), "select private.audit('user.login', 'Written before the mark, seen after it.', null, null, $1, $2)", l.anna.OrgID, l.anna.ID)
	require.NoError(t, err)
	var written time.Time
	require.NoError(t, open.QueryRow(t.Context(), "select max(created_at) from public.audit_log where description like 'Written before%'").Scan(&written))

	settled() // may advance to the mark of the call before, and sets a mark for now
	for range 3 {
		at := settled()
		require.True(t, at == nil || at.Before(written), "an entry that nobody sees yet could be missed: %s, %s", at, written)
	}
	require.NoError(t, open.Commit(t.Context()))
	require.Eventually(t, func() bool {
		at := settled()
		return at != nil && at.After(written.Add(-time.Minute))
	}, 20*time.Second, 20*time.Millisecond,
		"once it is over, its moment is settled, as soon as all others of then are over too")
}

// Run the schedules by the worker's own call.
func TestBlocksAreCutAndOldEntriesGoBySchedule(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.plan(l.anna, "enterprise")
	l.DB.Exec("delete from public.audit_log where organization_id = $1", l.anna.OrgID)
	l.DB.Exec(`insert into public.audit_log (organization_id, user_id, event_type, description, created_at)
		select $1, $2, 'context.updated', 'Change ' || g, now() - interval '2 minutes' - make_interval(secs => g) from generate_series(1, 4500) g`, l.anna.OrgID, l.anna.ID)
	l.write(400, l.anna.ID, "user.login", "Out of sight for longer than a week.")
	l.write(370, l.anna.ID, "user.login", "Out of sight.")
	l.DB.Exec("insert into private.audit_growth values ($1)", l.anna.OrgID)
	before := client.JSON[page](l.anna.Get("/security/audit-log?offset=4000&limit=5").Want(200))
	due := func() {
		l.DB.Exec("update private.schedules set run_at = now() where name like 'audit.%' or name = 'retention.run'")
		l.DB.Exec("update private.retention_rules set run_at = now() where name = 'audit_log'")
		l.DB.Exec("select private.run_due(100)")
	}
	require.Eventually(t, func() bool {
		due()
		return testdb.Value[int](l.DB, "select count(*) from private.audit_blocks where organization_id = $1", l.anna.OrgID) == 2
	}, 20*time.Second, 20*time.Millisecond, "two blocks of 2,000")
	require.Equal(t, before, client.JSON[page](l.anna.Get("/security/audit-log?offset=4000&limit=5").Want(200)))
	require.Equal(t, 4500, before.TotalCount)
	require.Equal(t, "Out of sight.", testdb.Value[string](l.DB, "select string_agg(description, ' ') from public.audit_log where event_type = 'user.login' and organization_id = $1", l.anna.OrgID))
}
