package ingestion

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// leftOutNames bounds the recorded file names; further files are only counted.
const leftOutNames = 100

// leftOut lists the files that a run left out, with the reasons.
type leftOut struct {
	Total   int            `json:"total"`
	Reasons map[string]int `json:"reasons"`
	// Files are the first files that look like text and that no filter was meant to exclude.
	Files []leftOutFile `json:"files"`
}

type leftOutFile struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

func (l *leftOut) count(reason string, n int) {
	if n == 0 {
		return
	}
	if l.Reasons == nil {
		l.Reasons = map[string]int{}
	}
	l.Reasons[reason] += n
	l.Total += n
}

func (l *leftOut) name(path, reason string) {
	if len(l.Files) < leftOutNames {
		l.Files = append(l.Files, leftOutFile{path, reason})
	}
}

// json is the form for the details: every member is present.
func (l *leftOut) json() map[string]any {
	reasons := map[string]int{}
	for k, n := range l.Reasons {
		reasons[k] = n
	}
	return map[string]any{"total": l.Total, "reasons": reasons, "files": append([]leftOutFile{}, l.Files...)}
}

// leftOut returns the files that the run left out in both phases.
func (r *run) leftOut() map[string]any {
	all := leftOut{Total: r.left.Total, Reasons: maps.Clone(r.left.Reasons), Files: slices.Clone(r.left.Files)}
	large := tooLargeFiles(r.parse.TooLarge)
	all.count(tooLarge, large.Total)
	for _, f := range large.Files {
		all.name(f.Path, f.Reason)
	}
	return all.json()
}

// tooLargeFiles records files that were left out for their size, in the order of names.
func tooLargeFiles(names []string) *leftOut {
	var l leftOut
	l.count(tooLarge, len(names))
	for _, n := range slices.Sorted(slices.Values(names)) {
		l.name(n, tooLarge)
	}
	return &l
}

// textName reports whether a file with this name is usually text.
func textName(p string) bool {
	return languageOf(p) != "text" || strings.EqualFold(path.Ext(p), ".txt")
}

const tooLarge = "too_large"
