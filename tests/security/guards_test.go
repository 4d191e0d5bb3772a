package security

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// derived is what the tables say now, beside what private.guards says.
const derived = `select concat_ws(' / ', (select g::text from private.guards g where g.organization_id = $1),
	(select (row(p.organization_id, case when pol then make_interval(mins => p.session_minutes) end,
		case when pol and p.idle_minutes > 0 then make_interval(mins => p.idle_minutes, secs => 70) end,
		case when pol and p.expiry_days > 0 and not p.sso_enforced then make_interval(days => p.expiry_days) end,
		case when not pol or p.require_second_factor = 'none' then '{}' when p.require_second_factor = 'admins' then '{owner,admin}' else '{owner,admin,member,viewer}' end::text[],
		case when lst then p.ip_mode else 'disabled' end,
		case when not lst or p.ip_mode = 'disabled' then '{owner,admin,member,viewer}' when p.ip_admin_bypass then '{owner,admin}' else '{}' end::text[],
		case when lst then array(select e.network from public.ip_allow_list_entries e where e.organization_id = $1 and e.is_active order by e.network) else '{}' end))::text
	from public.security_policies p, lateral (select private.has_gate($1, 'security_policies') as pol, private.has_gate($1, 'ip_allow_list') as lst) h
	where p.organization_id = $1))`

// Plan, policies and allow-list of one organization change at once, in any order, and some of the changes are taken back.
func TestTheRulesOfRequestsFollowSimultaneousChanges(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	pool := s.DB.Pool("postgres")
	changes := []func(n int) string{
		func(int) string {
			return "update public.subscriptions set plan_id = 'enterprise' where organization_id = $1"
		},
		func(int) string {
			return "update public.subscriptions set plan_id = 'teams' where organization_id = $1"
		},
		func(int) string {
			return "update public.subscriptions set status = 'canceled' where organization_id = $1"
		},
		func(int) string {
			return "update public.subscriptions set status = 'active' where organization_id = $1"
		},
		func(n int) string {
			return fmt.Sprintf("update public.security_policies set session_minutes = %d where organization_id = $1", 15+n)
		},
		func(n int) string {
			return fmt.Sprintf("update public.security_policies set ip_mode = 'enforce', ip_admin_bypass = %t where organization_id = $1", n%2 == 0)
		},
		func(n int) string {
			return fmt.Sprintf("update public.security_policies set require_second_factor = 'all', expiry_days = %d where organization_id = $1", n%300)
		},
		func(n int) string {
			return fmt.Sprintf("insert into public.ip_allow_list_entries (organization_id, name, network, is_range) values ($1, 'x', '10.%d.%d.0/24', true) on conflict do nothing", n%4, n%50)
		},
		func(n int) string {
			return fmt.Sprintf("update public.ip_allow_list_entries set is_active = not is_active where organization_id = $1 and network = '10.%d.%d.0/24'", n%4, n%50)
		},
		func(int) string {
			return "delete from public.ip_allow_list_entries where organization_id = $1 and random() < 0.2"
		},
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 40 {
				tx, err := pool.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.Exec(context.Background(), changes[rand.IntN(len(changes))](rand.IntN(1000)), anna.OrgID)
				if err != nil {
					t.Error(err)
				}
				if rand.IntN(5) == 0 {
					_ = tx.Rollback(context.Background())
				} else if err := tx.Commit(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	both := testdb.Value[string](s.DB, derived, anna.OrgID)
	half := (len(both) - 3) / 2
	require.Equal(t, both[half+3:], both[:half])

	// A change holds from the next request on.
	s.DB.Exec("delete from public.ip_allow_list_entries where organization_id = $1", anna.OrgID)
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise', status = 'active' where organization_id = $1", anna.OrgID)
	s.DB.Exec("update public.security_policies set session_minutes = 480, expiry_days = 0, require_second_factor = 'none', ip_mode = 'enforce', ip_admin_bypass = false where organization_id = $1", anna.OrgID)
	anna.Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	s.DB.Exec("insert into public.ip_allow_list_entries (organization_id, name, network, is_range) values ($1, 'x', '127.0.0.0/8', true)", anna.OrgID)
	anna.Get("/projects").Want(200)
	s.DB.Exec("update public.security_policies set expiry_days = 30 where organization_id = $1", anna.OrgID)
	anna.Get("/projects").Want(200)
	s.DB.Exec("update private.credentials set changed_at = now() - interval '31 days' where user_id = $1", anna.ID)
	anna.Get("/projects").Problem(403, "PASSWORD_EXPIRED")
	s.DB.Exec("update public.plans set gates = array_remove(gates, 'security_policies') where id = 'enterprise'")
	anna.Get("/projects").Want(200)
	s.DB.Exec("update public.subscriptions set status = 'canceled' where organization_id = $1", anna.OrgID)
	s.DB.Exec("delete from public.ip_allow_list_entries where organization_id = $1", anna.OrgID)
	anna.Get("/projects").Want(200)
}
