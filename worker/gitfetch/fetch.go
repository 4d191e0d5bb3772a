package gitfetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Limits bound one fetch; a zero field means the contract's value (10-projects 18.1).
type Limits struct {
	Bytes   int64         // on disk, and as the sum of the files' sizes; 2 GiB
	Files   int           // 100,000
	Timeout time.Duration // 10 minutes
}

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 2 << 30
	}
	if l.Files <= 0 {
		l.Files = 100_000
	}
	if l.Timeout <= 0 {
		l.Timeout = 10 * time.Minute
	}
	return l
}

// Request says what to fetch and into which directory.
type Request struct {
	URL    string // normalized, as contract 10, 7.3 gives it
	Branch string
	// Commit, if set, asks for this commit again instead of the branch's head.
	Commit string
	Auth   Auth
	// Dir becomes a bare repository. It must be new, empty, or from an earlier fetch, which is reused or replaced.
	Dir string
	// History also fetches the commits and trees, without contents, of up to 1,000 commits, for LastChanges.
	History bool
	Limits  Limits
	// Progress, if set, is called from other goroutines, one call at a time. It must not block.
	Progress func(Progress)
}

const (
	stateFile  = "kijko-fetch.json"
	historyDir = "kijko-history.git"
	headRef    = "refs/kijko/head"
	// watchEvery is the interval of the size check. A fetch can exceed its limit by the bytes that arrive within it.
	watchEvery = 200 * time.Millisecond
)

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

var errTooLarge = errors.New("size limit passed")

// state is the content of a directory. The file is written when a fetch is complete, and marks a directory as made by this package.
type state struct {
	URL      string `json:"url,omitempty"`
	Branch   string `json:"branch,omitempty"`
	Commit   string `json:"commit,omitempty"` // "" while a fetch is under way
	FellBack bool   `json:"fellBack,omitempty"`
	Moved    bool   `json:"moved,omitempty"`
	History  bool   `json:"history,omitempty"`
	// Asked records that history was requested, so that a server without it is not asked again.
	Asked bool `json:"asked,omitempty"`
	// Bytes is the size after the last fetch into an empty directory, and Grown how many fetches have added to it since.
	Bytes int64 `json:"bytes,omitempty"`
	Grown int   `json:"grown,omitempty"`
}

// A directory that holds an earlier commit gets only what is new, until what it keeps of earlier commits is as large as the current one.
const maxGrown = 50

// Fetch brings the branch to Dir and lists its files. If Dir already holds the wanted commit nothing is transferred; with
// Request.Commit no request is made. History is optional: if the host cannot provide it within the limits, the fetch succeeds
// without it.
func (f *Fetcher) Fetch(ctx context.Context, req Request) (*Tree, error) {
	limits := req.Limits.orDefault()
	limited, cancel := context.WithTimeoutCause(ctx, limits.Timeout, errTimeLimit)
	defer cancel()
	tree, err := f.fetch(limited, req, limits)
	if err != nil {
		if errors.Is(context.Cause(limited), errTimeLimit) {
			err = errTimeLimit
		}
		return nil, explain(ctx, "fetch repository", err)
	}
	return tree, nil
}

// Open returns the tree that an earlier fetch left in dir, without any network access. ok is false if there is none.
func (f *Fetcher) Open(ctx context.Context, dir string, limits Limits) (tree *Tree, ok bool, err error) {
	s, ok := readState(dir)
	if !ok || s.Commit == "" {
		return nil, false, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, false, fmt.Errorf("find directory: %w", err)
	}
	tree, err = f.open(ctx, dir, s, limits.orDefault())
	if err != nil {
		return nil, false, explain(ctx, "open repository", err)
	}
	return tree, true, nil
}

func (f *Fetcher) open(ctx context.Context, dir string, s state, limits Limits) (*Tree, error) {
	t := &Tree{Commit: s.Commit, Branch: s.Branch, FellBack: s.FellBack, Moved: s.Moved, fetcher: f, dir: dir, history: s.History}
	return t, t.list(ctx, limits)
}

