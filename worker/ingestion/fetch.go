package ingestion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/source"
)

// origin is one source of the run with its filter.
type origin struct {
	kind   string // repository, file, text, manual: as the row says
	repo   *repository
	label  string // phase1Data.repositoryUrl
	prefix string // in front of its paths in the context
	memory string // name of the source in what earlier runs remember
	src    source.Source
	filter *source.Filter
}

// file is one file of the set that the run leaves. The files are in byte order of their names, which are unique.
type file struct {
	Name   string `json:"n"` // in the context
	Origin int    `json:"o"` // -1: the run reads no source that has it
	Path   string `json:"p"` // within the origin
	Size   int64  `json:"s"`
	Ref    string `json:"r,omitempty"`
	Code   string `json:"c,omitempty"` // encoding, if it is no Unicode
	Key    []byte `json:"k,omitempty"` // fingerprint of what decides its text

	// Stored is set for a file whose text is stored already: it is not read again.
	Stored *content `json:"t,omitempty"`
	// Of a file without an origin.
	Kind       string      `json:"i,omitempty"`
	Repository *uuid.UUID  `json:"y,omitempty"`
	Change     *lastChange `json:"d,omitempty"`
}

// lastChange is the last change of a file as its row shows it.
type lastChange struct {
	Author string `json:"author"`
	Date   string `json:"date"`
}

// content is what is known of a text that is stored.
type content struct {
	Hash     []byte `json:"h"`
	Bytes    int64  `json:"b"`
	Tokens   int64  `json:"t"`
	Language string `json:"l"`
}

func (r *run) name(f file) string { return f.Name }

