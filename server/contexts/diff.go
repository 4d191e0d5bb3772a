package contexts

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"znkr.io/diff"
	"znkr.io/diff/textdiff"

	"kijko/server/api"
)

const (
	// maxDiffFiles and maxDiffLines are the limits of contract 60, 4.3.
	maxDiffFiles = 300
	maxDiffLines = 5000
	// minimalLines is how many lines two texts may have together for a shortest diff; beyond, the library's default bounds its time. The
	// library cannot be cancelled.
	minimalLines = 10_000
	// countTime bounds the counting of lines for one page of the changelog. What is not counted then is left out of modifiedFiles; the counts
	// that were made are kept, so that the next request gets further.
	countTime = 5 * time.Second
	// keptCounts is how many pairs of contents this process keeps the counts of.
	keptCounts = 50_000
)

type diffLine struct {
	Type    string `json:"type"`
	Content string `json:"content"`
	Old     int    `json:"oldLineNumber,omitempty"`
	New     int    `json:"newLineNumber,omitempty"`
}

type diffHunk struct {
	OldStart int        `json:"oldStart"`
	OldLines int        `json:"oldLines"`
	NewStart int        `json:"newStart"`
	NewLines int        `json:"newLines"`
	Lines    []diffLine `json:"lines"`
}

type diffFile struct {
	Path     string     `json:"path"`
	Status   string     `json:"status"`
	Hunks    []diffHunk `json:"hunks"`
	Added    int        `json:"linesAdded"`
	Removed  int        `json:"linesRemoved"`
	Language string     `json:"language,omitempty"`
	TooLarge bool       `json:"tooLarge,omitempty"`
	Binary   bool       `json:"binary,omitempty"`
}

type diffSummary struct {
	Added     int `json:"filesAdded"`
	Removed   int `json:"filesRemoved"`
	Modified  int `json:"filesModified"`
	Additions int `json:"totalAdditions"`
	Deletions int `json:"totalDeletions"`
}

type diffData struct {
	Files     []diffFile  `json:"files"`
	Summary   diffSummary `json:"summary"`
	From      int         `json:"fromVersion"`
	To        int         `json:"toVersion"`
	Truncated bool        `json:"truncated,omitempty"`
}

// changed is a file in which two versions differ, as the database names it.
type changed struct {
	Path      string `json:"path"`
	Status    string `json:"status"`
	Language  string `json:"language"`
	From      string `json:"from"`
	To        string `json:"to"`
	FromLines int    `json:"fromLines"`
	ToLines   int    `json:"toLines"`
	FromBytes int64  `json:"fromBytes"`
	ToBytes   int64  `json:"toBytes"`
	IsBinary  bool   `json:"isBinary"`
}

// options of a diff of texts with so many lines.
func options(lines int) []diff.Option {
	if lines <= minimalLines {
		return []diff.Option{diff.Minimal(), diff.Context(3)}
	}
	return []diff.Option{diff.Context(3)}
}

// compare makes the hunks of a file, with counts of added and removed lines. Without a limit it returns all hunks.
func compare(old, recent string, limit int) (hunks []diffHunk, added, removed int, tooLarge bool) {
	hunks = []diffHunk{}
	shown := 0
	for _, h := range textdiff.Hunks(old, recent, options(strings.Count(old, "\n")+strings.Count(recent, "\n")+2)...) {
		hunk := diffHunk{OldStart: h.LineNoX + 1, OldLines: h.EndLineNoX - h.LineNoX, NewStart: h.LineNoY + 1, NewLines: h.EndLineNoY - h.LineNoY}
		if hunk.OldLines == 0 {
			hunk.OldStart = h.LineNoX
		}
		if hunk.NewLines == 0 {
			hunk.NewStart = h.LineNoY
		}
		for _, e := range h.Edits {
			line := diffLine{Content: strings.TrimSuffix(strings.TrimSuffix(e.Line, "\n"), "\r")}
			switch e.Op {
			case diff.Match:
				line.Type, line.Old, line.New = "context", e.LineNoX+1, e.LineNoY+1
			case diff.Delete:
				line.Type, line.Old = "deletion", e.LineNoX+1
				removed++
			case diff.Insert:
				line.Type, line.New = "addition", e.LineNoY+1
				added++
			}
			if shown++; limit == 0 || shown <= limit {
				hunk.Lines = append(hunk.Lines, line)
			}
		}
		hunks = append(hunks, hunk)
	}
	if limit > 0 && shown > limit {
		return []diffHunk{}, added, removed, true
	}
	return hunks, added, removed, false
}

