package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errNoBinaries reports that no suitable PostgreSQL is installed.
var errNoBinaries = errors.New("PostgreSQL is not installed")

// binaries is one installed PostgreSQL.
type binaries struct {
	dir   string // folder that holds postgres and initdb
	major int
}

// TestVariable names the folder of the programs (initdb, postgres) that every cluster uses instead
// of the installed ones, so that tests can run on another version.
const TestVariable = "KIJKO_TEST_POSTGRES"

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// findBinaries looks in $PG_CONFIG's folder, on the PATH and in the usual places. want is the major
// version that an existing cluster needs; 0 takes the first suitable one, and among the folders of
// one distribution the newest.
func findBinaries(ctx context.Context, sys *system, want int) (binaries, error) {
	var seen []string
	for _, dir := range binFolders(ctx, sys) {
		b, ok := probe(ctx, sys, dir)
		if !ok {
			continue
		}
		seen = append(seen, fmt.Sprintf("%d in %s", b.major, dir))
		if b.major == want || (want == 0 && b.major >= MinVersion) {
			return b, nil
		}
	}
	if ctx.Err() != nil { // a canceled search finds nothing, which must not lead to an installation
		return binaries{}, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
	}
	needs := fmt.Sprintf("%d or later", MinVersion)
	if want != 0 {
		needs = fmt.Sprintf("%d, with which the existing database was made", want)
	}
	if len(seen) == 0 {
		return binaries{}, fmt.Errorf("%w (needed: version %s)", errNoBinaries, needs)
	}
	return binaries{}, fmt.Errorf("%w in the version needed: %s; found %s", errNoBinaries, needs, strings.Join(seen, ", "))
}

func binFolders(ctx context.Context, sys *system) []string {
	if dir := sys.getenv(TestVariable); dir != "" {
		return []string{dir}
	}
	var dirs []string
	if config := sys.getenv("PG_CONFIG"); config != "" {
		if out, err := sys.run(ctx, config, "--bindir"); err == nil {
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
	}
	if path, err := sys.lookPath("initdb"); err == nil {
		// resolve links: some systems link single programs from a folder that lacks the others
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, glob := range sys.binGlobs {
		found, err := filepath.Glob(glob)
		if err != nil {
			continue // only a malformed pattern fails, and ours are constants
		}
		slices.SortFunc(found, func(a, b string) int { return numberIn(b) - numberIn(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// numberIn returns the last number of a path, which in distributions' folders is the version.
func numberIn(path string) int {
	all := digits.FindAllString(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.Atoi(all[len(all)-1])
	if err != nil {
		return 0 // too long to be a version
	}
	return n
}

func probe(ctx context.Context, sys *system, dir string) (binaries, bool) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, false
	}
	out, err := sys.run(ctx, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return binaries{}, false
	}
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		return binaries{}, false
	}
	major, err := strconv.Atoi(m[1])
	return binaries{dir: dir, major: major}, err == nil
}

// provideBinaries finds PostgreSQL. Where it is absent, it installs it as root or fails with the
// command to type.
func provideBinaries(ctx context.Context, sys *system, want int, progress func(string)) (binaries, error) {
	b, err := findBinaries(ctx, sys, want)
	if !errors.Is(err, errNoBinaries) {
		return b, err
	}
	if dir := sys.getenv(TestVariable); dir != "" { // another installation would prove nothing
		return binaries{}, fmt.Errorf("%s=%s: %w; fetch one with: go run ./tests/tools/postgres get 18", TestVariable, dir, err)
	}
	if ierr := install(ctx, sys, serverPackages(want), progress); ierr != nil {
		return binaries{}, fmt.Errorf("%w: %w", err, ierr)
	}
	return findBinaries(ctx, sys, want)
}
