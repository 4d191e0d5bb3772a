package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clone is a working copy of the repository that the server offers, on a branch of this run of the demo.
type clone struct{ folder, branch string }

func newClone(ctx context.Context, from, branch string) (*clone, error) {
	folder, err := os.MkdirTemp("", "kijko-demo-")
	if err != nil {
		return nil, err
	}
	c := &clone{folder: folder, branch: branch}
	for _, args := range [][]string{{"clone", "-q", "--depth", "1", from, "."}, {"checkout", "-q", "-b", branch}, {"push", "-q", "origin", branch}} {
		if err := c.git(ctx, args...); err != nil {
			c.remove()
			return nil, err
		}
	}
	return c, nil
}

func (c *clone) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=Demo", "-c", "user.email=demo@example.nl", "-c", "commit.gpgsign=false"}, args...)...) //nolint:gosec // the arguments are ours
	cmd.Dir = c.folder
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (c *clone) remove() { _ = os.RemoveAll(c.folder) }

// commit adds a file, changes one, removes one and pushes.
func (c *clone) commit(ctx context.Context) error {
	const code = `package greeting

// OpeningHours says when the shop is open.
func OpeningHours(day string) string {
	if day == "Sunday" {
		return "closed"
	}
	return "from nine to five"
}
`
	if err := os.MkdirAll(filepath.Join(c.folder, "greeting"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.folder, "greeting", "hours.go"), []byte(code), 0o600); err != nil {
		return err
	}
	readme, err := os.OpenFile(filepath.Join(c.folder, "README.md"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = readme.WriteString("\nThe shop has opening hours.\n")
	if err := errors.Join(err, readme.Close()); err != nil {
		return err
	}
	for _, args := range [][]string{{"rm", "-q", "--ignore-unmatch", "SECURITY.md"}, {"add", "-A"}, {"commit", "-q", "-m", "Add opening hours"}, {"push", "-q", "origin", c.branch}} {
		if err := c.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// context shows what a context offers: versions, compression, search and graph (docs/contexts.md).
func (d *demo) context(ctx context.Context, id, repositoryID string, c *clone) error {
	at := "/api/v1/contexts/" + id
	search := "stop"
	if c != nil {
		if err := d.secondVersion(ctx, id, repositoryID, c); err != nil {
			return err
		}
		search = "opening"
	}
	var entry struct {
		OperationID              string
		Tokens, CompressedTokens int
	}
	if err := d.ask(ctx, "POST", at+"/ingestions/1/compress", &entry); err != nil {
		return err
	}
	if err := d.finish(ctx, at, entry.OperationID, at+"/ingestions/1", &entry); err != nil {
		return err
	}
	d.say("  compressed version 1: %s -> %s tokens", thousands(entry.Tokens), thousands(entry.CompressedTokens))

	var found []struct {
		Path      string
		StartLine int
	}
	if err := d.ask(ctx, "GET", at+"/chunks/search?limit=3&q="+url.QueryEscape(search), &found); err != nil {
		return err
	}
	for _, f := range found {
		d.say("  found %q in %s, line %d", search, f.Path, f.StartLine)
	}

	var graph struct {
		Meta struct{ TotalNodes, TotalLinks int }
	}
	if err := d.call(ctx, "GET", at+"/knowledge-graph?limit=1", nil, &graph); err != nil {
		return err
	}
	var picture svg
	if err := d.ask(ctx, "GET", at+"/knowledge-graph.svg?limit=120", &picture); err != nil {
		return err
	}
	file := filepath.Join(os.TempDir(), "kijko-graph.svg")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		return err
	}
	d.say("  a graph of %s nodes and %s links; its picture is %s", thousands(graph.Meta.TotalNodes), thousands(graph.Meta.TotalLinks), file)
	return nil
}

// secondVersion pushes a commit, ingests again and tells what changed.
func (d *demo) secondVersion(ctx context.Context, id, repositoryID string, c *clone) error {
	if err := c.commit(ctx); err != nil {
		return err
	}
	d.say("\npushed a second commit; ingesting what changed:")
	d.say("POST /api/v1/contexts/%s/ingestions", id)
	var entry struct {
		OperationID                             string
		FilesAdded, FilesModified, FilesRemoved int
	}
	begun := time.Now()
	at := "/api/v1/contexts/" + id
	if err := d.call(ctx, "POST", at+"/ingestions", map[string]any{"fileId": repositoryID, "fileName": "kijko", "displayName": "Opening hours",
		"processingMode": "none", "codebase": map[string]any{"type": "existing", "id": id, "name": ""}}, &entry); err != nil {
		return err
	}
	if err := d.finish(ctx, at, entry.OperationID, at+"/ingestions/2", &entry); err != nil {
		return err
	}
	d.say("  version 2 after %.0f s: added %d, modified %d, removed %d files", time.Since(begun).Seconds(), entry.FilesAdded, entry.FilesModified, entry.FilesRemoved)
	var diff struct {
		Files   []struct{ Path, Status string }
		Summary struct{ TotalAdditions, TotalDeletions int }
	}
	if err := d.ask(ctx, "GET", "/api/v1/contexts/"+id+"/diff/1/2", &diff); err != nil {
		return err
	}
	for _, f := range diff.Files {
		d.say("  %-9s %s", f.Status, f.Path)
	}
	d.say("  %d lines added, %d removed", diff.Summary.TotalAdditions, diff.Summary.TotalDeletions)
	return nil
}

// ask calls and shows the request, so that the visitor can repeat it.
func (d *demo) ask(ctx context.Context, method, path string, into any) error {
	d.say("\n%s %s", method, path)
	return d.call(ctx, method, path, nil, into)
}

// finish reads a result again when its work took longer than the server held the answer back.
func (d *demo) finish(ctx context.Context, at, operationID, path string, into any) error {
	if operationID == "" {
		return nil
	}
	if err := d.await(ctx, at, operationID); err != nil {
		return err
	}
	return d.call(ctx, "GET", path, nil, into)
}

// await waits for the end of an operation.
func (d *demo) await(ctx context.Context, at, id string) error {
	for {
		var operation struct {
			Status string
			Error  json.RawMessage
		}
		if err := d.call(ctx, "GET", at+"/operations/"+id, nil, &operation); err != nil {
			return err
		}
		switch operation.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("the operation %s: %s", operation.Status, strings.TrimSpace(string(operation.Error)))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// svg is an answer that is no JSON.
type svg []byte
