package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tiktoken-go/tokenizer"
)

// second changes 1 % of the files of the repository and ingests it again. least is what any tool would have to do: fetch, and count the
// tokens of these files.
func (d *bed) second(ctx context.Context, self, dir, host string, round int) (o outcome, least time.Duration, err error) {
	changed, err := change(ctx, dir, "std", round)
	if err != nil {
		return o, 0, err
	}
	clone := filepath.Join(dir, "clone")
	began := time.Now()
	cmd := exec.CommandContext(ctx, "git", "-C", clone, "fetch", "-q", "--depth", "1", host+"/bench/std.git", "main")
	if out, err := cmd.CombinedOutput(); err != nil {
		return o, 0, fmt.Errorf("git fetch: %w: %s", err, out)
	}
	least = time.Since(began)
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return o, 0, err
	}
	began = time.Now()
	for _, text := range changed {
		if _, err := codec.Count(text); err != nil {
			return o, 0, err
		}
	}
	least += time.Since(began)
	if o, err = d.rerun(ctx, self, dir, host); err != nil {
		return o, 0, err
	}
	if o.outcome != "completed" {
		return o, 0, fmt.Errorf("the second run ended as %s: %s", o.outcome, o.message)
	}
	return o, least, nil
}

// change commits a line more at the end of every hundredth file, and gives the new texts.
func change(ctx context.Context, dir, name string, round int) ([]string, error) {
	bare := filepath.Join(dir, "repos", "bench", name+".git")
	git := func(in string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", bare}, args...)...)
		cmd.Stdin, cmd.Stderr = strings.NewReader(in), os.Stderr
		out, err := cmd.Output()
		return string(out), err
	}
	list, err := git("", "ls-tree", "-r", "--name-only", "main")
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	var commit bytes.Buffer
	fmt.Fprintf(&commit, "commit refs/heads/main\ncommitter Bench <bench@example.org> %d +0000\ndata 6\nchange\nfrom refs/heads/main^0\n", 1700000001+round)
	var changed []string
	for i, path := range strings.Split(strings.TrimSpace(list), "\n") {
		if i%100 != 50 {
			continue
		}
		text, err := git("", "show", "main:"+path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		text += fmt.Sprintf("\n// Changed in round %d.\n", round)
		changed = append(changed, text)
		fmt.Fprintf(&commit, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
	}
	_, err = git(commit.String(), "fast-import", "--quiet", "--force")
	return changed, err
}

// older is the bench program of another checkout.
type older string

// before builds the program of KIJKO_BENCH_BASE; "" without it.
func before(ctx context.Context, dir string) (older, error) {
	base := os.Getenv("KIJKO_BENCH_BASE")
	if base == "" {
		return "", nil
	}
	path := filepath.Join(dir, "before")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./tests/bench/ingest")
	cmd.Dir = base
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of the checkout before: %w: %s", err, out)
	}
	return older(base + "\x00" + path), nil
}

var roundLine = regexp.MustCompile(`round 1: run ([0-9.]+) s`)

// run gives the seconds of one full run of the older program, with a database of its own.
func (o older) run(ctx context.Context) (float64, error) {
	base, path, _ := strings.Cut(string(o), "\x00")
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir, cmd.Stderr = base, os.Stderr
	cmd.Env = append(os.Environ(), "BENCH_ROUNDS=1", "KIJKO_BENCH_BASE=")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("the build before: %w", err)
	}
	m := roundLine.FindSubmatch(out)
	if m == nil {
		return 0, errors.New("the build before printed no round")
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// The tools that pack a repository into a prompt, pinned.
const (
	repomixVersion   = "repomix@1.18.1"
	gitingestVersion = "gitingest==0.3.1"
)

// packers prints how many files a second repomix and gitingest pack from a working tree of the same repository. They count tokens, but parse,
// index and store nothing.
func packers(ctx context.Context, dir string, rounds int) error {
	home := filepath.Join(dir, "tools")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	install := [][]string{{"npm", "install", "--no-audit", "--no-fund", "--prefix", home, repomixVersion},
		{"python3", "-m", "venv", filepath.Join(home, "venv")}, {filepath.Join(home, "venv", "bin", "pip"), "install", "-q", gitingestVersion}}
	for _, args := range install {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, out)
		}
	}
	clone := filepath.Join(dir, "clone")
	list, err := exec.CommandContext(ctx, "git", "-C", clone, "ls-files").Output()
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	files := float64(bytes.Count(list, []byte{'\n'}))
	for _, tool := range []struct {
		name string
		args []string
	}{
		{repomixVersion, []string{filepath.Join(home, "node_modules", ".bin", "repomix"), clone, "-o", filepath.Join(home, "repomix.xml")}},
		{gitingestVersion, []string{filepath.Join(home, "venv", "bin", "gitingest"), clone, "-o", filepath.Join(home, "gitingest.txt")}},
	} {
		var speeds []float64
		for range rounds {
			began := time.Now()
			cmd := exec.CommandContext(ctx, tool.args[0], tool.args[1:]...)
			cmd.Dir = home
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", tool.name, err, out)
			}
			speeds = append(speeds, files/time.Since(began).Seconds())
		}
		fmt.Printf("ingest beside: %s packs %.0f files/s\n", tool.name, median(speeds))
	}
	return nil
}
