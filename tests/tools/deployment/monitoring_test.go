package deployment

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"kijko/server/config"
	"kijko/tests/stack"
)

const monitoring = "server/deploy/monitoring"

// TestEachMetricOfAlertsAndDashboardExists reads the names in both and looks for each on /metrics.
func TestEachMetricOfAlertsAndDashboardExists(t *testing.T) {
	s := stack.New(t, func(c *config.Config) {
		c.MetricsAddr = "127.0.0.1:0"
		c.Tracing = "http://127.0.0.1:9" // no collector: a receiver of spans has numbers all the same
	})
	s.Get("//health/ready")
	s.Get("/billing/plans").Want(200)
	r, err := http.Get(s.App.MetricsURL())
	require.NoError(t, err)
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	served, own := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)[{ ]`).FindAllStringSubmatch(string(text), -1) {
		served[m[1]] = true
		if strings.HasPrefix(m[1], "kijko_") {
			own[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(m[1], "_bucket"), "_sum"), "_count")] = true
		}
	}
	named := string(read(t, monitoring+"/alerts.yml")) + string(read(t, monitoring+"/dashboard.json")) + string(read(t, monitoring+"/alerts_test.yml"))
	used := regexp.MustCompile(`\b(kijko|go|process)_[a-z_]+`).FindAllString(named, -1)
	require.Greater(t, len(used), 20)
	for _, name := range used {
		require.True(t, served[name], "%s is not on /metrics", name)
	}
	for name := range own {
		require.Contains(t, named, name, "neither an alert nor the dashboard shows it")
	}
}

func TestDashboard(t *testing.T) {
	var d struct {
		UID    string
		Panels []struct {
			ID          int
			Type, Title string
			Description string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, RefID string }
			Datasource  *struct{ UID string }
		}
	}
	require.NoError(t, json.Unmarshal(read(t, monitoring+"/dashboard.json"), &d))
	require.Equal(t, "kijko", d.UID)
	ids := map[int]bool{}
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], "%s has the id of another panel", p.Title)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type != "row" {
			require.NotEmpty(t, p.Targets, p.Title)
			require.NotEmpty(t, p.Description, p.Title)
			require.Equal(t, "${datasource}", p.Datasource.UID, "a dashboard that is imported asks for its source")
		}
	}
}

func TestAlertsSayWhatHappenedAndWhatToDo(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(read(t, monitoring+"/alerts.yml"), &rules))
	for _, r := range rules.Groups[0].Rules {
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.For, "%s fires at the first hiccup", r.Alert)
		for _, part := range []string{"summary", "description"} {
			require.Regexp(t, `\.$`, r.Annotations[part], r.Alert)
		}
	}
}

// TestProfilesStartWhatTheyName compares the head of the compose file with its profiles, and looks for each file that it mounts.
func TestProfilesStartWhatTheyName(t *testing.T) {
	text := string(read(t, "docker-compose.yml"))
	head, _, _ := strings.Cut(text, "\nname: ")
	c := loadCompose(t)
	profiles := map[string][]string{}
	for name, s := range c.Services {
		for _, profile := range s.Profiles {
			profiles[profile] = append(profiles[profile], name)
			require.Regexp(t, `\b`+profile+`\b`, head, "the head names the profile")
		}
		for dependency := range s.DependsOn {
			for _, profile := range c.Services[dependency].Profiles {
				require.Contains(t, s.Profiles, profile, "%s needs %s, which its profile does not start", name, dependency)
			}
		}
	}
	require.ElementsMatch(t, []string{"prometheus", "grafana"}, profiles["monitoring"])
	require.Equal(t, []string{"s3"}, profiles["s3"])
	require.Equal(t, []string{"tracing"}, profiles["tracing"])
	for _, m := range regexp.MustCompile(`- (\./[^:\s]+):`).FindAllStringSubmatch(text, -1) {
		_, err := filepath.EvalSymlinks(filepath.Join("..", "..", "..", m[1]))
		require.NoError(t, err, "%s is mounted", m[1])
	}
}
