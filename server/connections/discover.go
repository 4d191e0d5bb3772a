package connections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"kijko/server/api"
	"kijko/worker/connections"
	"kijko/worker/exactjson"
	"kijko/worker/gitfetch"
)

const isoMillis = "2006-01-02T15:04:05.000Z"

// prepared is the result of api.prepare_check.
type prepared struct {
	Provider string          `json:"provider"`
	URL      string          `json:"url"`
	Name     string          `json:"name"`
	Info     json.RawMessage `json:"info"`
	Error    string          `json:"error"`
}

func (f *Feature) prepare(c *api.Call) (p prepared, err error) {
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, ReadOnly: true, SQL: api.CallSQL("prepare_check"), Args: []any{c.Params},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(answer.Body, &p); err != nil {
		return p, fmt.Errorf("prepare_check: %w", err)
	}
	return p, nil
}

// info is RepoInfo.
type info struct {
	Name            string `json:"name"`
	FullName        string `json:"fullName"`
	Provider        string `json:"provider"`
	URL             string `json:"url"`
	DefaultBranch   string `json:"defaultBranch"`
	CommitsPerMonth int    `json:"commitsPerMonth"`
	FileCount       int    `json:"fileCount"`
	LocEstimate     int    `json:"locEstimate"`
	PrimaryLanguage string `json:"primaryLanguage"`
	LastUpdated     string `json:"lastUpdated"`
	IsPrivate       bool   `json:"isPrivate"`
	Stars           *int   `json:"stars,omitempty"`
	Description     string `json:"description,omitempty"`
}

// validate answers POST /repositories/validate-full. Clients take the word "private" in an error as the cue to offer connecting an account,
// so no other error contains it.
func (f *Feature) validate(c *api.Call) error {
	p, err := f.prepare(c)
	if err != nil {
		return err
	}
	no := func(text string) error { return c.JSON(map[string]any{"valid": false, "error": text}) }
	switch {
	case p.Provider == "":
		return no(p.Error)
	case p.Info != nil:
		return c.JSON(map[string]any{"valid": true, "info": p.Info})
	}
	ctx, cancel := context.WithTimeout(c.Context(), budget)
	defer cancel()
	facts, connected, err := f.look(ctx, c.Caller.UserID, p)
	switch reason := connections.ReasonOf(err); {
	case err == nil:
	case connected && (reason == connections.NotFound || reason == connections.Forbidden):
		return no("This repository was not found or is not accessible with your connected account.")
	case reason == connections.NotFound, reason == connections.Unauthorized, reason == connections.Forbidden:
		return no("This repository does not exist or is private. Authenticate with the provider to check it.")
	case reason != "":
		f.Log.Info("a repository could not be checked", "provider", p.Provider, "error", err)
		return no("This repository could not be checked. Please try again in a moment.")
	default:
		return f.refused(p.Provider, err)
	}
	result := info{Name: p.Name[strings.LastIndexByte(p.Name, '/')+1:], FullName: p.Name, Provider: p.Provider, URL: p.URL, DefaultBranch: facts.DefaultBranch,
		CommitsPerMonth: facts.Commits, FileCount: facts.Files, LocEstimate: facts.Lines, PrimaryLanguage: facts.Language,
		LastUpdated: facts.Updated.UTC().Format(isoMillis), IsPrivate: facts.Private, Stars: facts.Stars, Description: cut(facts.Description, 2000)}
	if result.PrimaryLanguage == "" {
		result.PrimaryLanguage = "Unknown"
	}
	if _, err := c.Server(ctx, "keep_check", map[string]any{"userId": c.Caller.UserID, "url": p.URL, "provider": p.Provider, "info": result}); err != nil {
		f.Log.Warn("what is known of a repository could not be kept", "error", err)
	}
	return c.JSON(map[string]any{"valid": true, "info": result})
}

// look reads the repository with the caller's connection. It reads without one when there is none, or when the connection does not open
// this repository. connected reports whether the provider accepted the connection.
func (f *Feature) look(ctx context.Context, userID string, p prepared) (facts connections.Facts, connected bool, err error) {
	host, own := f.Providers.HostOf(p.Provider, p.URL)
	if host == nil {
		return facts, false, &connections.Refusal{Provider: p.Provider, Reason: connections.NotFound}
	}
	if own {
		id, err := f.Keeper.Of(ctx, userID, p.Provider)
		if err == nil {
			err = f.Keeper.Use(ctx, id, func(token string) (err error) {
				facts, err = host.Look(ctx, token, p.Name)
				return err
			})
		}
		switch reason := connections.ReasonOf(err); {
		case errors.Is(err, connections.ErrNone), errors.Is(err, connections.ErrBroken):
		case reason == connections.NotFound, reason == connections.Forbidden:
			// A connection may not cover a repository that is public.
			if open, failed := host.Look(ctx, "", p.Name); failed == nil {
				return open, true, nil
			}
			return facts, true, err
		default:
			return facts, true, err
		}
	}
	facts, err = host.Look(ctx, "", p.Name)
	return facts, false, err
}

// branches answers GET /repositories/branches by git itself: the same protocol for every provider.
func (f *Feature) branches(c *api.Call) error {
	p, err := f.prepare(c)
	if err != nil {
		return err
	}
	if p.Provider == "" {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", p.Error, "url")
	}
	ctx, cancel := context.WithTimeout(c.Context(), budget)
	defer cancel()
	connected := false
	var remote gitfetch.Remote
	err = f.Keeper.Git(ctx, c.Caller.UserID, gitfetch.Provider(p.Provider), p.URL, func(auth gitfetch.Auth) (err error) {
		connected = auth.Token != ""
		remote, err = f.Git.LsRemote(ctx, p.URL, auth)
		return err
	})
	if err != nil {
		return f.refusedByGit(p.Provider, connected, err)
	}
	names := make([]string, 0, len(remote.Branches)+1)
	if remote.DefaultBranch != "" {
		names = append(names, remote.DefaultBranch)
	}
	for _, b := range remote.Branches {
		if b.Name != remote.DefaultBranch {
			names = append(names, b.Name)
		}
	}
	return c.JSON(map[string]any{"branches": names[:min(len(names), 500)], "defaultBranch": remote.DefaultBranch})
}

