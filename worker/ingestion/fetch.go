package ingestion

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/source"
)

// origin is one source of the run with its filter.
type origin struct {
	kind   string // repository, file, text, manual: as the row says
	repo   *repository
	label  string // phase1Data.repositoryUrl
	prefix string // in front of its paths where the run has several sources
	src    source.Source
	filter *source.Filter
}

// file is one file of the run. The run's files are in byte order of their names, which are unique.
type file struct {
	Origin int    `json:"o"`
	Path   string `json:"p"` // within the origin
	Size   int64  `json:"s"`
	Ref    string `json:"r,omitempty"`
	Code   string `json:"c,omitempty"` // encoding, if it is no Unicode
}

func (r *run) name(f file) string { return r.origins[f.Origin].prefix + f.Path }

func (f file) entry() source.Entry {
	return source.Entry{Path: f.Path, Size: f.Size, Ref: f.Ref, Encoding: f.Code}
}

// runFetch is phase 1: it fetches everything and then finds the files.
func (r *run) runFetch(ctx context.Context) error {
	r.fetched = false // another attempt requests the missing repositories again
	stage := newFetchStage(len(r.t.Repositories))
	if err := r.fetch(ctx, stage); err != nil {
		return err
	}
	return r.discover(ctx, stage)
}

// fetch brings all repositories to the disk. If one fails, the phase fails, and the others stay on disk for the next
// attempt.
func (r *run) fetch(ctx context.Context, stage *fetchStage) error {
	if r.fetched {
		return nil
	}
	for i := range r.t.Repositories {
		repo := &r.t.Repositories[i]
		stage.begin(repo)
		r.showFetch(stage, 0)
		if err := r.store.markRepository(ctx, repo.ID); err != nil {
			return err
		}
		tree, err := r.fetchOne(ctx, repo, stage, i)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			f := asFailure(phaseFetch, r.t.rule(phaseFetch).Code, err)
			f.Items = []string{repo.URL}
			stage.failed(f.Message)
			if f.Code == string(gitfetch.BranchNotFound) {
				f.Branches = r.branches(ctx, repo)
			}
			return f
		}
		r.trees[repo.ID] = tree
		r.showBranches(ctx, repo)
		done := fetchedRepo{Commit: tree.Commit, Files: r.t.Checkpoint.Repositories[repo.ID].Files}
		if tree.Branch != repo.Branch {
			done.Branch = tree.Branch
		}
		if r.t.Checkpoint.Repositories[repo.ID] != done {
			r.t.Checkpoint.Repositories[repo.ID] = done
			if err := r.saveCheckpoint(ctx); err != nil {
				return err
			}
		}
	}
	stage.fetched()
	r.fetched = true
	return nil
}

func (r *run) saveCheckpoint(ctx context.Context) error {
	return r.store.report(ctx, map[string]any{"checkpoint": r.t.Checkpoint})
}

func (r *run) fetchOne(ctx context.Context, repo *repository, stage *fetchStage, i int) (tree *gitfetch.Tree, err error) {
	err = r.connected(ctx, repo, func(auth gitfetch.Auth) (err error) {
		stage.authenticated()
		tree, err = r.e.c.Git.Fetch(ctx, gitfetch.Request{
			URL: repo.URL, Branch: repo.Branch, Commit: r.t.Checkpoint.Repositories[repo.ID].Commit, Auth: auth,
			Dir: r.dir.file(filepath.Join("git", repo.ID.String())), History: r.t.MetadataOptions.History, Limits: r.e.c.Limits,
			Progress: func(p gitfetch.Progress) {
				stage.received(p)
				r.showFetch(stage, 80*(100*i+p.Percent)/(100*len(r.t.Repositories)))
			},
		})
		return err
	})
	return tree, err
}

// showBranches brings the branches of the first repository to the default worktree. A failure does not concern the run.
func (r *run) showBranches(ctx context.Context, repo *repository) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	known, err := r.store.branchesWanted(ctx, repo.ID)
	if err == nil && known != nil {
		err = r.connected(ctx, repo, func(auth gitfetch.Auth) error {
			main, list, err := r.e.c.Git.Branches(ctx, repo.URL, auth, known)
			if err != nil {
				return err
			}
			return r.store.syncBranches(ctx, repo.ID, main, list)
		})
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the branches of a repository could not be listed", "url", repo.URL, "error", err)
	}
}

