// Command bench prints the table of figures (README, "Speed"): each is a ratio against something that runs beside it in the same run,
// because absolute times differ by a factor of two between machines, and on shared ones between minutes.
//
//	go run ./tests/bench              all
//	go run ./tests/bench http ingest  some
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
)

var programs = []string{"http", "realtime", "ingest"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	wanted := os.Args[1:]
	if len(wanted) == 0 {
		wanted = programs
	}
	fmt.Printf("%d processors, %s, %s/%s\n", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range wanted {
		if !slices.Contains(programs, name) {
			fmt.Fprintf(os.Stderr, "bench: %q is none of %v\n", name, programs)
			os.Exit(2)
		}
		cmd := exec.CommandContext(ctx, "go", "run", "./tests/bench/"+name)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}
