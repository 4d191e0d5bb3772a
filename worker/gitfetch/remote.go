package gitfetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxBranches bounds a listing; further branches of a repository are left out.
const maxBranches = 20_000

var errTimeLimit = errors.New("time limit reached")

// Branch is a branch and its current commit.
type Branch struct{ Name, Commit string }

// Remote describes a repository without its content.
type Remote struct {
	// DefaultBranch is "" if the repository is empty or names a branch that does not exist.
	DefaultBranch string
	// Branches are in name order.
	Branches []Branch
	// Truncated reports that the repository has more branches than a listing keeps (20,000).
	Truncated bool
}

// Commit returns the commit of a branch.
func (r Remote) Commit(branch string) (string, bool) {
	i, ok := slices.BinarySearchFunc(r.Branches, branch, func(b Branch, name string) int { return strings.Compare(b.Name, name) })
	if !ok {
		return "", false
	}
	return r.Branches[i].Commit, true
}

// LsRemote lists the branches of a repository given by its normalized URL. An empty repository has none.
func (f *Fetcher) LsRemote(ctx context.Context, url string, auth Auth) (Remote, error) {
	loc, err := f.locate(ctx, url, auth)
	if err == nil {
		var remote Remote
		if remote, err = f.branches(ctx, loc, "refs/heads/*"); err == nil {
			return remote, nil
		}
	}
	return Remote{}, explain(ctx, "list branches", err)
}

// Head is a branch with its current commit.
type Head struct {
	Branch string
	Commit string
	// FellBack reports that "main" was requested and does not exist, and Branch is the repository's default branch instead.
	FellBack bool
}

// Head returns the branch and commit that Fetch would fetch, by the same rules and with the same failures, without a transfer. It
// serves the validation of a start, and finds out whether a branch has moved.
func (f *Fetcher) Head(ctx context.Context, url, branch string, auth Auth) (Head, error) {
	if !validBranch(branch) {
		return Head{}, branchMissing(branch)
	}
	loc, err := f.locate(ctx, url, auth)
	if err == nil {
		var head Head
		if head, err = f.head(ctx, loc, branch); err == nil {
			return head, nil
		}
	}
	return Head{}, explain(ctx, "find branch", err)
}

func (f *Fetcher) head(ctx context.Context, loc location, branch string) (Head, error) {
	// Two requests: a repository may have ten thousand branches, and the first request, for one branch, is mostly enough.
	remote, err := f.branches(ctx, loc, "refs/heads/"+branch)
	if err != nil {
		return Head{}, err
	}
	if commit, ok := remote.Commit(branch); ok {
		return Head{Branch: branch, Commit: commit}, nil
	}
	if remote, err = f.branches(ctx, loc, "refs/heads/*"); err != nil {
		return Head{}, err
	}
	if len(remote.Branches) == 0 {
		return Head{}, Invalid("The repository is empty.")
	}
	// Bulk import always sends "main" (contract 10, 18.1); a person chose every other branch.
	commit, ok := remote.Commit(remote.DefaultBranch)
	if branch != "main" || !ok {
		return Head{}, branchMissing(branch)
	}
	return Head{Branch: remote.DefaultBranch, Commit: commit, FellBack: true}, nil
}

// explain decides which error a caller sees: the end of the caller's context unchanged, a missed deadline as TIMEOUT, failures
// unchanged.
func explain(ctx context.Context, doing string, err error) error {
	failure, ok := AsFailure(err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	case ctx.Err() != nil, errors.Is(err, errTimeLimit):
		return &Failure{Code: Timeout, Message: "The Git host took too long.", Retryable: true, cause: fmt.Errorf("%s: %w", doing, err)}
	case ok:
		return failure
	case errors.Is(err, errUnwanted):
		return &Failure{Code: RepoFetchFailed, Message: "The repository changed while it was being fetched.", Retryable: true, cause: err}
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// branches requests the refs that match the patterns, and the default branch.
func (f *Fetcher) branches(ctx context.Context, loc location, patterns ...string) (Remote, error) {
	dir, err := os.MkdirTemp(f.temp, "kijko-git-")
	if err != nil {
		return Remote{}, fmt.Errorf("make a working directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var remote Remote
	var head string
	args := append([]string{"ls-remote", "--symref", "--", loc.url.String(), "HEAD"}, patterns...)
	err = f.run(ctx, call{dir: dir, loc: &loc, args: args, stdout: func(r io.Reader) error {
		scanner := bufio.NewScanner(r) // a line is at most 64 KiB, far more than a ref may have
		for scanner.Scan() {
			value, ref, _ := strings.Cut(scanner.Text(), "\t")
			name, isBranch := strings.CutPrefix(ref, "refs/heads/")
			target, isSymref := strings.CutPrefix(value, "ref: refs/heads/")
			switch {
			case ref == "HEAD" && isSymref:
				remote.DefaultBranch = target
			case ref == "HEAD":
				head = value
			case isBranch && !isSymref && len(remote.Branches) == maxBranches:
				remote.Truncated = true
				return errEnough
			case isBranch && !isSymref:
				remote.Branches = append(remote.Branches, Branch{Name: strings.Clone(name), Commit: strings.Clone(value)})
			}
		}
		return scanner.Err()
	}})
	if err != nil {
		return Remote{}, err
	}
	slices.SortFunc(remote.Branches, func(a, b Branch) int { return strings.Compare(a.Name, b.Name) })
	if remote.DefaultBranch == "" {
		remote.DefaultBranch = guessDefault(remote.Branches, head)
	}
	return remote, nil
}

// guessDefault chooses a branch if the server does not say what HEAD points to: the branch on HEAD's commit, or the only one.
func guessDefault(branches []Branch, head string) string {
	if len(branches) == 1 {
		return branches[0].Name
	}
	found := ""
	for _, b := range branches {
		if b.Commit == head && (found == "" || b.Name == "main" || b.Name == "master" && found != "main") {
			found = b.Name
		}
	}
	return found
}

// validBranch applies git's rules for a branch name (git help check-ref-format), so that a name cannot be mistaken for anything
// else.
func validBranch(name string) bool {
	if name == "" || len(name) > 255 || name == "@" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool {
		return s == "" || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".lock")
	})
}
