package repository

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goList prints the format for each package below the pattern.
func goList(t *testing.T, arguments ...string) []string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list"}, arguments...)...)
	command.Dir = "../.."
	out, err := command.Output()
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Code points in one direction: server, worker, db. Code that both programs need lives in worker.
func TestImportsPointInOneDirection(t *testing.T) {
	t.Parallel()
	below := map[string][]string{"kijko/db": {"kijko/server", "kijko/worker"}, "kijko/worker": {"kijko/server"}}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./db/...", "./worker/...") {
		path, imports, _ := strings.Cut(line, " ")
		for layer, above := range below {
			if path != layer && !strings.HasPrefix(path, layer+"/") {
				continue
			}
			for _, imported := range strings.Fields(imports) {
				for _, forbidden := range above {
					assert.False(t, imported == forbidden || strings.HasPrefix(imported, forbidden+"/"), "%s imports %s", path, imported)
				}
			}
		}
	}
}

func TestTheWorkerLinksNoHTTPEdge(t *testing.T) {
	t.Parallel()
	for _, path := range goList(t, "-deps", "./worker") {
		for _, edge := range []string{"github.com/gofiber/", "github.com/valyala/fasthttp", "github.com/fasthttp/", "github.com/swaggest/"} {
			assert.False(t, strings.HasPrefix(path, edge), "the worker links %s", path)
		}
	}
}

// The name of a feature is the name of its folder or file: a folder of db/code, or one of the technical words.
func TestAFeatureHasOneName(t *testing.T) {
	t.Parallel()
	technical := strings.Fields(`api app auth config deploy dev health keycloak mcp openapi pages picture socketio realtime
		condition cxdb embed exactjson gitfetch lease lightning llm neighbors public runner seal storage stripe telemetry token tracing jobs vies zulip
		common
		00_lint 01_plpgsql_check helpers isolation strangers arguments
		bench browser client database demo frontend gosource peers pgtap repository stack standby testdb tools upgrades`)
	features := map[string]bool{}
	entries, err := os.ReadDir("../../db/code")
	require.NoError(t, err)
	for _, entry := range entries {
		features[entry.Name()] = entry.IsDir()
	}
	check := func(pattern string, name func(path string) (base string, counts bool)) {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		for _, path := range found {
			if base, counts := name(path); counts {
				assert.True(t, features[base] || slices.Contains(technical, base), "%s: %s is neither a feature (a folder of db/code) nor a technical word (the list in tests/repository/layering_test.go)", path, base)
			}
		}
	}
	folder := func(path string) (string, bool) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return filepath.Base(path), info.IsDir()
	}
	stem := func(path string) (string, bool) {
		return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), true
	}
	check("../../server/*", folder)
	check("../../worker/*", folder)
	check("../../server/openapi/*.yaml", stem)
	check("../../tests/*", folder)
	check("../../tests/pgtap/*.sql", func(path string) (string, bool) {
		base, _ := stem(strings.Replace(path, ".seed", "", 1))
		if feature, _, found := strings.Cut(base, "_"); found && features[feature] {
			return feature, true
		}
		return base, true
	})
}

var definition = regexp.MustCompile(`(?m)^create (?:or replace )?(?:function (\w+\.\w+)|trigger (\w+)[^;]*? on (\w+\.\w+))`)

// Two features that give functions or triggers of one table the same name would silently replace each other's, or be ambiguous.
func TestAFunctionBelongsToOneFeature(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../db/code/*/*.sql")
	require.NoError(t, err)
	owner := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		feature := filepath.Base(filepath.Dir(file))
		for _, match := range definition.FindAllStringSubmatch(string(raw), -1) {
			name := strings.Join(match[1:], " ")
			assert.Contains(t, []string{"", feature}, owner[name], "%s: %s is defined by feature %s as well; give it a name of its own", file, name, owner[name])
			owner[name] = feature
		}
	}
	require.Greater(t, len(owner), 500)
}
