package gitfetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// historyCommits is how many commits are searched for the last changes of files (contract 10, 18.1).
const historyCommits = 1_000

// maxAuthor bounds an author's name, in bytes; longer ones are cut.
const maxAuthor = 200

// Change is the last change of a file.
type Change struct {
	Author string
	Date   time.Time // the author's date, UTC
	Commit string
}

// fetchHistory fetches commits and trees without contents into a second repository beside the main one. A filtered fetch turns a
// repository into a partial clone, which fetches missing objects from the network; therefore it must not be the main one.
func (t *transfer) fetchHistory(ctx context.Context, s state) (bool, error) {
	if deadline, ok := ctx.Deadline(); ok { // leaves time to list the files that are fetched already
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(deadline)*3/4, errTimeLimit)
		defer cancel()
	}
	dir := filepath.Join(t.req.Dir, historyDir)
	options := []string{"--filter=blob:none", "--depth=" + strconv.Itoa(historyCommits)}
	fetch := func() error {
		err := t.fetchInto(ctx, dir, s.Commit, options...)
		if errors.Is(err, errUnwanted) {
			err = t.fetchInto(ctx, dir, "refs/heads/"+s.Branch, options...)
		}
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if grown := errors.Is(err, fs.ErrExist); grown { // an earlier fetch left it: only newer commits come
		if err = fetch(); err != nil && ctx.Err() == nil {
			err = errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
			if err == nil {
				err = t.init(ctx, dir, s.Commit)
			}
			if err == nil {
				err = fetch()
			}
		}
	} else if err != nil {
		return false, fmt.Errorf("make history: %w", err)
	} else {
		if err := t.init(ctx, dir, s.Commit); err != nil {
			return false, err
		}
		err = fetch()
	}
	if err == nil { // the branch may have been replaced by one that doesn't contain the commit
		err = t.f.run(ctx, call{dir: dir, repo: dir, args: []string{"cat-file", "-e", s.Commit}})
	}
	if err == nil {
		return true, nil
	}
	if errors.Is(err, context.Canceled) {
		return false, err
	}
	t.f.log.WarnContext(ctx, "repository fetched without its history", "url", s.URL, "error", err)
	if err := os.RemoveAll(dir); err != nil {
		return false, fmt.Errorf("remove history: %w", err)
	}
	return false, nil
}

// LastChanges returns for each file the newest of the last 1,000 commits that changed it. Files that were last changed earlier have
// no entry. The map is empty if history was not fetched or the host could not provide it.
func (t *Tree) LastChanges(ctx context.Context) (map[string]Change, error) {
	found := map[string]Change{}
	if !t.history || len(t.Files) == 0 {
		return found, nil
	}
	dir := filepath.Join(t.dir, historyDir)
	missing := make(map[string]struct{}, len(t.Files))
	for _, file := range t.Files {
		missing[file.Path] = struct{}{}
	}
	oldest, err := shallowCommits(dir)
	if err != nil {
		return nil, err
	}
	args := []string{"log", "--no-renames", "--name-only", "-z", "--format=tformat:%x01%H%x00%an%x00%aI",
		"--max-count=" + strconv.Itoa(historyCommits), t.Commit, "--"}
	err = t.fetcher.run(ctx, call{dir: dir, repo: dir, args: args, stdout: func(r io.Reader) error {
		return readLog(r, oldest, missing, found)
	}})
	if err != nil {
		return nil, explain(ctx, "read history", err)
	}
	return found, nil
}

// shallowCommits reads the commits at which history was cut. To git they look like first commits that add every file, so the
// changes in them are meaningless.
func shallowCommits(dir string) (map[string]struct{}, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "shallow"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read history: %w", err)
	}
	set := map[string]struct{}{}
	for _, id := range strings.Fields(string(raw)) {
		set[id] = struct{}{}
	}
	return set, nil
}

// readLog moves files from missing to found, newest commit first, and stops when none is missing. Fields end with NUL: \x01 and the
// commit, author, date, then the names. A line feed precedes the first name.
func readLog(r io.Reader, oldest map[string]struct{}, missing map[string]struct{}, found map[string]Change) error {
	fields := bufio.NewScanner(r)
	fields.Buffer(make([]byte, 0, 64<<10), 1<<20)
	fields.Split(splitNUL)
	var change Change
	counts := false
	for len(missing) > 0 && fields.Scan() {
		text := fields.Text()
		if commit, ok := strings.CutPrefix(text, "\x01"); ok {
			change = Change{Commit: commit}
			fields.Scan()
			change.Author = author(fields.Text())
			fields.Scan()
			at, err := time.Parse(time.RFC3339, fields.Text())
			_, cut := oldest[commit]
			counts = err == nil && !cut
			change.Date = at.UTC()
			continue
		}
		path := Shown(strings.TrimPrefix(text, "\n"))
		if _, ok := missing[path]; ok && counts {
			found[path] = change
			delete(missing, path)
		}
	}
	if err := fields.Err(); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	return errEnough
}

func author(name string) string {
	if len(name) > maxAuthor {
		name = name[:maxAuthor]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
}

func splitNUL(data []byte, atEOF bool) (int, []byte, error) {
	for i, b := range data {
		if b == 0 {
			return i + 1, data[:i], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
