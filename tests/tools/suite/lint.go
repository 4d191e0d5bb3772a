package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// staticcheckVersion is the one place where the linter's version is pinned.
const staticcheckVersion = "v0.8.2"

// staticcheckChecks are all checks except the ones below, each with its reason.
var staticcheckChecks = strings.Join([]string{
	"all",
	"-ST1000",                       // package comments: required by review where they say something, not for every small package
	"-ST1003",                       // names: PgTAP, JsonB and the like follow the thing's own spelling
	"-ST1005",                       // error strings may begin with a proper name, PostgreSQL above all
	"-ST1016",                       // receiver names: a file may name its receiver for readability
	"-ST1020", "-ST1021", "-ST1022", // comment forms: prose first
	"-QF1001", "-QF1008", // taste: De Morgan's law, embedded fields in selectors
}, ",")

func lint(ctx context.Context, out io.Writer) (tally, error) {
	var t tally
	for _, check := range []struct {
		name string
		run  func(context.Context, io.Writer) error
	}{
		{"gofmt", gofmt},
		{"go vet", func(ctx context.Context, out io.Writer) error {
			return command(ctx, out, os.Environ(), "go", "vet", "-tags", "peers", "./...")
		}},
		{"staticcheck", staticcheck},
	} {
		if err := check.run(ctx, out); err != nil {
			fmt.Fprintf(out, "not ok: %s: %v\n", check.name, err)
			t.failed++
			continue
		}
		fmt.Fprintf(out, "ok: %s\n", check.name)
		t.passed++
	}
	return t, nil
}

func gofmt(ctx context.Context, out io.Writer) error {
	files, err := goFiles(".")
	if err != nil || len(files) == 0 {
		return err
	}
	badly, err := exec.CommandContext(ctx, "gofmt", append([]string{"-l"}, files...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, badly)
	}
	if len(badly) > 0 {
		fmt.Fprintf(out, "%s", badly)
		return errors.New("not formatted; format with: gofmt -w .")
	}
	return nil
}

// goFiles lists the repository's Go files. Folders that the go command ignores (testdata, names
// that begin with a dot) hold material, not code.
func goFiles(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list Go files: %w", err)
	}
	return files, nil
}

func staticcheck(ctx context.Context, out io.Writer) error {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return fmt.Errorf("resolve bin: %w", err)
	}
	folder := filepath.Join(bin, "staticcheck-"+staticcheckVersion)
	program := filepath.Join(folder, "staticcheck")
	if _, err := os.Stat(program); err != nil {
		fmt.Fprintln(out, "installing staticcheck", staticcheckVersion)
		env := append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
		if err := command(ctx, out, env, "go", "install", "honnef.co/go/tools/cmd/staticcheck@"+staticcheckVersion); err != nil {
			return err
		}
	}
	return command(ctx, out, os.Environ(), program, "-tags", "peers", "-checks", staticcheckChecks, "./...")
}

// command runs a program and shows its output.
func command(ctx context.Context, out io.Writer, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}
