package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"kijko/worker/ingestion/graph/measure"
)

// graphOf prints how many links of a directory's graph are doubtful, by language.
func graphOf(ctx context.Context) error {
	if len(os.Args) < 3 {
		return errors.New("graph wants a directory")
	}
	g, err := measure.Directory(ctx, os.Args[2])
	if err != nil {
		return err
	}
	fmt.Printf("graph: %d files, %d nodes, %d links; parsed in %.2f s, made in %.2f s\n", len(g.Paths), len(g.Nodes), len(g.Links), g.Parsing.Seconds(),
		g.Making.Seconds())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "language\tfiles\tcalls\tto other packages\tunreached\tother languages\tnumbered nodes\timports of own files\tthat count as outside")
	counts := g.Score()
	for _, c := range counts {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Language, c.Files, c.Calls, c.Across, c.Unreached, c.Foreign, c.Numbered, c.Own, c.Outside)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if name := os.Getenv("BENCH_LINKS"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		for e := range g.Links {
			if e.Kind != "contains" {
				fmt.Fprintf(f, "%s\t%s -> %s\n", e.Kind, g.Nodes[e.From].Qualified, g.Nodes[e.To].Qualified)
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if os.Getenv("BENCH_VERBOSE") != "" {
		for _, c := range counts {
			for _, line := range c.Worst {
				fmt.Println(" ", c.Language, line)
			}
		}
	}
	return nil
}
