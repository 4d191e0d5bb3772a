package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kijko/db/devpg"
	"kijko/tests/peers"
)

// Files of a run, kept for "suite -only coverage". They are ignored by git.
const (
	profileFile      = "coverage.out"
	racedProfileFile = "coverage-race.out"
	callsFolder      = "bin/function-calls"
)

// measured are the packages whose statements count, also when tests of another package run them.
const measured = "./server/...,./worker/...,./db/..."

// raced are the tests that run with the race detector: of each part of both programs by itself, and of the features that live from
// concurrency, through their programs. The detector takes the time of a test twice, and that of a parser's twenty times.
var raced = []string{"kijko/server", "kijko/worker", "kijko/db", "kijko/tests/executions", "kijko/tests/realtime", "kijko/tests/reflexes"}

// unraced are the packages below them that only calculate.
var unraced = []string{"kijko/worker/ingestion/", "kijko/worker/token"}

func isRaced(name string) bool {
	within := func(list []string) bool {
		return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(name+"/", strings.TrimSuffix(p, "/")+"/") })
	}
	return within(raced) && (!within(unraced) || name == "kijko/worker/ingestion")
}

// goTests runs every Go test and shows one line a package, and the whole output of a failing test.
func goTests(ctx context.Context, out io.Writer) (tally, error) {
	calls, err := freshCalls()
	if err != nil {
		return tally{}, err
	}
	// Built here: a test that needs it would otherwise build it within its own time limit.
	if _, err := peers.MailpitProgram.Path(ctx, out); err != nil {
		return tally{}, err
	}
	environment := []string{devpg.CallsVariable + "=" + calls}
	// The linters have vetted them.
	common := []string{"-vet", "off", "-timeout", "20m"}
	if *match != "" {
		packages, err := packagesWithTest(*match)
		if err != nil {
			return tally{}, err
		}
		return goTest(ctx, out, environment, slices.Concat(common, []string{"-run", *match}, packages)...)
	}
	list, err := exec.CommandContext(ctx, "go", "list", "./...").Output()
	if err != nil {
		return tally{}, fmt.Errorf("go list: %w", err)
	}
	var plain, withDetector []string
	for _, name := range strings.Fields(string(list)) {
		if isRaced(name) {
			withDetector = append(withDetector, name)
		} else {
			plain = append(plain, name)
		}
	}
	// Tests wait much: three packages at once keep two cores busy. With the detector two do.
	total, err := goTest(ctx, out, environment, slices.Concat(common, []string{"-p", "3", "-covermode", "set", "-coverpkg", measured, "-coverprofile", profileFile}, plain)...)
	if err != nil {
		return total, err
	}
	t, err := goTest(ctx, out, environment,
		slices.Concat(common, []string{"-p", "2", "-race", "-covermode", "atomic", "-coverpkg", measured, "-coverprofile", racedProfileFile}, withDetector)...)
	total.add(t)
	if err != nil {
		return total, err
	}
	return again(out, total, func(f failure) (tally, error) {
		args := slices.Concat(common, []string{"-count", "1", "-run", "^" + f.test + "$"})
		if isRaced(f.pkg) {
			args = append(args, "-race")
		}
		return goTest(ctx, out, environment, append(args, f.pkg)...)
	})
}

// failure is a top-level test that failed, with how many of its parts did.
type failure struct {
	pkg, test string
	parts     int
}

// mayRunAgain is how many failed tests get a second chance.
const mayRunAgain = 2

// again runs failed tests a second time, each alone, where only one or two failed of thousands: on a busy machine a test may wait too long
// for a reason outside of the program. One that passes then is named as unsteady, to be mended, and does not fail the run. A data race, a
// panic and a package that does not build are facts: those never run again.
func again(out io.Writer, total tally, run func(failure) (tally, error)) (tally, error) {
	failed := total.unsure
	total.unsure = nil
	parts := 0
	for _, f := range failed {
		parts += f.parts
	}
	if len(failed) > mayRunAgain || parts != total.failed {
		return total, nil
	}
	for _, f := range failed {
		fmt.Fprintf(out, "again, alone: %s %s\n", f.pkg, f.test)
		t, err := run(f)
		if err != nil {
			return total, err
		}
		if t.failed == 0 && t.passed > 0 {
			total.failed -= f.parts
			total.passed += f.parts
			fmt.Fprintf(out, "unsteady: %s %s failed among the others and passed alone\n", f.pkg, f.test)
		}
	}
	return total, nil
}

