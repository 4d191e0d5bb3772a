package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"kijko/tests/peers"
)

const (
	manifestFolder   = "server/deploy/kubernetes"
	monitoringFolder = "server/deploy/monitoring"
)

// checkAll runs checks by name, says the result of each, and counts.
func checkAll(out io.Writer, checks []check) (t tally) {
	for _, c := range checks {
		if err := c.run(); err != nil {
			_, _ = fmt.Fprintf(out, "not ok: %s: %v\n", c.name, err)
			t.failed++
			continue
		}
		_, _ = fmt.Fprintln(out, "ok: "+c.name)
		t.passed++
	}
	return t
}

type check struct {
	name string
	run  func() error
}

// kubernetes puts the manifests together and checks them by the schema of the published API, in the newest version and an old one.
func kubernetes(ctx context.Context, out io.Writer) (tally, error) {
	kustomize, err := program(ctx, out, peers.KustomizeProgram)
	if err != nil {
		return tally{}, err
	}
	validate, err := program(ctx, out, peers.KubernetesProgram)
	if err != nil {
		return tally{}, err
	}
	dir, err := os.MkdirTemp("", "kijko-kubernetes-")
	if err != nil {
		return tally{}, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	whole := filepath.Join(dir, "kijko.yaml")
	checks := []check{{"kustomize puts the manifests together", func() error { return output(ctx, "", kustomize, "build", manifestFolder, "--output", whole) }}}
	for _, version := range []string{"1.31", "1.37"} {
		checks = append(checks, check{"they fit the API of Kubernetes " + version, func() error { return output(ctx, "", validate, "--strict", "--quiet", "-k", version, whole) }})
	}
	checks = append(checks, check{"the policy selects every pod", func() error {
		text, err := os.ReadFile(whole)
		if err != nil {
			return fmt.Errorf("read the manifests: %w", err)
		}
		pods := 0
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var m struct {
				Spec struct {
					Template struct {
						Metadata struct{ Labels map[string]string }
					}
				}
			}
			if err := d.Decode(&m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("read the manifests: %w", err)
			}
			if m.Spec.Template.Metadata.Labels["app.kubernetes.io/part-of"] == "kijko" {
				pods++
			}
		}
		if pods != 3 {
			return fmt.Errorf("%d of 3 pods have the label", pods)
		}
		return nil
	}}, check{"a misspelled field is found", func() error {
		text, err := os.ReadFile(whole)
		if err != nil {
			return fmt.Errorf("read the manifests: %w", err)
		}
		if err := os.WriteFile(whole, bytes.Replace(text, []byte("maxUnavailable"), []byte("maxUnavailible"), 1), 0o600); err != nil {
			return fmt.Errorf("write the manifests: %w", err)
		}
		if output(ctx, "", validate, "--strict", "--quiet", whole) == nil {
			return fmt.Errorf("%s takes it", filepath.Base(validate))
		}
		return nil
	}})
	return checkAll(out, checks), nil
}

// prometheus checks the rules of alerts, runs their tests, and checks each query of the dashboard.
func prometheus(ctx context.Context, out io.Writer) (tally, error) {
	promtool, err := program(ctx, out, peers.PromtoolProgram)
	if err != nil {
		return tally{}, err
	}
	return checkAll(out, []check{
		{"the rules of alerts are valid", func() error {
			return output(ctx, monitoringFolder, promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
		}},
		{"they fire as their tests say", func() error { return output(ctx, monitoringFolder, promtool, "test", "rules", "alerts_test.yml") }},
		{"the queries of the dashboard are valid", func() error {
			rules, err := dashboardRules(filepath.Join(monitoringFolder, "dashboard.json"))
			if err != nil {
				return err
			}
			defer func() { _ = os.Remove(rules) }()
			return output(ctx, "", promtool, "check", "rules", "--lint=none", rules)
		}},
		{"the configuration of the compose file is valid", func() error {
			return output(ctx, monitoringFolder, promtool, "check", "config", "--syntax-only", "prometheus.yml")
		}},
	}), nil
}

// dashboardRules writes each query of a dashboard as a rule, which is what promtool can check.
func dashboardRules(dashboard string) (file string, err error) {
	text, err := os.ReadFile(dashboard)
	if err != nil {
		return "", fmt.Errorf("read the dashboard: %w", err)
	}
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return "", fmt.Errorf("read %s: %w", dashboard, err)
	}
	var rules []map[string]string
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			rules = append(rules, map[string]string{"record": fmt.Sprintf("query:%d", len(rules)), "expr": strings.ReplaceAll(t.Expr, "$__rate_interval", "5m")})
		}
	}
	text, err = yaml.Marshal(map[string]any{"groups": []map[string]any{{"name": "dashboard", "rules": rules}}})
	if err != nil {
		return "", fmt.Errorf("write rules: %w", err)
	}
	f, err := os.CreateTemp("", "kijko-dashboard-*.yml")
	if err != nil {
		return "", fmt.Errorf("make a file: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(text); err != nil {
		return "", fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f.Name(), nil
}

// program builds a peer, says its version and gives its file.
func program(ctx context.Context, out io.Writer, p peers.Program) (string, error) {
	if err := provide(ctx, out, p); err != nil {
		return "", err
	}
	return p.Path(ctx, out)
}

// output runs a program in a folder. What it said is part of the error.
func output(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(said))
	}
	return nil
}
