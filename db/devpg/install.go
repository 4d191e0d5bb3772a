package devpg

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// packages names what to install for one major version; 0 stands for the newest on offer.
type packages struct {
	major int
	names func(major int) []string
}

func serverPackages(want int) packages {
	return packages{major: want, names: func(v int) []string {
		return []string{fmt.Sprintf("postgresql-%d", v), fmt.Sprintf("postgresql-%d-pgtap", v)}
	}}
}

func extensionPackage(extension string, major int) packages {
	return packages{major: major, names: func(v int) []string {
		return []string{fmt.Sprintf("postgresql-%d-%s", v, strings.ReplaceAll(extension, "_", "-"))}
	}}
}

// install brings packages through apt when this process is root; otherwise the error is the command
// for a person to type.
func install(ctx context.Context, sys *system, p packages, progress func(string)) error {
	if _, err := sys.lookPath("apt-get"); err != nil {
		if _, err := sys.lookPath("brew"); err == nil {
			return fmt.Errorf("install it with: brew install postgresql@%d pgtap", max(p.major, MinVersion))
		}
		return fmt.Errorf("install PostgreSQL %d or later and pgTAP with your system's package manager, or name its pg_config in PG_CONFIG", max(p.major, MinVersion))
	}
	if sys.uid != 0 {
		names := strings.Join(p.names(max(p.major, MinVersion)), " ")
		if p.major == 0 {
			names = "postgresql postgresql-common" // whichever version this distribution has
		}
		return fmt.Errorf("install it with: sudo apt-get update && sudo apt-get install -y %s", names)
	}
	progress("updating the list of packages (apt-get update)")
	if _, err := sys.run(ctx, "apt-get", "update", "-q"); err != nil {
		return fmt.Errorf("update the list of packages: %w", err)
	}
	major := p.major
	if major == 0 {
		var err error
		if major, err = newestOnOffer(ctx, sys); err != nil {
			return err
		}
	}
	names := p.names(major)
	progress("installing " + strings.Join(names, " ") + " (apt-get install)")
	if _, err := sys.run(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=120", "install", "-y", "-q", "--no-install-recommends"}, names...)...); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(names, " "), err)
	}
	return nil
}

var offerPattern = regexp.MustCompile(`(?m)^postgresql-(\d+)-pgtap\b`)

// newestOnOffer asks apt for the newest version that pgTAP is packaged for as well.
func newestOnOffer(ctx context.Context, sys *system) (int, error) {
	out, err := sys.run(ctx, "apt-cache", "search", "--names-only", `^postgresql-[0-9]+-pgtap$`)
	if err != nil {
		return 0, fmt.Errorf("ask which PostgreSQL versions apt offers: %w", err)
	}
	var found []int
	for _, m := range offerPattern.FindAllStringSubmatch(string(out), -1) {
		if v, err := strconv.Atoi(m[1]); err == nil && v >= MinVersion {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("apt offers no PostgreSQL %d or later; add the PostgreSQL project's package source and try again", MinVersion)
	}
	return slices.Max(found), nil
}