// goTest runs "go test" with these arguments and counts.
func goTest(ctx context.Context, out io.Writer, environment []string, args ...string) (tally, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stderr = out
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return tally{}, fmt.Errorf("start go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return tally{}, fmt.Errorf("start go test: %w", err)
	}
	t, rerr := report(out, pipe)
	werr := cmd.Wait()
	if werr != nil && t.failed == 0 {
		return t, errors.Join(fmt.Errorf("go test: %w", werr), rerr)
	}
	return t, rerr
}

// packagesWithTest finds the folders in which a test's name fits the pattern, so that one feature's tests do not wait for the build of all others.
func packagesWithTest(pattern string) ([]string, error) {
	fits, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-match: %w", err)
	}
	files, err := goFiles(".")
	if err != nil {
		return nil, err
	}
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	found := map[string]bool{}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("find tests: %w", err)
		}
		for _, name := range test.FindAllSubmatch(source, -1) {
			if fits.Match(name[1]) {
				found["./"+filepath.ToSlash(filepath.Dir(file))] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no Go test is called like %q", pattern)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// freshCalls empties the folder in which test processes record the SQL functions that were called.
func freshCalls() (string, error) {
	folder, err := filepath.Abs(callsFolder)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", callsFolder, err)
	}
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
		return "", fmt.Errorf("empty %s: %w", callsFolder, err)
	}
	return folder, nil
}

// event is a line of the output of "go test -json".
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build step
	Test       string
	Output     string
	Elapsed    float64
}

// report reads the events of a run, shows the outcome as it comes, and counts. A subtest counts for
// itself and not also through its parent; a package that fails without a failed test (it does not
// build, or its process died) counts as one failure.
func report(out io.Writer, events io.Reader) (tally, error) {
	var (
		total  tally
		output = map[string][]string{} // by package, test
		inner  = map[string]bool{}     // tests that have subtests
		broken = map[string]int{}      // failed tests by package
		parts  = map[string]int{}      // failed parts by package, top-level test
		facts  = map[string]bool{}     // packages with a data race or a panic
		times  []event
	)
	lines := bufio.NewScanner(events)
	lines.Buffer(make([]byte, 0, 64<<10), 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // not an event: output of the go command itself
			continue
		}
		key := e.Package + " " + e.Test
		switch {
		case e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Action == "output":
			if isFact.MatchString(e.Output) {
				facts[e.Package] = true
			}
			output[key] = append(output[key], e.Output)
		case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
			if e.Test == "" {
				failed := e.Action == "fail" && broken[e.Package] == 0
				if failed {
					total.failed++
					show(out, output[key])
				}
				if e.Action != "skip" {
					fmt.Fprintf(out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
				}
				break
			}
			if at := strings.LastIndexByte(e.Test, '/'); at >= 0 {
				inner[e.Package+" "+e.Test[:at]] = true
			} else {
				times = append(times, e)
			}
			switch {
			case e.Action == "fail":
				broken[e.Package]++
				show(out, output[key])
				top, _, isPart := strings.Cut(e.Test, "/")
				if !inner[key] {
					total.failed++
					parts[e.Package+" "+top]++
				}
				if !isPart {
					total.unsure = append(total.unsure, failure{e.Package, top, parts[key]})
				}
			case e.Action == "skip":
				// A skipped test proves nothing: it is printed, not counted.
				fmt.Fprintf(out, "skipped: %s\n", key)
				show(out, output[key])
			case !inner[key]:
				total.passed++
			}
			delete(output, key)
		}
	}
	if err := lines.Err(); err != nil {
		return total, fmt.Errorf("read the results of go test: %w", err)
	}
	total.unsure = slices.DeleteFunc(total.unsure, func(f failure) bool { return facts[f.pkg] })
	slowest(out, times)
	return total, nil
}

// isFact finds what a second run cannot excuse.
var isFact = regexp.MustCompile(`^(WARNING: DATA RACE|panic: |fatal error: )`)

// slowest shows the tests that took the most time, those that wait for others in the same process included.
func slowest(out io.Writer, tests []event) {
	const shown = 20
	slices.SortFunc(tests, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range tests[:min(shown, len(tests))] {
		if e.Elapsed >= 5 {
			fmt.Fprintf(out, "slow %s %s %.1fs\n", e.Package, e.Test, e.Elapsed)
		}
	}
}

func show(out io.Writer, lines []string) {
	for _, l := range lines {
		fmt.Fprint(out, l)
	}
}
