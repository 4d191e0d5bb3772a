package sharing

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// Logs are restored, erased and taken back while days are closed. The numbers of the closed days are those of the entries afterwards.
func TestTotalsOfLogsAreExactUnderSimultaneousChanges(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	project := anna.Do("POST", "/projects", client.Object{"name": "Log"}).Want(201).String("project.id")
	s.DB.Exec("update private.audit_mark set settled_at = now()")
	pool, ctx := s.DB.Pool("postgres"), context.Background()
	work := func(sql string, args ...any) {
		tx, err := pool.Begin(ctx)
		if err == nil {
			_, err = tx.Exec(ctx, sql, args...)
		}
		if err == nil && rand.IntN(4) > 0 {
			err = tx.Commit(ctx)
		} else if tx != nil {
			_ = tx.Rollback(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 30 {
				switch {
				case n == 0:
					work("select private.close_activity_days(now() - $1 * interval '1 day')", 20-rand.IntN(20))
				case n < 6:
					work(`insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
						select $1, $2, case when g % 3 = 0 then 'chat' else 'view' end, $3, 'Anna', 'anna@example.nl', 'did', now() - interval '1 hour' - random() * interval '30 days'
						from generate_series(1, 5) g`, anna.OrgID, project, anna.ID)
				default:
					work("delete from public.project_activity where project_id = $1 and type in ('chat', 'view') and created_at < now() - interval '1 hour' and random() < 0.05", project)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t,
		testdb.Value[string](s.DB, `select coalesce(string_agg(concat_ws(' ', x.day, x.type, x.entries), ', ' order by x.day, x.type), '') from (
			select (a.created_at at time zone 'UTC')::date as day, a.type, count(*) as entries from public.project_activity a, private.activity_mark m
			where a.project_id = $1 and a.created_at < m.closed_until group by 1, 2) x`, project),
		testdb.Value[string](s.DB, `select coalesce(string_agg(concat_ws(' ', d.day, d.type, d.entries), ', ' order by d.day, d.type), '')
			from private.activity_days d where d.project_id = $1 and d.entries > 0`, project))
	total := testdb.Value[int](s.DB, "select count(*)::int from public.project_activity where project_id = $1", project)
	require.Equal(t, float64(total), anna.Get("/projects/"+project+"/activity?range=all").Want(200).Value("total"))
}