// counts are lines added and removed between two contents.
type counts struct{ added, removed int }

// texts reads contents by hash, in as many calls as their size needs, and hands each pair to f.
func (f *Feature) pairs(c *api.Call, files []changed, handle func(i int, old, recent string) error) error {
	for at := 0; at < len(files); {
		var hashes []string
		var size int64
		end := at
		for ; end < len(files) && (end == at || size+files[end].FromBytes+files[end].ToBytes <= 8<<20) && len(hashes) < 1000; end++ {
			size += files[end].FromBytes + files[end].ToBytes
			for _, hash := range []string{files[end].From, files[end].To} {
				if hash != "" {
					hashes = append(hashes, hash)
				}
			}
		}
		texts := map[string]string{}
		for len(hashes) > 0 {
			got, err := f.texts(c.Context(), c, hashes)
			if err != nil {
				return err
			}
			if len(got) == 0 {
				break // content that is gone is shown as empty
			}
			maps.Copy(texts, got)
			var rest []string
			for _, hash := range hashes {
				if _, have := texts[hash]; !have {
					rest = append(rest, hash)
				}
			}
			hashes = rest
		}
		for i := at; i < end; i++ {
			if err := c.Context().Err(); err != nil {
				return err
			}
			if err := handle(i, texts[files[i].From], texts[files[i].To]); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

func (f *Feature) texts(ctx context.Context, c *api.Call, hashes []string) (map[string]string, error) {
	p, err := json.Marshal(map[string]any{"contextId": strings.Clone(c.Path("contextId")), "hashes": hashes})
	if err != nil {
		return nil, err
	}
	answer, err := f.read(ctx, c, "read_context_texts", p)
	if err != nil {
		return nil, err
	}
	var texts map[string]string
	if err := json.Unmarshal(answer.Body, &texts); err != nil {
		return nil, fmt.Errorf("the texts of a context: %w", err)
	}
	return texts, nil
}

// read calls a function of schema api that only reads, as the caller.
func (f *Feature) read(ctx context.Context, c *api.Call, function string, p []byte) (api.Answer, error) {
	return f.s.Exec.Run(ctx, &api.Request{Caller: c.Caller, Needs: c.Op.Scope, SQL: api.CallSQL(function), Args: []any{p}, ReadOnly: true,
		RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device})
}

// diff answers GET .../diff/{from}/{to} and .../changelog/{number}/diff.
func (f *Feature) diff(c *api.Call) error {
	answer, err := f.read(c.Context(), c, "diff_versions", c.Params)
	if err != nil {
		return err
	}
	var about struct {
		Files []changed `json:"files"`
		From  int       `json:"fromVersion"`
		To    int       `json:"toVersion"`
	}
	if err := json.Unmarshal(answer.Body, &about); err != nil {
		return fmt.Errorf("diff_versions: %w", err)
	}
	limit := maxDiffLines
	if len(c.Ctx.Query("path")) > 0 {
		limit = 0
	}
	data := diffData{Files: []diffFile{}, From: about.From, To: about.To, Truncated: len(about.Files) > maxDiffFiles}
	// Shown files need their texts; of the others only modified ones do, for the exact summary.
	var texts []changed
	for i, file := range about.Files {
		switch file.Status {
		case "added":
			data.Summary.Added++
		case "removed":
			data.Summary.Removed++
		default:
			data.Summary.Modified++
		}
		if i < maxDiffFiles {
			shown := diffFile{Path: file.Path, Status: file.Status, Hunks: []diffHunk{}, Language: file.Language, Binary: file.IsBinary}
			data.Files = append(data.Files, shown)
		}
		switch known, have := f.counted.Get(file.From + file.To); {
		case file.IsBinary:
		case i >= maxDiffFiles && file.Status == "added":
			data.Summary.Additions += file.ToLines
		case i >= maxDiffFiles && file.Status == "removed":
			data.Summary.Deletions += file.FromLines
		case i >= maxDiffFiles && have:
			data.Summary.Additions += known.added
			data.Summary.Deletions += known.removed
		default:
			texts = append(texts, file)
		}
	}
	place := map[string]int{}
	for i := range data.Files {
		place[data.Files[i].Path] = i
	}
	err = f.pairs(c, texts, func(i int, old, recent string) error {
		hunks, added, removed, tooLarge := compare(old, recent, limit)
		f.counted.Add(texts[i].From+texts[i].To, counts{added, removed})
		data.Summary.Additions += added
		data.Summary.Deletions += removed
		if at, shown := place[texts[i].Path]; shown {
			one := &data.Files[at]
			one.Hunks, one.Added, one.Removed, one.TooLarge = hunks, added, removed, tooLarge
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.JSON(data)
}

// modified is a file of a changelog entry whose lines are to be counted.
type modified struct {
	Path     string `json:"path"`
	From     string `json:"from"`
	To       string `json:"to"`
	IsBinary bool   `json:"isBinary"`
}

type changedLines struct {
	Path    string `json:"path"`
	Added   int    `json:"linesAdded"`
	Removed int    `json:"linesRemoved"`
}

type plainEntry struct {
	Entry    map[string]json.RawMessage `json:"entry"`
	Modified []modified                 `json:"modified"`
}

// addLines adds modifiedFiles to entries of the changelog.
func (f *Feature) addLines(c *api.Call, entries []plainEntry) error {
	limited, cancel := context.WithTimeout(c.Context(), countTime)
	defer cancel()
	var missing []changed
	for _, e := range entries {
		for _, m := range e.Modified {
			if _, have := f.counted.Get(m.From + m.To); !have && !m.IsBinary {
				missing = append(missing, changed{From: m.From, To: m.To, FromBytes: 64 << 10, ToBytes: 64 << 10})
			}
		}
	}
	err := f.pairs(c, missing, func(i int, old, recent string) error {
		_, added, removed, _ := compare(old, recent, 1)
		f.counted.Add(missing[i].From+missing[i].To, counts{added, removed})
		return limited.Err()
	})
	if err != nil && limited.Err() == nil {
		return err
	}
	for _, e := range entries {
		if len(e.Modified) == 0 {
			continue
		}
		lines := []changedLines{}
		for _, m := range e.Modified {
			if n, have := f.counted.Get(m.From + m.To); have || m.IsBinary {
				lines = append(lines, changedLines{m.Path, n.added, n.removed})
			}
		}
		raw, err := json.Marshal(lines)
		if err != nil {
			return err
		}
		e.Entry["modifiedFiles"] = raw
	}
	return c.Context().Err()
}

// changelog answers GET .../changelog.
func (f *Feature) changelog(c *api.Call) error {
	answer, err := f.read(c.Context(), c, "list_changelog", c.Params)
	if err != nil {
		return err
	}
	var page struct {
		Entries []plainEntry `json:"entries"`
		Total   int64        `json:"totalCount"`
		HasMore bool         `json:"hasMore"`
	}
	if err := json.Unmarshal(answer.Body, &page); err != nil {
		return fmt.Errorf("list_changelog: %w", err)
	}
	if err := f.addLines(c, page.Entries); err != nil {
		return err
	}
	entries := make([]map[string]json.RawMessage, 0, len(page.Entries))
	for _, e := range page.Entries {
		entries = append(entries, e.Entry)
	}
	return c.JSON(map[string]any{"entries": entries, "totalCount": page.Total, "hasMore": page.HasMore})
}

// changelogEntry answers GET .../changelog/{number}.
func (f *Feature) changelogEntry(c *api.Call) error {
	answer, err := f.read(c.Context(), c, "get_changelog_entry", c.Params)
	if err != nil {
		return err
	}
	entry, err := f.withLines(c, answer.Body)
	if err != nil {
		return err
	}
	return c.JSON(entry)
}

func (f *Feature) withLines(c *api.Call, raw []byte) (map[string]json.RawMessage, error) {
	var e plainEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("an entry of the changelog: %w", err)
	}
	return e.Entry, f.addLines(c, []plainEntry{e})
}

// rollBack answers POST .../rollback/{number}.
func (f *Feature) rollBack(c *api.Call) error {
	answer, err := c.Query(c.Context(), "roll_back_context", c.Params)
	if err != nil {
		return err
	}
	end, err := f.finish(c, answer)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(end.Body, &members); err != nil {
		return fmt.Errorf("%s: %w", c.Op.ID, err)
	}
	if members["entry"] != nil {
		entry, err := f.withLines(c, members["entry"])
		if err != nil {
			return err
		}
		if members["entry"], err = json.Marshal(entry); err != nil {
			return err
		}
		if end.Body, err = json.Marshal(members); err != nil {
			return err
		}
	}
	return c.Reply(end)
}