// connected calls do with the starter's connection, or without a connection.
func (r *run) connected(ctx context.Context, repo *repository, do func(gitfetch.Auth) error) error {
	if r.e.c.Connected == nil || r.t.StartedBy == nil {
		return do(gitfetch.Auth{})
	}
	return r.e.c.Connected(ctx, r.t.StartedBy.String(), repo.Provider, repo.URL, do)
}

// branches are the choices that the recovery panel offers. A failure to list them is ignored.
func (r *run) branches(ctx context.Context, repo *repository) []string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var remote gitfetch.Remote
	if err := r.connected(ctx, repo, func(auth gitfetch.Auth) (err error) {
		remote, err = r.e.c.Git.LsRemote(ctx, repo.URL, auth)
		return err
	}); err != nil {
		return nil
	}
	var names []string
	for _, b := range remote.Branches {
		names = append(names, b.Name)
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case (a == remote.DefaultBranch) == (b == remote.DefaultBranch):
			return strings.Compare(a, b)
		case a == remote.DefaultBranch:
			return -1
		default:
			return 1
		}
	})
	return names[:min(len(names), 500)]
}

// setOrigins lists the sources. Paths get a prefix only if two sources could have the same paths.
func (r *run) setOrigins() error {
	r.origins = nil
	var uploads, texts []source.Stored
	for _, f := range r.t.Files {
		s := source.Stored{Path: f.Path, Size: f.Size, Key: f.Key}
		if f.Origin == "text" {
			texts = append(texts, s)
		} else {
			uploads = append(uploads, s)
		}
	}
	several := len(r.t.Repositories)+min(len(uploads), 1)+min(len(texts), 1) > 1 || len(r.t.Repositories) > 0 && r.t.Manual != ""
	taken := map[string]bool{}
	for i := range r.t.Repositories {
		repo := &r.t.Repositories[i]
		o := &origin{kind: "repository", repo: repo, label: withoutScheme(repo.URL), src: source.FromTree(r.trees[repo.ID])}
		if several {
			o.prefix = repo.Name + "/"
			if taken[o.prefix] {
				o.prefix = repo.Name + "@" + repo.Branch + "/"
			}
			for n := 2; taken[o.prefix]; n++ {
				o.prefix = fmt.Sprintf("%s@%s.%d/", repo.Name, repo.Branch, n)
			}
			taken[o.prefix] = true
		}
		r.origins = append(r.origins, o)
	}
	if len(uploads) > 0 {
		r.origins = append(r.origins, &origin{kind: "file", label: "uploaded files",
			src: source.FromStored(source.Upload, uploads, source.Open(r.e.c.Open), r.dir.path, source.ArchiveLimits{})})
	}
	if len(texts) > 0 {
		r.origins = append(r.origins, &origin{kind: "text", label: "uploaded files",
			src: source.FromStored(source.Text, texts, source.Open(r.e.c.Open), r.dir.path, source.ArchiveLimits{})})
	}
	if r.t.Manual != "" {
		r.origins = append(r.origins, &origin{kind: "manual", label: "manual content", src: source.FromText(manualPath, r.t.Manual)})
	}
	for _, o := range r.origins {
		if err := r.setFilter(o); err != nil {
			return err
		}
	}
	return nil
}

// manualPath is the pseudo-file of the text typed by hand. It is Markdown, so that headings become chunks.
const manualPath = "manual-content.md"

func (r *run) setFilter(o *origin) (err error) {
	rules := source.Rules{
		Kind: o.src.Kind(),
		Smart: source.SmartFilters{ExcludeNodeModules: r.t.FileFilters.NodeModules, ExcludeBuildArtifacts: r.t.FileFilters.BuildArtifacts,
			ExcludeTests: r.t.FileFilters.Tests, IncludeDocumentation: r.t.FileFilters.Documentation},
		ExcludePatterns: r.t.PatternFilters.Excludes, LanguagePatterns: r.t.PatternFilters.Languages, Stronger: r.t.Options.ApplyFilters,
	}
	if o.repo != nil {
		rules.IncludePaths, rules.ExcludePaths = o.repo.Include, o.repo.Exclude
	}
	for _, path := range r.t.Options.Exclusions {
		if own, ok := strings.CutPrefix(path, o.prefix); ok {
			rules.Excluded = append(rules.Excluded, own)
		}
	}
	o.filter, err = source.NewFilter(rules)
	if err != nil {
		return &Failure{Code: "INVALID_FORMAT", Message: "A filter pattern of this project is not valid.", cause: err}
	}
	return nil
}