// refusedByGit returns the answer to a failed git query.
func (f *Feature) refusedByGit(provider string, connected bool, err error) error {
	failure, ok := gitfetch.AsFailure(err)
	if !ok {
		return f.refused(provider, err)
	}
	refusal := &connections.Refusal{Provider: provider, Reason: connections.Unavailable, RetryAfter: failure.RetryAfter}
	switch failure.Code {
	case gitfetch.RepoNotFound, gitfetch.PermissionDenied:
		if !connected {
			return notConnected(provider, err)
		}
		return api.NewProblem(http.StatusNotFound, "REPOSITORY_NOT_FOUND", "This repository was not found or is not accessible with your connected account.", "url").Because(err)
	case gitfetch.AuthFailed:
		return notConnected(provider, err)
	case gitfetch.RateLimited:
		refusal.Reason = connections.Limited
	}
	f.Log.Warn("branches could not be listed", "provider", provider, "error", err)
	return f.refused(provider, refusal)
}

const (
	// mostRepositories is how many repositories an account's list shows.
	mostRepositories = 1_000
	// mostPages bounds the requests to a provider for one list. Some providers return as few as 20 entries per page, or none in empty
	// workspaces.
	mostPages = 60
)

// listed is a repository of the list.
type listed struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	FullName      string `json:"fullName"`
	URL           string `json:"url"`
	IsPrivate     bool   `json:"isPrivate"`
	IsArchived    bool   `json:"isArchived"`
	LastUpdated   string `json:"lastUpdated"`
	UpdatedAt     string `json:"updatedAt"`
	Owner         string `json:"owner"`
	DefaultBranch string `json:"defaultBranch"`
	Description   string `json:"description,omitempty"`
}

// repositories answers GET /repositories/batch.
func (f *Feature) repositories(c *api.Call) error {
	var q struct {
		Provider          string `json:"provider"`
		Search            string `json:"search"`
		UpdatedWithinDays int    `json:"updatedWithinDays"`
		IncludeArchived   *bool  `json:"includeArchived"`
		Page              int    `json:"page"`
		PageSize          int    `json:"pageSize"`
	}
	if err := exactjson.Unmarshal(c.Params, &q); err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), budget)
	defer cancel()
	id, err := f.Keeper.Of(ctx, c.Caller.UserID, q.Provider)
	if err != nil {
		return f.refused(q.Provider, err)
	}
	var all []connections.Repository
	total := -1
	err = f.Keeper.Use(ctx, id, func(token string) (err error) {
		all, total, err = f.readAll(ctx, q.Provider, token, strings.TrimSpace(q.Search))
		return err
	})
	if err != nil {
		return f.refused(q.Provider, err)
	}
	oldest := time.Time{}
	if q.UpdatedWithinDays > 0 {
		oldest = time.Now().AddDate(0, 0, -q.UpdatedWithinDays)
	}
	search := strings.ToLower(strings.TrimSpace(q.Search))
	filtered := slices.DeleteFunc(all, func(r connections.Repository) bool {
		return r.Updated.Before(oldest) || q.IncludeArchived != nil && !*q.IncludeArchived && r.Archived ||
			!strings.Contains(strings.ToLower(r.FullName+"\n"+r.Description), search)
	})
	if whole := search == "" && q.UpdatedWithinDays == 0 && (q.IncludeArchived == nil || *q.IncludeArchived); !whole || total < len(filtered) {
		total = len(filtered)
	}
	slices.SortFunc(filtered, func(a, b connections.Repository) int {
		if order := b.Updated.Compare(a.Updated); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	filtered = filtered[:min(len(filtered), mostRepositories)]
	if q.Page > 0 || q.PageSize > 0 {
		size := q.PageSize
		if size == 0 {
			size = 50
		}
		from := min((max(q.Page, 1)-1)*size, len(filtered))
		filtered = filtered[from:min(from+size, len(filtered))]
	}
	list := make([]listed, len(filtered))
	for i, r := range filtered {
		updated := r.Updated.UTC().Format(isoMillis)
		list[i] = listed{ID: r.ID, Name: r.Name, FullName: r.FullName, URL: r.URL, IsPrivate: r.Private, IsArchived: r.Archived, LastUpdated: updated,
			UpdatedAt: updated, Owner: r.Owner, DefaultBranch: r.DefaultBranch, Description: cut(r.Description, 2000)}
	}
	return c.JSON(map[string]any{"repositories": list, "total": total})
}

// readAll reads page by page, with the next page that the provider names. A short page does not mean the end.
func (f *Feature) readAll(ctx context.Context, provider, token, search string) (all []connections.Repository, total int, err error) {
	host := f.Providers.Host(provider)
	total = -1
	known := map[string]bool{}
	next := ""
	for range mostPages {
		page, err := host.Repositories(ctx, token, search, next)
		if err != nil {
			return nil, 0, err
		}
		for _, r := range page.Repositories {
			if !known[r.ID] { // a list that changes while it is read shows some twice
				known[r.ID] = true
				all = append(all, r)
			}
		}
		total = max(total, page.Total)
		if next = page.Next; next == "" || len(all) >= mostRepositories {
			break
		}
	}
	return all, total, nil
}

// cut shortens a text to at most n bytes, between characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
