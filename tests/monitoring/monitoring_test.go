// Package monitoring tests contract 60, section 17.3, over HTTP. Which rows make which lines is in tests/pgtap/monitoring.sql.
package monitoring

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestTelemetryIsThatOfTheOrganization(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.Executions = 5 })
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	stack.Eventually(t, "the server's settings in the database", func() bool {
		return testdb.Value[bool](s.DB, "select exists (select from private.installation where key = 'worker_slots')")
	})
	s.DB.Exec(`insert into public.skill_executions (user_id, organization_id, execution_type, status, executed_at, started_at, completed_at, error_code) values
		($1, $2, 'manual', 'failed', '2026-11-30T12:00:00.250Z', '2026-11-30T12:00:00.250Z', '2026-11-30T12:00:01.5Z', 'API_ERROR'),
		($1, $2, 'manual', 'running', '2026-11-30T12:00:02Z', '2026-11-30T12:00:02Z', null, null)`, anna.ID, anna.OrgID)
	anna.Get("/telemetry/events").Want(200).Equal([]map[string]any{
		{"ts": "12:00:00.250", "timestamp": "2026-11-30T12:00:00.250Z", "source": "AGENT", "msg": "Run of a skill began"},
		{"ts": "12:00:01.500", "timestamp": "2026-11-30T12:00:01.500Z", "source": "AGENT", "msg": "Run of a skill failed (API_ERROR) after 1.3 s"},
		{"ts": "12:00:02.000", "timestamp": "2026-11-30T12:00:02.000Z", "source": "AGENT", "msg": "Run of a skill began"}})
	anna.Get("/telemetry/logs?limit=2").Want(200).Equal([]map[string]any{
		{"ts": "12:00:01", "level": "ERROR", "agent": "executions", "msg": "Run of a skill failed (API_ERROR) after 1.3 s"},
		{"ts": "12:00:02", "level": "DEBUG", "agent": "executions", "msg": "Run of a skill began"}})
	agents := client.JSON[[]struct {
		Name, State string
		Load        int
	}](anna.Get("/telemetry/agents").Want(200))
	require.Len(t, agents, 7)
	require.Equal(t, "executions Thinking", agents[0].Name+" "+agents[0].State)
	require.Equal(t, 20, agents[0].Load)
	anna.Get("/telemetry/events?limit=0").Problem(400, "VALIDATION_ERROR").Field("limit")
	anna.Get("/telemetry/events?limit=x").Problem(400, "VALIDATION_ERROR").Field("limit")
	for _, path := range []string{"/telemetry/events", "/telemetry/logs"} {
		stan.Get(path).Want(200).Equal([]any{})
		s.As("").Get(path).Problem(401, "UNAUTHENTICATED")
	}
}
