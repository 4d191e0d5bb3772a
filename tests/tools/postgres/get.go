package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"kijko/db/devpg"
)

// PostgreSQL for tests in versions other than the system's comes from Maven Central, where it is packed for embedding: one archive for each
// platform, with all of contrib and without clients. The system's clients are used. (npm's @embedded-postgres is similar, but has only
// pre-releases of the newest version.) A range in a pom makes Maven choose the newest release of a major version.
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>kijko</groupId><artifactId>postgres</artifactId><version>1</version>
<dependencies><dependency><groupId>io.zonky.test.postgres</groupId>
<artifactId>embedded-postgres-binaries-%s</artifactId><version>[%d,%d)</version></dependency></dependencies></project>
`

// get fetches the newest release of a major version, adds pgTAP, and returns the folder of its programs. An archive that was unpacked
// before is kept.
func get(ctx context.Context, version string) (bin string, err error) {
	major, err := strconv.Atoi(version)
	if err != nil || major < devpg.MinVersion {
		return "", fmt.Errorf("%q is no version of PostgreSQL from %d on", version, devpg.MinVersion)
	}
	platform, ok := map[string]string{"linux/amd64": "linux-amd64", "linux/arm64": "linux-arm64v8", "darwin/amd64": "darwin-amd64",
		"darwin/arm64": "darwin-arm64v8"}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("there is no packed PostgreSQL for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	temp, err := os.MkdirTemp("", "kijko-postgres-")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := os.WriteFile(filepath.Join(temp, "pom.xml"), fmt.Appendf(nil, pom, platform, major, major+1), 0o644); err != nil {
		return "", fmt.Errorf("write a pom: %w", err)
	}
	if err := tool(ctx, temp, "mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=out"); err != nil {
		return "", fmt.Errorf("PostgreSQL %d cannot be had: %w", major, err)
	}
	archives, err := filepath.Glob(filepath.Join(temp, "out", "*.jar"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("PostgreSQL %d cannot be had: Maven gave %d archives", major, len(archives))
	}
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(archives[0]), "embedded-postgres-binaries-"), ".jar")
	home, err := home()
	if err != nil {
		return "", err
	}
	final := filepath.Join(home, "postgres-"+name)
	if _, err := os.Stat(final); err != nil {
		if err := unpack(ctx, archives[0], temp, final); err != nil {
			return "", err
		}
	}
	return filepath.Join(final, "bin"), addPgTAP(final)
}

// home is the folder of the programs: bin/ of the checkout. For root, which runs PostgreSQL as another user, it is a folder that this user
// can enter.
func home() (string, error) {
	dir, err := filepath.Abs("bin")
	if os.Geteuid() == 0 {
		dir, err = "/var/lib/kijko", nil
	}
	if err != nil {
		return "", fmt.Errorf("resolve bin: %w", err)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// unpack takes the tar out of the jar, and the files out of the tar; a rename puts the finished folder in place.
func unpack(ctx context.Context, jar, temp, final string) (err error) {
	archive, err := zip.OpenReader(jar)
	if err != nil {
		return fmt.Errorf("open %s: %w", jar, err)
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	at := slices.IndexFunc(archive.File, func(f *zip.File) bool { return strings.HasSuffix(f.Name, ".txz") })
	if at < 0 {
		return fmt.Errorf("%s holds no .txz", jar)
	}
	in, err := archive.File[at].Open()
	if err != nil {
		return fmt.Errorf("open %s: %w", jar, err)
	}
	tar := filepath.Join(temp, "postgres.txz")
	out, err := os.Create(tar)
	if err != nil {
		return fmt.Errorf("write %s: %w", tar, err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close(), in.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tar, err)
	}
	unfinished := final + ".unfinished"
	if err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(unfinished, 0o755)); err != nil {
		return fmt.Errorf("make %s: %w", unfinished, err)
	}
	if err := tool(ctx, unfinished, "tar", "-xJf", tar, "--no-same-owner"); err != nil {
		return err
	}
	if err := os.Rename(unfinished, final); err != nil {
		return fmt.Errorf("put PostgreSQL in place: %w", err)
	}
	return nil
}

// addPgTAP copies the extension, which is SQL alone, from the system's PostgreSQL.
func addPgTAP(final string) error {
	shares, err := filepath.Glob(filepath.Join(final, "share", "*", "extension"))
	if err != nil || len(shares) == 0 {
		shares = []string{filepath.Join(final, "share", "extension")}
	}
	for _, pattern := range []string{"/usr/share/postgresql/*/extension/pgtap*", "/opt/homebrew/share/postgresql*/extension/pgtap*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			continue
		}
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("copy pgTAP: %w", err)
			}
			if err := os.WriteFile(filepath.Join(shares[0], filepath.Base(file)), text, 0o644); err != nil {
				return fmt.Errorf("copy pgTAP: %w", err)
			}
		}
		return nil
	}
	return errors.New("pgTAP is not installed here, so that it cannot be copied; see tests/tools/prepare.sh")
}

func tool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