// kind and repository say where a file came from.
func (r *run) kind(f file) (kind string, repository pgtype.UUID) {
	if f.Origin < 0 {
		if f.Repository != nil {
			repository = pgtype.UUID{Bytes: *f.Repository, Valid: true}
		}
		return f.Kind, repository
	}
	o := r.origins[f.Origin]
	if o.repo != nil {
		repository = pgtype.UUID{Bytes: o.repo.ID, Valid: true}
	}
	return o.kind, repository
}

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
	dir, err := r.copyOf(repo)
	if err != nil {
		return nil, err
	}
	err = r.connected(ctx, repo, func(auth gitfetch.Auth) (err error) {
		stage.authenticated()
		tree, err = r.e.c.Git.Fetch(ctx, gitfetch.Request{
			URL: repo.URL, Branch: repo.Branch, Commit: r.t.Checkpoint.Repositories[repo.ID].Commit, Auth: auth,
			Dir: dir, History: r.t.MetadataOptions.History, Limits: r.e.c.Limits,
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
		tree := r.trees[repo.ID]
		// The commit that was just fetched need not be fetched again for its time.
		var at time.Time
		if known[tree.Branch] != tree.Commit {
			if at, err = tree.Committed(ctx); err == nil {
				known[tree.Branch] = tree.Commit
			}
		}
		err = r.connected(ctx, repo, func(auth gitfetch.Auth) error {
			main, list, err := r.e.c.Git.Branches(ctx, repo.URL, auth, known)
			if err != nil {
				return err
			}
			for i := range list {
				if !at.IsZero() && list[i].Name == tree.Branch && list[i].Commit == tree.Commit {
					list[i].At = at
				}
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

// setOrigins lists the sources, in the order in which a later one wins a path that two have.
func (r *run) setOrigins() error {
	r.origins = nil
	var uploads, picked, texts []source.Stored
	r.checksums = map[string]string{}
	for _, f := range r.t.Files {
		s := source.Stored{Path: f.Path, Size: f.Size, Key: f.Key}
		r.checksums[f.Key] = f.Checksum
		switch {
		case f.Origin == "text":
			texts = append(texts, s)
		case r.t.Scope.Files != nil && !source.IsArchive(f.Path):
			picked = append(picked, s)
		default:
			uploads = append(uploads, s)
		}
	}
	for i := range r.t.Repositories {
		repo := &r.t.Repositories[i]
		r.origins = append(r.origins, &origin{kind: "repository", repo: repo, label: withoutScheme(repo.URL), src: source.FromTree(r.trees[repo.ID]),
			prefix: r.prefix(repo), memory: "repository:" + repo.ID.String()})
	}
	for _, o := range []struct {
		kind, memory string
		files        []source.Stored
		as           source.Kind
	}{
		{"file", "file", uploads, source.Upload},
		// Files that a person picked one by one pass no filter.
		{"file", "picked", picked, source.Text},
		{"text", "text", texts, source.Text},
	} {
		if len(o.files) > 0 {
			r.origins = append(r.origins, &origin{kind: o.kind, label: "uploaded files", memory: o.memory,
				src: source.FromStored(o.as, o.files, source.Open(r.e.c.Open), r.dir.path, source.ArchiveLimits{})})
		}
	}
	if r.t.Manual != "" {
		r.origins = append(r.origins, &origin{kind: "manual", label: "manual content", memory: "manual", src: source.FromText(manualPath, r.t.Manual)})
	}
	for _, o := range r.origins {
		if err := r.setFilter(o); err != nil {
			return err
		}
	}
	return nil
}

// prefix stands in front of a repository's paths. The first repository of a project has none, and what its first ingestion gave to a
// repository stays.
func (r *run) prefix(repo *repository) string {
	if repo.Prefix != nil {
		return *repo.Prefix
	}
	if given, ok := r.t.Checkpoint.Prefixes[repo.ID]; ok {
		return given
	}
	taken := func(p string) bool { return r.t.prefixes[p] }
	p := ""
	if taken(p) {
		p = repo.Name + "/"
	}
	if taken(p) {
		p = repo.Name + "@" + repo.Branch + "/"
	}
	for n := 2; taken(p); n++ {
		p = fmt.Sprintf("%s@%s.%d/", repo.Name, repo.Branch, n)
	}
	r.t.prefixes[p] = true
	r.t.Checkpoint.Prefixes[repo.ID] = p
	return p
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
	if o.memory == "picked" {
		rules.Stronger = false
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
func (r *run) discoverInput(others []file) string {
	commits := map[uuid.UUID]string{}
	for _, repo := range r.t.Repositories {
		commits[repo.ID] = r.trees[repo.ID].Commit
	}
	return fingerprint("discover 3", commits, r.t.Repositories, r.t.Files, r.t.Manual, r.t.FileFilters, r.t.PatternFilters, r.t.Scope, others,
		r.t.Options, r.textInput())
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
	others, binaries, err := r.store.others(ctx)
	if err != nil {
		return err
	}
	r.input = r.discoverInput(others)
	var found discovered
	if !r.dir.done("discover", r.input, &found) {
		if found, err = r.look(ctx, stage, others); err != nil {
			return err
		}
		if err := r.dir.finish("discover", r.input, found); err != nil {
			return err
		}
	}
	r.left = found.LeftOut
	stage.leftOut(r.left)
	counts := make([]int, len(r.origins))
	for _, f := range found.Files {
		if f.Origin >= 0 {
			counts[f.Origin]++
		}
	}
	own := len(found.Binaries)
	for _, n := range counts {
		own += n
	}
	switch {
	case own == 0 && !r.t.Scope.none():
		return &Failure{Code: "INVALID_FORMAT", Message: "There is nothing to ingest: no file is left after the filters."}
	case len(found.Files)+len(found.Binaries)+binaries > r.e.c.ContextFiles:
		return r.tooLarge()
	}
	changed := false
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
	r.files, r.found = found.Files, found
	stage.discovered(r)
	r.progress.update(func(p *progress) { p.metrics.TotalFiles = int64(len(r.files)) })
	r.showFetch(stage, 100)
	return nil
}

func (r *run) tooLarge() error {
	return &Failure{Code: "CONTEXT_TOO_LARGE", Message: fmt.Sprintf("A context holds at most %d files. Leave some sources or folders out.", r.e.c.ContextFiles)}
}

// discovered is the result of discover.
type discovered struct {
	Files   []file  `json:"files"`
	LeftOut leftOut `json:"leftOut"`
	// Binaries are files without text that a person picked: they are stored, and no more.
	Binaries []file `json:"binaries,omitempty"`
	// Checked are the files that their content keeps out, Gone the remembered paths that a source does not have any more.
	Checked []checked   `json:"checked,omitempty"`
	Gone    [][2]string `json:"gone,omitempty"`
}

// checked is a file that its content keeps out, for the memory of later runs.
type checked struct {
	Source string `json:"s"`
	Path   string `json:"p"`
	Key    []byte `json:"k"`
	Reason string `json:"r"`
}

func (r *run) look(ctx context.Context, stage *fetchStage, others []file) (d discovered, err error) {
	remembered, err := r.remembered(ctx)
	if err != nil {
		return d, err
	}
	changes, err := r.changes(ctx)
	if err != nil {
		return d, err
	}
	files := others
	for i, o := range r.origins {
		m := &memory{r: r, origin: o, known: remembered[o.memory], changes: changes[i], keys: map[string][]byte{}}
		found, err := source.Rediscover(ctx, o.src, o.filter, m.recall, func(done, total int) {
			stage.looking(o.label)
			r.showFetch(stage, 80+20*(i*total+done)/(max(total, 1)*len(r.origins)))
		})
		if err != nil {
			if ctx.Err() != nil {
				return d, context.Cause(ctx)
			}
			return d, err
		}
		for _, e := range found.Files {
			f := file{Name: o.prefix + e.Path, Origin: i, Path: e.Path, Size: e.Size, Ref: e.Ref, Code: e.Encoding, Key: m.keys[e.Path]}
			if k, ok := m.known[e.Path]; ok && bytes.Equal(k.Key, f.Key) {
				f.Stored = &content{k.Hash, k.Bytes, k.Tokens, k.Language}
			}
			files = append(files, f)
		}
		for _, j := range found.Checked {
			if o.memory == "picked" && (j.Reason == source.Binary || j.Reason == source.UnknownEncoding) {
				d.Binaries = append(d.Binaries, file{Name: o.prefix + j.Path, Origin: i, Path: j.Path, Size: j.Size, Ref: j.Ref})
				continue
			}
			d.Checked = append(d.Checked, checked{o.memory, j.Path, m.keys[j.Path], string(j.Reason)})
		}
		if o.repo != nil || r.t.Scope.all() {
			for path := range m.known {
				if _, seen := m.keys[path]; !seen {
					d.Gone = append(d.Gone, [2]string{o.memory, path})
				}
			}
		}
		for reason, n := range found.Excluded {
			d.LeftOut.count(string(reason), n)
		}
		for _, f := range found.LeftOut {
			if f.Reason == source.UnknownEncoding || textName(f.Path) {
				d.LeftOut.name(o.prefix+f.Path, string(f.Reason))
			}
		}
		if o.repo != nil {
			skipped := r.trees[o.repo.ID].Skipped
			d.LeftOut.count("symlink", skipped.Symlinks)
			d.LeftOut.count("submodule", skipped.Submodules)
			d.LeftOut.count("bad_path", skipped.BadPaths)
		}
		stage.add(found)
	}
	// The same path from two sources is one file: the later source wins, and every source wins against what is stored.
	slices.SortStableFunc(files, func(a, b file) int { return strings.Compare(a.Name, b.Name) })
	binary := map[string]bool{}
	for _, b := range d.Binaries {
		binary[b.Name] = true
	}
	d.Files = make([]file, 0, len(files))
	for i, f := range files {
		if i+1 < len(files) && files[i+1].Name == f.Name || binary[f.Name] {
			continue
		}
		d.Files = append(d.Files, f)
	}
	return d, nil
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
