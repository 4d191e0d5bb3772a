package source

import (
	"fmt"
	"path"
	"strings"
)

// Reason says why a file is not read. The zero value means that it is read.
type Reason string

// The reasons, in the order of contract 10, 18.1.
const (
	Kept            Reason = ""
	GitFolder       Reason = "git_folder"       // 1: below .git
	Empty           Reason = "empty"            // 1: no content
	Binary          Reason = "binary"           // 1: no text
	UnknownEncoding Reason = "unknown_encoding" // 1: like text, in an unknown encoding
	Pointer         Reason = "lfs_pointer"      // 1: a pointer to a file that Git LFS keeps
	Dependency      Reason = "dependency"       // 2 and 3: third-party code
	BuildArtifact   Reason = "build_artifact"   // 2 and 3: made by a build
	Test            Reason = "test"             // 3
	Documentation   Reason = "documentation"    // 3
	NotIncluded     Reason = "not_included"     // 4: includePaths name others
	ExcludedPath    Reason = "excluded_path"    // 4: excludePaths
	ExcludedPattern Reason = "excluded_pattern" // 5: excludePatterns
	OtherLanguage   Reason = "other_language"   // 5: languagePatterns name others
	Recovery        Reason = "recovery"         // 6: left out by exclude_files
	LockFile        Reason = "lock_file"        // 6: from here on only under apply_filters
	Snapshot        Reason = "snapshot"
	Generated       Reason = "generated"
	Minified        Reason = "minified"
)

// SmartFilters are the switches of the upload step (FileFilterConfig).
type SmartFilters struct {
	ExcludeNodeModules    bool
	ExcludeBuildArtifacts bool
	ExcludeTests          bool
	IncludeDocumentation  bool
}

// Rules decide which files of one source a run reads.
type Rules struct {
	Kind         Kind
	Smart        SmartFilters // uploads only
	IncludePaths []string     // repositories only; empty means all
	ExcludePaths []string     // repositories only

	ExcludePatterns  []string
	LanguagePatterns []string // empty means all

	// Excluded are the paths that a recovery excluded (exclude_files).
	Excluded []string
	// Stronger adds the filters of the recovery apply_filters.
	Stronger bool
}

// Filter is the compiled form of Rules.
type Filter struct {
	rules                                 Rules
	include, exclude, patterns, languages globs
	excluded                              map[string]struct{}
}

// NewFilter compiles the patterns; the error names the first invalid pattern.
func NewFilter(r Rules) (*Filter, error) {
	f := &Filter{rules: r, excluded: make(map[string]struct{}, len(r.Excluded))}
	for _, list := range []struct {
		name string
		from []string
		to   *globs
	}{
		{"includePaths", r.IncludePaths, &f.include}, {"excludePaths", r.ExcludePaths, &f.exclude},
		{"excludePatterns", r.ExcludePatterns, &f.patterns}, {"languagePatterns", r.LanguagePatterns, &f.languages},
	} {
		var err error
		if *list.to, err = compileAll(list.from); err != nil {
			return nil, fmt.Errorf("%s: %w", list.name, err)
		}
	}
	for _, p := range r.Excluded {
		f.excluded[p] = struct{}{}
	}
	return f, nil
}

// Path applies, in the contract's order, every filter that needs no content. The first hit is the reason. Content runs
// after Path, although "binary" belongs to step 1. Every filter only removes files, so the remaining files are the same,
// and files that are excluded by path need not be read.
func (f *Filter) Path(p string, size int64) Reason {
	base := path.Base(p)
	if hasSegment(p, ".git") {
		return GitFolder
	}
	if size == 0 {
		return Empty
	}
	if reason := f.byKind(p, base); reason != Kept {
		return reason
	}
	if f.rules.Kind != Text {
		if f.patterns.match(p, base) {
			return ExcludedPattern
		}
		if len(f.languages) > 0 && !f.languages.match(p, base) {
			return OtherLanguage
		}
	}
	if _, ok := f.excluded[p]; ok {
		return Recovery
	}
	if f.rules.Stronger && f.rules.Kind != Text {
		return strongerPath(p, base)
	}
	return Kept
}

// Content applies the filters that check the content.
func (f *Filter) Content(c Content) Reason {
	switch {
	case c.Binary && c.TextLike:
		return UnknownEncoding
	case c.Binary:
		return Binary
	case c.Pointer && f.rules.Kind != Text:
		return Pointer
	case c.Characters == 0:
		return Empty // nothing but a byte order mark
	case !f.rules.Stronger || f.rules.Kind == Text:
		return Kept
	case c.Generated:
		return Generated
	case c.Characters/c.Lines > minifiedLine:
		return Minified
	}
	return Kept
}

// byKind is steps 2 to 4.
func (f *Filter) byKind(p, base string) Reason {
	switch f.rules.Kind {
	case Repository:
		if reason := repositoryPath(p, base); reason != Kept {
			return reason
		}
		if len(f.include) > 0 && !f.include.match(p, base) {
			return NotIncluded
		}
		if f.exclude.match(p, base) {
			return ExcludedPath
		}
	case Upload:
		return f.rules.Smart.path(strings.ToLower(p))
	}
	return Kept
}

// segments are the folder names of step 2.
var segments = map[string]Reason{
	"node_modules": Dependency, "vendor": Dependency, ".pnpm": Dependency, "__pycache__": Dependency, ".venv": Dependency, "venv": Dependency,
	"dist": BuildArtifact, "build": BuildArtifact, "out": BuildArtifact, ".next": BuildArtifact, "target": BuildArtifact, ".cache": BuildArtifact,
}

func repositoryPath(p, base string) Reason {
	for rest, more := p, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if reason := segments[segment]; reason != Kept {
			return reason
		}
	}
	if strings.HasSuffix(base, ".min.js") || strings.HasSuffix(base, ".min.css") {
		return BuildArtifact
	}
	return Kept
}

// path is step 3. It compares with plain "contains", also inside names, because the upload screen shows that result.
func (s SmartFilters) path(lower string) Reason {
	switch {
	case s.ExcludeNodeModules && containsAny(lower, "node_modules", "vendor", "packages", ".pnpm", "__pycache__", ".venv", "venv"):
		return Dependency
	case s.ExcludeBuildArtifacts && (containsAny(lower, "/dist/", "/build/", "/out/", "/.next/", "/target/", "/.cache/") ||
		strings.HasSuffix(lower, ".min.js") || strings.HasSuffix(lower, ".min.css")):
		return BuildArtifact
	case s.ExcludeTests && containsAny(lower, ".test.", ".spec.", "__tests__", "/test/", "/tests/"):
		return Test
	case !s.IncludeDocumentation && (strings.HasSuffix(lower, ".md") || containsAny(lower, "/docs/", "/documentation/")):
		return Documentation
	}
	return Kept
}

// lockFiles are the lock files that do not end in ".lock".
var lockFiles = map[string]bool{"package-lock.json": true, "pnpm-lock.yaml": true, "go.sum": true}

// strongerPath is the part of apply_filters that checks names.
func strongerPath(p, base string) Reason {
	switch {
	case lockFiles[base] || strings.HasSuffix(base, ".lock"): // yarn.lock, Cargo.lock, poetry.lock, ...
		return LockFile
	case strings.HasSuffix(base, ".snap") || hasSegment(p, "__snapshots__"):
		return Snapshot
	case strings.Contains(base, ".pb.") || strings.Contains(base, "_generated.") || strings.Contains(base, ".g."):
		return Generated
	}
	return Kept
}

func containsAny(s string, words ...string) bool {
	for _, word := range words {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}
