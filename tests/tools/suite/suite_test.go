package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	tests := map[string]struct {
		events string
		want   tally
		says   []string
	}{
		"SubtestsCountOnceAndNotThroughTheirParent": {
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA/One"}
{"Action":"pass","Package":"p","Test":"TestA/Two"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1.25}`,
			want: tally{passed: 3}, says: []string{"pass p 1.2s"},
		},
		"FailureShowsWhatTheTestPrinted": {
			events: `{"Action":"output","Package":"p","Test":"TestA/One","Output":"want 1 have 2\n"}
{"Action":"fail","Package":"p","Test":"TestA/One"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: tally{failed: 1, unsure: []failure{{"p", "TestA", 1}}}, says: []string{"want 1 have 2", "fail p"},
		},
		"ADataRaceIsAFact": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"WARNING: DATA RACE\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: tally{failed: 1, unsure: []failure{}}, says: []string{"DATA RACE"},
		},
		"PackageThatDiesCountsAsAFailure": {
			events: `{"Action":"output","Package":"p","Output":"panic: gone\n"}
{"Action":"fail","Package":"p"}`,
			want: tally{failed: 1}, says: []string{"panic: gone"},
		},
		"PackageThatDoesNotBuildShowsTheCompiler": {
			events: `{"ImportPath":"p","Action":"build-output","Output":"x.go:1: undefined: y\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p"}`,
			want: tally{failed: 1}, says: []string{"undefined: y"},
		},
		"PackageWithoutTestsIsNeither": {
			events: `{"Action":"skip","Package":"p"}`,
		},
		"SkippedTestIsSaidAloud": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"no camera\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			says: []string{"skipped: p TestA", "no camera"},
		},
		"WordsOfTheGoCommandArePassedOn": {
			events: `go: downloading something`,
			says:   []string{"go: downloading something"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := report(&out, strings.NewReader(tt.events))
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			for _, s := range tt.says {
				require.Contains(t, out.String(), s)
			}
		})
	}
}

func TestAFewFailedTestsRunAgainAlone(t *testing.T) {
	a, b, c := failure{"p", "TestA", 1}, failure{"p", "TestB", 2}, failure{"q", "TestC", 1}
	tests := map[string]struct {
		total  tally
		passes []failure
		want   tally
	}{
		"OneThatPassesAlone":      {tally{passed: 8, failed: 3, unsure: []failure{a, b}}, []failure{a}, tally{passed: 9, failed: 2}},
		"ManyAreNoAccident":       {tally{passed: 8, failed: 4, unsure: []failure{a, b, c}}, []failure{a, b, c}, tally{passed: 8, failed: 4}},
		"BesideAFactNoneRunAgain": {tally{passed: 8, failed: 2, unsure: []failure{a}}, []failure{a}, tally{passed: 8, failed: 2}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := again(io.Discard, tt.total, func(f failure) (tally, error) {
				if slices.Contains(tt.passes, f) {
					return tally{passed: f.parts}, nil
				}
				return tally{failed: f.parts}, nil
			})
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseTAP(t *testing.T) {
	tests := map[string]struct {
		text    string
		failure error
		want    tally
		note    string
	}{
		"AllPass":                    {text: "1..2\nok 1 - a\nok 2 - b\n", want: tally{passed: 2}},
		"PlanMayComeLast":            {text: "ok 1\n1..1\n", want: tally{passed: 1}},
		"FailureKeepsItsDiagnostics": {text: "1..2\nnot ok 1 - a\n# have: 1\nok 2\n", want: tally{passed: 1, failed: 1}, note: "# have: 1"},
		"TodoMayFail":                {text: "1..1\nnot ok 1 - a # TODO later\n", want: tally{passed: 1}},
		"MissingTestIsNoticed":       {text: "1..3\nok 1\nok 2\n", want: tally{passed: 2, failed: 1}, note: "3 tests planned, 2 run"},
		"NoPlanIsAFailure":           {text: "", want: tally{failed: 1}, note: "no plan"},
		"ErrorInTheMiddleIsShown": {text: "1..2\nok 1\npsql:x.sql:7: ERROR:  no such table\n", failure: errors.New("exit status 3"),
			want: tally{passed: 1, failed: 1}, note: "no such table"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := parseTAP(strings.NewReader(tt.text), tt.failure)
			require.Equal(t, tt.want, got.tally)
			var out bytes.Buffer
			got.print(&out, "x.sql")
			require.Contains(t, out.String(), tt.note)
		})
	}
}

const profile = `mode: atomic
kijko/server/auth/a.go:1.1,2.2 8 0
kijko/server/auth/a.go:1.1,2.2 8 3
kijko/server/auth/b.go:1.1,2.2 2 0
kijko/server/realtime/a.go:1.1,2.2 1 1
kijko/server/api/a.go:1.1,2.2 3 0
kijko/server/api/a.go:3.1,4.2 1 1
kijko/db/db.go:3.1,4.2 1 0
`

func TestStatements(t *testing.T) {
	packages, err := readProfile(strings.NewReader(profile))
	require.NoError(t, err)
	require.Equal(t, map[string]share{
		"kijko/server/auth": {8, 10}, "kijko/server/realtime": {1, 1}, "kijko/server/api": {1, 4}, "kijko/db": {0, 1},
	}, packages)

	var out bytes.Buffer
	require.Equal(t, tally{passed: 2, failed: 2}, authorizationStatements(&out, packages))
	require.Contains(t, out.String(), "ok: identity: 80.0 % of 10 statements")
	require.Contains(t, out.String(), "not ok: request path: 25.0 %")
	require.Contains(t, out.String(), "not ok: ingestion: no package was tested")

	for _, damaged := range []string{"a.go:1.1,2.2 1", "a.go:1.1,2.2 x 1"} {
		_, err := readProfile(strings.NewReader(damaged))
		require.ErrorContains(t, err, "coverage.out")
	}
	require.InDelta(t, 100, share{}.percent(), 0)
}

func TestRecordedCalls(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.calls"), []byte("api.get\nprivate.enter\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.calls"), []byte("api.list\n"), 0o600))
	got, err := recordedCalls(dir)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"api.get": true, "api.list": true, "private.enter": true}, got)
}

func TestUncalledFunctionsAreNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.MkdirAll(callsFolder, 0o755))
	uncalled, all, err := uncalledFunctions(t.Context())
	require.NoError(t, err)
	require.Len(t, uncalled, all)
	require.Contains(t, uncalled, "private.enter")

	require.NoError(t, os.WriteFile(filepath.Join(callsFolder, "x.calls"), []byte("private.enter\n"), 0o600))
	uncalled, _, err = uncalledFunctions(t.Context())
	require.NoError(t, err)
	require.Len(t, uncalled, all-1)
	require.NotContains(t, uncalled, "private.enter")
}

func TestSQLTests(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("KIJKO_FUNCTION_CALLS", "") // restored after the step has set it
	_, err := sqlTests(t.Context(), io.Discard)
	require.ErrorContains(t, err, "no test in tests/pgtap")

	require.NoError(t, os.MkdirAll(pgtapFolder, 0o755))
	helpers := "create schema tests;\n"
	require.NoError(t, os.WriteFile(filepath.Join(pgtapFolder, helpersFile), []byte(helpers), 0o600))
	good := "begin;\nselect plan(1);\nselect has_schema('tests');\nselect * from finish();\nrollback;\n"
	bad := "begin;\nselect plan(2);\nselect is(1, 2, 'one is two');\nselect pass();\nselect * from finish();\nrollback;\n"
	require.NoError(t, os.WriteFile(filepath.Join(pgtapFolder, "a.sql"), []byte(good), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(pgtapFolder, "b.sql"), []byte(bad), 0o600))
	var out bytes.Buffer
	got, err := sqlTests(t.Context(), &out)
	require.NoError(t, err, out.String())
	require.Equal(t, tally{passed: 2, failed: 1}, got, out.String())
	require.Contains(t, out.String(), "pass tests/pgtap/a.sql: 1 passed, 0 failed")
	require.Contains(t, out.String(), "one is two")
}

func TestRunSteps(t *testing.T) {
	var out bytes.Buffer
	total := runSteps(t.Context(), &out, []step{
		{"a", func(context.Context, io.Writer) (tally, error) { return tally{passed: 2}, nil }},
		{"b", func(context.Context, io.Writer) (tally, error) { return tally{}, errors.New("no compiler") }},
		{"c", func(context.Context, io.Writer) (tally, error) { return tally{passed: 1, failed: 1}, nil }},
	})
	require.Equal(t, tally{passed: 3, failed: 2}, total)
	require.Contains(t, out.String(), "b: no compiler")
	require.True(t, strings.HasSuffix(out.String(), "\n3 passed, 2 failed\n"))
}

func TestGoFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/a.go", "a/testdata/b.go", ".git/c.go", "a/d.sql"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	files, err := goFiles(dir)
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "a", "a.go")}, files)
}
