// Package retention tests that rows are kept as long as the contract says, and no longer.
package retention

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// kept names, for each line of the contract's table, the rules and the interval of each. A line without rules says where it holds.
var kept = map[string]map[string]string{
	"AI chat history (sessions, context threads, attachments)": {"chat_sessions": "90 days"},
	"support conversations":              {"support_conversations": "00:00:00"}, // expires_at is 30 minutes after the last message
	"execution input/output/error texts": {"skill_executions.texts": "30 days", "skill_executions": "90 days"},
	"daily usage rows":                   {"usage_days": "30 days", "usage_counters.days": "30 days", "usage_counters": "1 year 1 mon"},
	"analytics events":                   {"analytics_events.people": "30 days", "analytics_events": "1 year 1 mon"},
	"project and context activity":       {"project_activity": "400 days", "context_changelog": "400 days"},
	"login history":                      {"login_history": "90 days"},
	"ended sessions, used tokens, closed invitations": {"sessions": "30 days", "sessions.expired": "30 days", "sessions.idle": "30 days", "refresh_tokens.used": "7 days",
		"team_invitations": "90 days", "project_invitations": "90 days"},
	"audit log":              {"audit_log": "7 days"}, // and the days of the plan
	"webhook deliveries":     {"webhook_deliveries": "30 days"},
	"idempotency keys":       {"idempotency_keys": "24:00:00", "reflex_deliveries": "24:00:00", "sealed_answers": "24:00:00"},
	"account after deletion": {"tombstones": "30 days"},
	"export files":           {"data_exports": "90 days"}, // the file goes with its link
	"Stripe events":          {"stripe_events.payloads": "30 days", "stripe_events": "400 days"},
	"invoices":               {"invoices": "7 years"},
	"application logs":       {}, // docs/operations.md, Retention
}

func TestEachLineOfTheContractHasItsRules(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	rules := testdb.Value[map[string]string](db, "select jsonb_object_agg(name, keep::text) from private.retention_rules")
	// A database that was set up without a table has no rule for it.
	absent := map[string]bool{}
	for name, relation := range map[string]string{"tombstones": "private.tombstones", "data_exports": "private.data_exports", "stripe_events": "private.stripe_events",
		"stripe_events.payloads": "private.stripe_events", "invoices": "public.invoices"} {
		absent[name] = testdb.Value[bool](db, "select to_regclass($1) is null", relation)
	}
	seen := 0
	for _, line := range lines(t) {
		want, ok := kept[line]
		require.True(t, ok, "no rule is named here for: %s", line)
		seen++
		for name, keep := range want {
			if absent[name] {
				continue
			}
			require.Equal(t, keep, rules[name], "%s: %s", line, name)
		}
	}
	require.Len(t, kept, seen)
}

// lines are the first cells of the table in section 9.4.
func lines(t *testing.T) (lines []string) {
	text, err := os.ReadFile("../../docs/contract/50-billing-usage-gdpr.md")
	require.NoError(t, err)
	_, section, ok := bytes.Cut(text, []byte("### 9.4 "))
	require.True(t, ok)
	for s := bufio.NewScanner(bytes.NewReader(section)); s.Scan() && !strings.HasPrefix(s.Text(), "---"); {
		if cells := strings.Split(s.Text(), "|"); len(cells) == 4 && !strings.HasPrefix(cells[1], " Data") && !strings.HasPrefix(cells[1], "---") {
			lines = append(lines, strings.TrimSpace(cells[1]))
		}
	}
	require.NotEmpty(t, lines)
	return lines
}

func TestStaffCleanUpAndTheWorkerGoesOn(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, sue := s.SignUp("Anna"), s.SignUp("Sue")
	s.DB.Exec("update public.users set is_platform_admin = true where id = $1", sue.ID)
	// More than a batch.
	s.DB.Exec(`insert into private.login_history (user_id, method, status, created_at)
		select $1, 'password', 'success', now() - interval '91 days' - g * interval '1 second' from generate_series(1, 2500) g`, anna.ID)
	old := func() int {
		return testdb.Value[int](s.DB, "select count(*) from private.login_history where created_at < now() - interval '90 days'")
	}

	anna.Do("POST", "/admin/cleanup-logs?dry_run=false", nil).Problem(403, "FORBIDDEN")
	s.As("").Do("POST", "/admin/cleanup-logs", nil).Problem(401, "UNAUTHENTICATED")
	sue.Do("POST", "/admin/cleanup-logs?dry_run=perhaps", nil).Problem(400, "VALIDATION_ERROR").Field("dry_run")

	type result struct {
		WouldDelete, Deleted *int
		DryRun, HasMore      bool
		Cutoff               string
	}
	for _, query := range []string{"", "?dry_run=true"} {
		report := client.JSON[map[string]result](sue.Do("POST", "/admin/cleanup-logs"+query, nil).Want(200))
		require.Equal(t, 2500, *report["login_history"].WouldDelete)
		require.True(t, report["login_history"].DryRun)
		require.Nil(t, report["login_history"].Deleted)
		require.Equal(t, 2500, old())
	}
	ended := client.JSON[map[string]result](sue.Do("POST", "/admin/cleanup-logs?dry_run=false", nil).Want(200))["login_history"]
	require.Equal(t, []any{2000, true, false}, []any{*ended.Deleted, ended.HasMore, ended.DryRun})
	require.Equal(t, 500, old())
	s.DB.Exec("update private.schedules set run_at = clock_timestamp() where name = 'retention.run'")
	s.DB.Exec("select private.run_due(100)")
	require.Zero(t, old(), "the schedule ends the rest without being asked")
}

// A row that a request holds is passed over, and a request that reads old rows does not wait for their end.
func TestRequestsAndRetentionDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	s.DB.Exec("insert into private.login_history (user_id, method, status, created_at) select $1, 'password', 'success', now() - interval '91 days' from generate_series(1, 3)", anna.ID)
	ctx := t.Context()
	request, err := s.DB.Connect("postgres").Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = request.Rollback(ctx) }()
	var held string
	require.NoError(t, request.QueryRow(ctx, "select ctid::text from private.login_history where created_at < now() - interval '90 days' limit 1 for update").Scan(&held))

	retention, err := s.DB.Connect("postgres").Begin(ctx)
	require.NoError(t, err)
	var ended int
	const apply = "select private.end_old(r, now(), 100) from private.retention_rules r where r.name = 'login_history'"
	require.NoError(t, retention.QueryRow(ctx, apply).Scan(&ended))
	require.Equal(t, 2, ended)
	require.GreaterOrEqual(t, len(anna.Get("/auth/me").Want(200).Body), 1, "while rows end, requests of their person are answered")
	require.NoError(t, retention.Commit(ctx))
	require.NoError(t, request.Rollback(ctx))
	require.Equal(t, 1, testdb.Value[int](s.DB, apply))
}
