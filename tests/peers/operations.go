package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

var (
	// KustomizeProgram puts the manifests together, as kubectl does.
	KustomizeProgram = Program{Name: "kustomize", Module: "sigs.k8s.io/kustomize/kustomize/v5", Version: "v5.8.1"}
	// KubernetesProgram checks manifests by the schema of the published API. The package holds the schemas of each version.
	KubernetesProgram = Program{Name: "kubernetes-validate", Module: "PyPI", Version: "1.37.0", build: buildKubernetes}
	// PromtoolProgram checks and runs the rules of alerts. Without the tags it has the clients of every cloud.
	PromtoolProgram = Program{Name: "promtool", Module: "github.com/prometheus/prometheus/cmd/promtool", Version: "v0.316.0", build: buildPromtool}
)

func buildKubernetes(ctx context.Context, p Program, folder string) error {
	environment := filepath.Join(folder, "environment")
	for _, args := range [][]string{
		{"python3", "-m", "venv", environment},
		{filepath.Join(environment, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", p.Name + "==" + p.Version},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", args[0], err, tail(out))
		}
	}
	return os.Symlink(filepath.Join(environment, "bin", p.Name), filepath.Join(folder, p.Name))
}

func buildPromtool(ctx context.Context, p Program, folder string) error {
	_, err := goTool(ctx, folder, []string{"GOBIN=" + folder}, "install", "-trimpath", "-tags", "remove_all_sd,enable_dns_sd", p.Module+"@"+p.Version)
	return err
}
