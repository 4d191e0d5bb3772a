// Command suite runs the project's checks: linters, Go tests, some of them with the race detector (see raced), the tests in
// SQL (pgTAP), and coverage of Go statements and of SQL functions. It ends with one plain line,
// "N passed, N failed", and exits with 1 when anything failed.
//
//	suite                  everything
//	suite -only lint       gofmt, go vet, staticcheck
//	suite -only go         the Go tests, with coverage; with -match only tests whose name fits the pattern, without coverage
//	suite -only sql        the pgTAP files; with -match only those whose name contains one of the texts between commas
//	suite -only coverage   the tables, from the profile of the last run
//	suite -peers           real peers that take minutes to build or to fetch, with -only of one; see peers.go
//
// The linters use the build of the tests without the race detector.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// tally counts tests, or for a step without tests the step itself.
type tally struct {
	passed, failed int
	unsure         []failure // failed Go tests that may run again
}

func (t *tally) add(o tally) {
	t.passed += o.passed
	t.failed += o.failed
	t.unsure = append(t.unsure, o.unsure...)
}

// step is one part of the suite. An error means that it could not be carried out, which counts as
// one failure.
type step struct {
	name string
	run  func(ctx context.Context, out io.Writer) (tally, error)
}

var steps = []step{
	{"lint", lint},
	{"go", goTests},
	{"sql", sqlTests},
	{"coverage", coverage},
}

var withPeers = flag.Bool("peers", false, "run the tests with real peers")

var match = flag.String("match", "", "only tests like this: parts of pgTAP files' names, or a pattern of Go tests' names")

func main() {
	only := flag.String("only", "", "run one step: lint, go, sql or coverage; with -peers one peer")
	flag.Parse()
	if *withPeers {
		steps = peerSteps
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	chosen := steps
	if *only != "" {
		chosen = slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return s.name != *only })
	}
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "suite: no step is called %q\n", *only)
		os.Exit(2)
	}
	total := runSteps(ctx, os.Stdout, chosen)
	stop()
	if total.failed > 0 {
		os.Exit(1)
	}
}

// runSteps runs all steps, also after one failed: a developer wants to see all failures at once.
func runSteps(ctx context.Context, out io.Writer, chosen []step) tally {
	var total tally
	for _, s := range chosen {
		began := time.Now()
		fmt.Fprintf(out, "== %s\n", s.name)
		t, err := s.run(ctx, out)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", s.name, err)
			t.failed++
		}
		total.add(t)
		fmt.Fprintf(out, "== %s: %d passed, %d failed, %s\n\n", s.name, t.passed, t.failed, time.Since(began).Round(100*time.Millisecond))
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", total.passed, total.failed)
	return total
}