func (f *Fetcher) fetch(ctx context.Context, req Request, limits Limits) (*Tree, error) {
	if !validBranch(req.Branch) {
		return nil, branchMissing(req.Branch)
	}
	if req.Commit != "" && !commitID.MatchString(req.Commit) {
		return nil, fmt.Errorf("%q is no commit", req.Commit)
	}
	var err error
	if req.Dir, err = filepath.Abs(req.Dir); err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	held, _ := readState(req.Dir)
	if held.URL != req.URL || req.History && !held.Asked {
		held = state{}
	}
	if held.Commit != "" && held.Commit == req.Commit {
		return f.open(ctx, req.Dir, held, limits)
	}
	loc, err := f.locate(ctx, req.URL, req.Auth)
	if err != nil {
		return nil, err
	}
	job := &transfer{f: f, req: req, limits: limits, loc: loc, meter: &meter{report: req.Progress}}
	s, err := job.choose(ctx)
	if err != nil {
		return nil, err
	}
	if held.Commit == "" || held.Commit != s.Commit {
		if s, err = job.renew(ctx, s, held); err != nil {
			return nil, err
		}
	} else {
		s.History, s.Asked, s.Bytes, s.Grown = held.History, held.Asked, held.Bytes, held.Grown
	}
	if err := writeState(req.Dir, s); err != nil {
		return nil, err
	}
	job.meter.update(Progress{Percent: 100})
	return f.open(ctx, req.Dir, s, limits)
}

// transfer is one running fetch.
type transfer struct {
	f      *Fetcher
	req    Request
	limits Limits
	loc    location
	meter  *meter
}

// choose determines branch and commit.
func (t *transfer) choose(ctx context.Context) (state, error) {
	s := state{URL: t.req.URL, Branch: t.req.Branch, Commit: t.req.Commit, Asked: t.req.History}
	if s.Commit != "" {
		return s, nil
	}
	head, err := t.f.head(ctx, t.loc, t.req.Branch)
	s.Branch, s.Commit, s.FellBack = head.Branch, head.Commit, head.FellBack
	return s, err
}

// renew adds the commit to a directory that holds an earlier one, or fills the directory again.
func (t *transfer) renew(ctx context.Context, s, held state) (state, error) {
	if held.Commit != "" && len(held.Commit) == len(s.Commit) && held.Grown < maxGrown && dirSize(t.req.Dir) < 2*held.Bytes {
		grown, err := t.grow(ctx, s)
		if err == nil {
			grown.Bytes, grown.Grown = held.Bytes, held.Grown+1
			return grown, nil
		}
		if ctx.Err() != nil {
			return s, err
		}
		t.f.log.InfoContext(ctx, "earlier copy not used", "url", s.URL, "error", err)
	}
	s, err := t.run(ctx, s)
	s.Bytes = dirSize(t.req.Dir)
	return s, err
}

// grow fetches what is new since the commit that the directory holds.
func (t *transfer) grow(ctx context.Context, s state) (state, error) {
	if err := writeState(t.req.Dir, state{}); err != nil {
		return s, err
	}
	err := t.fetchInto(ctx, t.req.Dir, s.Commit, "--depth=1")
	if err == nil && t.req.History {
		s.History, err = t.fetchHistory(ctx, s)
	}
	return s, err
}

