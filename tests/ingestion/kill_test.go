package ingestion

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack/worker"
	"kijko/worker/gitfetch/gittest"
)

// process starts the real program against the lab.
func (l *ingestLab) process(path string) *exec.Cmd {
	l.t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "KIJKO_DEBUG=true", "DEBUG=true", "DATABASE_WORKER_URL="+l.db.DSN("kijko_worker"), "KIJKO_DATA_DIR="+l.dir,
		"KIJKO_STORAGE_URL=file://"+l.dir+"/blobs", "KIJKO_GIT_GITHUB_URL="+l.git.URL, "KIJKO_GIT_ALLOW_PRIVATE=true",
		"ENCRYPTION_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KIJKO_LOG_LEVEL=warn")
	cmd.Stderr = os.Stderr
	require.NoError(l.t, cmd.Start())
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
	return cmd
}

// sizeable is a repository that takes a moment in each phase: Go, TypeScript and Python files with duplicates and imports.
func sizeable() gittest.Files {
	texts := map[string]string{"go.mod": "module example.org/big\n", "README.md": "# Big\n\nText.\n"}
	for i := range 120 {
		var body strings.Builder
		fmt.Fprintf(&body, "// Copyright The Authors.\n// All rights reserved.\n// Use of this file is free.\n\npackage p%d\n\nimport (\n\t\"fmt\"\n\t\"example.org/big/p%d\"\n)\n", i%7, (i+1)%7)
		for k := range 30 {
			fmt.Fprintf(&body, "\n// F%d_%d does something.\nfunc F%d_%d(a, b int) (int, error) {\n\tif a > b {\n\t\treturn a*%d, fmt.Errorf(\"case %%d\", b)\n\t}\n\tfor i := range b {\n\t\ta += i * %d\n\t}\n\treturn F%d_%d(b, a)\n}\n",
				i, k, i, k, k, i+k, i, max(0, k-1))
		}
		texts[fmt.Sprintf("p%d/f%03d.go", i%7, i)] = body.String()
		texts[fmt.Sprintf("web/c%03d.ts", i)] = fmt.Sprintf("import { x } from './c%03d'\n\nexport class C%d extends C%d {\n  run(): number { return x + %d }\n}\n", max(0, i-1), i, max(0, i-1), i)
		texts[fmt.Sprintf("py/m%03d.py", i)] = fmt.Sprintf("import os\n\n\ndef f%d(a):\n    return a + %d\n\n\nclass K:\n    def g(self):\n        return f%d(1)\n", i, i, i)
	}
	return gittest.Texts(texts)
}

// kills is how often TestIngestionSurvivesKill kills: KIJKO_KILLS times, or seven.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("KIJKO_KILLS")); err == nil && n > 0 {
		return n
	}
	return 7
}

// TestIngestionSurvivesKill: kill -9 of the real worker program at random moments of a run. Each run ends once, completed, and stores exactly
// what an undisturbed run stores.
func TestIngestionSurvivesKill(t *testing.T) {
	l := newIngestLab(t)
	l.git.Create(t, "acme/big", gittest.On("main", sizeable()))
	path := worker.Program(t)

	undisturbed := l.start(l.project("acme/big"))
	cmd := l.process(path)
	require.Equal(t, "completed", l.outcome(undisturbed))
	want := l.digest(undisturbed)
	length := value[float64](l, "select extract(epoch from ended_at - started_at)::float8 from public.ingestion_runs where id = $1", undisturbed)

	phases, disturbed := map[string]int{}, 0
	for i := range kills() {
		run := l.start(l.project("acme/big"))
		require.Eventually(t, func() bool {
			return value[bool](l, "select lease_owner is not null or outcome <> 'open' from public.ingestion_runs where id = $1", run)
		}, 20*time.Second, 5*time.Millisecond)
		// The first two runs include one-time costs of a process; later runs show the duration of a run.
		moment := rand.Float64() * 0.9 * length
		if i == 0 {
			moment = 0.1
		}
		<-time.NewTimer(time.Duration(moment * float64(time.Second))).C
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		phases[value[string](l, "select phase from public.ingestion_runs where id = $1", run)]++
		killed := time.Now()
		cmd = l.process(path)
		if i == 0 {
			require.Eventually(t, func() bool {
				return value[bool](l, "select outcome <> 'open' or restarts = 1 from public.ingestion_runs where id = $1", run)
			}, 30*time.Second, 50*time.Millisecond, "the run was not taken up within 30 s")
			t.Logf("taken up %.1f s after kill -9", time.Since(killed).Seconds())
		}
		require.Equal(t, "completed", l.outcome(run), "kill %d", i)
		if value[int](l, "select restarts from public.ingestion_runs where id = $1", run) == 0 {
			length = min(length, value[float64](l, "select extract(epoch from ended_at - started_at)::float8 from public.ingestion_runs where id = $1", run))
		} else {
			disturbed++
		}
		require.Equal(t, want, l.digest(run), "kill %d: another result", i)
		require.Equal(t, 1, value[int](l, `select (select count(*) from public.events e where e.type = 'ingestion_complete' and e.entity_id = $1)
			+ (select count(*) from private.event_inbox e where e.type = 'ingestion_complete' and e.entity_id = $1)`, run), "told once")
	}
	t.Logf("killed in phases: %v; %d of %d runs were taken over", phases, disturbed, kills())
	require.Positive(t, disturbed)
}
