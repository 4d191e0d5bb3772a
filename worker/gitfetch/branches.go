package gitfetch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDated bounds the branches that Branches returns, and datedBytes what it transfers for them: a commit without its trees has a few
// hundred bytes, but a host without filters sends whole trees.
const (
	maxDated   = 500
	datedBytes = 32 << 20
	datedTime  = time.Minute
)

// DatedBranch is a branch with the time of its commit.
type DatedBranch struct {
	Name, Commit string
	// At is zero if the commit is a known one, or if the host could not say.
	At time.Time
}

// Branches lists the default branch and up to 500 branches with the times of their commits, the default one first, then by name. It asks for
// no commit that known has for the branch.
func (f *Fetcher) Branches(ctx context.Context, url string, auth Auth, known map[string]string) (defaultBranch string, list []DatedBranch, err error) {
	loc, err := f.locate(ctx, url, auth)
	var remote Remote
	if err == nil {
		remote, err = f.branches(ctx, loc, "refs/heads/*")
	}
	if err != nil {
		return "", nil, explain(ctx, "list branches", err)
	}
	for _, b := range remote.Branches {
		list = append(list, DatedBranch{Name: b.Name, Commit: b.Commit})
	}
	slices.SortStableFunc(list, func(a, b DatedBranch) int {
		return order(a.Name != remote.DefaultBranch) - order(b.Name != remote.DefaultBranch)
	})
	list = list[:min(len(list), maxDated)]
	var wanted []string
	for _, b := range list {
		if known[b.Name] != b.Commit {
			wanted = append(wanted, b.Commit)
		}
	}
	slices.Sort(wanted)
	if wanted = slices.Compact(wanted); len(wanted) == 0 {
		return remote.DefaultBranch, list, nil
	}
	times, err := f.commitTimes(ctx, loc, wanted)
	if err != nil {
		if ctx.Err() != nil {
			return "", nil, explain(ctx, "list branches", err)
		}
		f.log.WarnContext(ctx, "branches are listed without the times of their commits", "url", url, "error", err)
	}
	for i, b := range list {
		if known[b.Name] != b.Commit {
			list[i].At = times[b.Commit]
		}
	}
	return remote.DefaultBranch, list, nil
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}

// commitTimes fetches the commits alone, and reads when they were made.
func (f *Fetcher) commitTimes(ctx context.Context, loc location, commits []string) (map[string]time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, datedTime, errTimeLimit)
	defer cancel()
	dir, err := os.MkdirTemp(f.temp, "kijko-git-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	job := &transfer{f: f, req: Request{Dir: dir}, limits: Limits{Bytes: datedBytes}, loc: loc, meter: &meter{}}
	repo := filepath.Join(dir, "commits.git")
	if err := os.Mkdir(repo, 0o700); err != nil {
		return nil, err
	}
	if err := job.init(ctx, repo, commits[0]); err != nil {
		return nil, err
	}
	if err := job.fetchRefs(ctx, repo, commits, "--depth=1", "--filter=tree:0"); err != nil {
		return nil, err
	}
	out, err := f.output(ctx, call{dir: repo, repo: repo, args: append([]string{"log", "--no-walk=unsorted", "--format=%H %ct"}, commits...)})
	if err != nil {
		return nil, err
	}
	times := map[string]time.Time{}
	for line := range strings.Lines(out) {
		commit, seconds, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(seconds, 10, 64); err == nil && n > 0 && n < 1<<40 {
			times[commit] = time.Unix(n, 0).UTC()
		}
	}
	if len(times) == 0 {
		return nil, errors.New("the commits have no times")
	}
	return times, nil
}