// run fills the directory and returns its new state.
func (t *transfer) run(ctx context.Context, s state) (state, error) {
	dir := t.req.Dir
	if err := t.prepare(ctx, dir, s.Commit); err != nil {
		return s, err
	}
	err := t.fetchInto(ctx, dir, s.Commit, "--depth=1")
	if errors.Is(err, errUnwanted) {
		// Either the branch moved between the two requests, or the pinned commit is gone or not served by its id.
		pinned := t.req.Commit
		t.req.Commit = ""
		if s, err = t.choose(ctx); err != nil {
			return s, err
		}
		s.Moved = pinned != ""
		if err = t.prepare(ctx, dir, s.Commit); err != nil {
			return s, err
		}
		err = t.fetchInto(ctx, dir, "refs/heads/"+s.Branch, "--depth=1")
	}
	if err != nil {
		return s, err
	}
	if s.Commit, err = t.f.output(ctx, call{dir: dir, repo: dir, args: []string{"rev-parse", "--verify", headRef + "^{commit}"}}); err != nil {
		return s, err
	}
	if t.req.History {
		s.History, err = t.fetchHistory(ctx, s)
	}
	return s, err
}

// prepare empties the directory, if this package made it, and makes it a repository. This removes everything that a killed fetch
// left, locks included.
func (t *transfer) prepare(ctx context.Context, dir, commit string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make repository: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make repository: %w", err)
	}
	if _, ours := readState(dir); len(entries) > 0 && !ours {
		return fmt.Errorf("make repository: %s is not empty and not from an earlier fetch", dir)
	}
	if err := writeState(dir, state{}); err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == stateFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("empty repository: %w", err)
		}
	}
	return t.init(ctx, dir, commit)
}

func (t *transfer) init(ctx context.Context, dir, commit string) error {
	format := "sha1"
	if len(commit) == 64 {
		format = "sha256"
	}
	args := []string{"init", "--quiet", "--bare", "--template=", "--initial-branch=none", "--object-format=" + format, "--", dir}
	if err := t.f.run(ctx, call{dir: dir, args: args}); err != nil {
		return fmt.Errorf("make repository: %w", err)
	}
	return nil
}

// fetchInto transfers one ref or commit into a repository below Dir, within the limits on time and disk space.
func (t *transfer) fetchInto(ctx context.Context, dir, what string, options ...string) error {
	return t.fetchRefs(ctx, dir, []string{what + ":" + headRef}, options...)
}

func (t *transfer) fetchRefs(ctx context.Context, dir string, what []string, options ...string) error {
	ctx, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		t.watch(ctx, stop)
	}()
	args := append([]string{"fetch", "--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
		"--no-auto-maintenance", "--no-show-forced-updates", "--force"}, options...)
	args = append(append(args, "--", t.loc.url.String()), what...)
	err := t.f.run(ctx, call{dir: dir, repo: dir, loc: &t.loc, args: args, progress: t.meter.line})
	stop(nil)
	<-watched
	if err == nil && dirSize(t.req.Dir) > t.limits.Bytes {
		err = errTooLarge // the bytes arrived between two checks
	}
	if errors.Is(err, errTooLarge) {
		return refused("The repository is larger than %s.", sizeText(t.limits.Bytes))
	}
	return err
}

// watch stops the fetch when the directory exceeds its limit. git has no such limit for fetching.
func (t *transfer) watch(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			size := dirSize(t.req.Dir)
			if size > t.limits.Bytes {
				stop(errTooLarge)
				return
			}
			t.meter.update(Progress{ReceivedBytes: size})
		}
	}
}

func readState(dir string) (state, bool) {
	var s state
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, false
	}
	if json.Unmarshal(raw, &s) != nil {
		s = state{} // a crash damaged the file: treat the directory as empty
	}
	return s, true
}

// writeState replaces the file atomically, so that a reader sees the old state or the new one.
func writeState(dir string, s state) error {
	raw, err := json.Marshal(s)
	if err == nil {
		temp := filepath.Join(dir, stateFile+".new")
		if err = os.WriteFile(temp, raw, 0o600); err == nil {
			err = os.Rename(temp, filepath.Join(dir, stateFile))
		}
	}
	if err != nil {
		return fmt.Errorf("write state of the repository: %w", err)
	}
	return nil
}