// discoverInput lists all inputs that decide which files the run has.
func (r *run) discoverInput() string {
	commits := map[uuid.UUID]string{}
	for _, repo := range r.t.Repositories {
		commits[repo.ID] = r.trees[repo.ID].Commit
	}
	return fingerprint("discover 2", commits, r.t.Repositories, r.t.Files, r.t.Manual, r.t.FileFilters, r.t.PatternFilters,
		r.t.Options.Exclusions, r.t.Options.ApplyFilters)
}

func fingerprint(parts ...any) string {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		return uuid.NewString() // differs from every other input
	}
	return hex.EncodeToString(h.Sum(nil))
}

// discover finds the files of the run, or reads their list from the disk.
func (r *run) discover(ctx context.Context, stage *fetchStage) error {
	if r.files != nil {
		return nil
	}
	if err := r.setOrigins(); err != nil {
		return err
	}
	r.input = r.discoverInput()
	var found discovered
	if !r.dir.done("discover", r.input, &found) {
		var err error
		if found, err = r.look(ctx, stage); err != nil {
			return err
		}
		if err := r.dir.finish("discover", r.input, found); err != nil {
			return err
		}
	}
	files := found.Files
	r.left = found.LeftOut
	stage.leftOut(r.left)
	if len(files) == 0 {
		return &Failure{Code: "INVALID_FORMAT", Message: "There is nothing to ingest: no file is left after the filters."}
	}
	changed := false
	counts := map[int]int{}
	for _, f := range files {
		counts[f.Origin]++
	}
	for i, o := range r.origins {
		if o.repo == nil {
			continue
		}
		if done := r.t.Checkpoint.Repositories[o.repo.ID]; done.Files != counts[i] {
			done.Files = counts[i]
			r.t.Checkpoint.Repositories[o.repo.ID] = done
			changed = true
		}
	}
	if changed {
		if err := r.saveCheckpoint(ctx); err != nil {
			return err
		}
	}
	r.files = files
	stage.discovered(r)
	r.progress.update(func(p *progress) { p.metrics.TotalFiles = int64(len(files)) })
	r.showFetch(stage, 100)
	return nil
}

// discovered is the result of discover.
type discovered struct {
	Files   []file  `json:"files"`
	LeftOut leftOut `json:"leftOut"`
}

func (r *run) look(ctx context.Context, stage *fetchStage) (discovered, error) {
	files := []file{}
	var left leftOut
	for i, o := range r.origins {
		found, err := source.Discover(ctx, o.src, o.filter, func(done, total int) {
			stage.looking(o.label)
			r.showFetch(stage, 80+20*(i*total+done)/(max(total, 1)*len(r.origins)))
		})
		if err != nil {
			if ctx.Err() != nil {
				return discovered{}, context.Cause(ctx)
			}
			return discovered{}, err
		}
		for _, e := range found.Files {
			files = append(files, file{i, e.Path, e.Size, e.Ref, e.Encoding})
		}
		for reason, n := range found.Excluded {
			left.count(string(reason), n)
		}
		for _, f := range found.LeftOut {
			if f.Reason == source.UnknownEncoding || textName(f.Path) {
				left.name(o.prefix+f.Path, string(f.Reason))
			}
		}
		if o.repo != nil {
			skipped := r.trees[o.repo.ID].Skipped
			left.count("symlink", skipped.Symlinks)
			left.count("submodule", skipped.Submodules)
			left.count("bad_path", skipped.BadPaths)
		}
		stage.add(found)
	}
	slices.SortStableFunc(files, func(a, b file) int { return strings.Compare(r.name(a), r.name(b)) })
	// Two sources may still have the same name (an upload with the path of a repository file): the first one is kept.
	files = slices.CompactFunc(files, func(a, b file) bool { return r.name(a) == r.name(b) })
	return discovered{files, left}, nil
}

// prepare makes sure that the files are known, without showing progress.
func (r *run) prepare(ctx context.Context) error {
	if r.files != nil {
		return nil
	}
	return r.progress.silently(func() error {
		stage := newFetchStage(len(r.t.Repositories))
		if err := r.fetch(ctx, stage); err != nil {
			return err
		}
		return r.discover(ctx, stage)
	})
}

func withoutScheme(url string) string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	return rest
}

func megabytes(n int64) float64 { return math.Round(float64(n)/(1<<20)*10) / 10 }

func languageOf(path string) string { return parse.Language(path, "") }

var errNoRecord = errors.New("a file of the run has no record")
