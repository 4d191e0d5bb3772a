// Package health tests the probes of the process against the contract's table of checks (contract 50, section 10).
package health

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
)

// statuses of each check on an installation where nothing optional is set.
var statuses = map[string]string{"database": "healthy", "queue": "healthy", "listener": "healthy", "auth": "healthy", "storage": "healthy", "ai": "unconfigured",
	"tracing": "disabled", "metering": "disabled"}

func TestHealthIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.LocalModel = "off" })
	stack.Eventually(t, "the listener listens", func() bool { return s.Get("//health/ready").Value("status") == "healthy" })
	keys := func(r client.Response) (keys []string) {
		for k := range client.JSON[map[string]any](r) {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return keys
	}
	for _, prefix := range []string{"//health", "/health"} {
		health, ready := s.Get(prefix).Want(200), s.Get(prefix+"/ready").Want(200)
		require.Equal(t, []string{"checks", "status", "version"}, keys(health))
		require.Equal(t, []string{"checks", "durationMs", "status", "version"}, keys(ready))
		s.Get(prefix + "/live").Want(200).Equal(map[string]any{"status": "healthy", "version": s.Config.Version})
		for name, want := range statuses {
			require.Equal(t, want, health.Value("checks."+name+".status"), name)
			require.Equal(t, want, ready.Value("checks."+name+".status"), name)
		}
		require.NotNil(t, ready.Value("checks.queue.pending"))
		require.NotNil(t, ready.Value("checks.queue.oldestSeconds"))
	}
	require.Equal(t, []string{"docs", "health", "name", "version"}, keys(s.Get("//").Want(200)))

	t.Run("EachCheckOfTheTableIsThere", func(t *testing.T) {
		text, err := os.ReadFile("../../docs/contract/50-billing-usage-gdpr.md")
		require.NoError(t, err)
		_, section, ok := strings.Cut(string(text), "| check | critical |")
		require.True(t, ok)
		section, _, _ = strings.Cut(section, "\n\n")
		checks := s.Get("//health").Value("checks").(map[string]any)
		rows := regexp.MustCompile(`(?m)^\| ([a-z, ]+) \| (✓|–) \|`).FindAllStringSubmatch(section, -1)
		require.Len(t, rows, 8)
		for _, row := range rows {
			for _, name := range strings.Split(row[1], ", ") {
				require.Contains(t, checks, name)
			}
		}
	})
	t.Run("AJobThatWaitsForAMinuteDegrades", func(t *testing.T) {
		s.DB.Exec("select private.enqueue('executions.run', '{}')")
		s.DB.Exec("update jobs.gue_jobs set run_at = now() - interval '2 minutes' where job_type = 'executions.run'")
		ready := s.In(t).Get("//health/ready").Want(200)
		require.Equal(t, []any{"degraded", "BEHIND", "degraded"}, []any{ready.Value("checks.queue.status"), ready.Value("checks.queue.code"), ready.Value("status")})
		require.Equal(t, "healthy", s.In(t).Get("//health").Value("status"), "the public route repeats an answer for up to 5 s")
	})
}

// During an upgrade servers of two releases run beside one database: those of the release before stay in the service, those of the next wait.
func TestReadinessDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	ready := func() bool { return s.Get("//health/ready").Status == 200 }
	stack.Eventually(t, "the server is ready", ready)
	s.DB.Exec("update public.schema_version set version = version - 1")
	stack.Eventually(t, "a server waits for its migrations", func() bool { return s.Get("//health/ready").Value("checks.database.code") == "MIGRATIONS_PENDING" })
	require.False(t, ready())
	s.DB.Exec("update public.schema_version set version = version + 2")
	stack.Eventually(t, "a server is ready beside the migrations of the next release", ready)
}
