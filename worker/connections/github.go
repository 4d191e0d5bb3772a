package connections

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// github is the REST API of GitHub, of GitHub Enterprise and, as far as it is used here, of Gitea and Forgejo (base …/api/v1).
type github struct {
	service
	clientID, clientSecret string
}

func (g *github) Identity(ctx context.Context, token string) (Account, error) {
	var user struct {
		ID        int64  `json:"id"`
		Login     string `json:"login"`
		AvatarURL string `json:"avatar_url"`
	}
	_, err := g.get(ctx, token, g.at("/user", nil), &user)
	if err == nil && user.ID == 0 {
		err = unavailable(g.provider, errNoAccount)
	}
	return Account{strconv.FormatInt(user.ID, 10), user.Login, user.AvatarURL}, err
}

type githubRepository struct {
	ID            int64  `json:"id"`
	Name          string `json:"name"`
	FullName      string `json:"full_name"`
	HTMLURL       string `json:"html_url"`
	Description   string `json:"description"`
	DefaultBranch string `json:"default_branch"`
	Private       bool   `json:"private"`
	Archived      bool   `json:"archived"`
	Owner         struct {
		Login string `json:"login"`
	} `json:"owner"`
	PushedAt  *time.Time `json:"pushed_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	Stars     *int       `json:"stargazers_count"`
	StarsToo  *int       `json:"stars_count"`
}

func (r githubRepository) updated() time.Time {
	if r.PushedAt != nil {
		return *r.PushedAt
	}
	return r.UpdatedAt
}

func (g *github) Repositories(ctx context.Context, token, _, next string) (Page, error) {
	if next == "" {
		// Gitea reads limit (at most 50 of it), and GitHub reads per_page; each ignores the other parameter.
		next = g.at("/user/repos", url.Values{"per_page": {"100"}, "limit": {"100"}, "sort": {"pushed"}, "direction": {"desc"}})
	}
	var list []githubRepository
	header, err := g.get(ctx, token, next, &list)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: link(header, "next"), Total: total(header, "X-Total-Count")}
	if header.Get("X-Total-Count") == "" {
		page.Total = -1 // GitHub reports only the number of the last page
	}
	for _, r := range list {
		page.Repositories = append(page.Repositories, Repository{ID: strconv.FormatInt(r.ID, 10), Name: r.Name, FullName: r.FullName, URL: r.HTMLURL,
			Owner: r.Owner.Login, DefaultBranch: r.DefaultBranch, Description: r.Description, Private: r.Private, Archived: r.Archived, Updated: r.updated()})
	}
	return page, nil
}

func (g *github) Look(ctx context.Context, token, path string) (Facts, error) {
	at := "/repos/" + escaped(path)
	var r githubRepository
	if _, err := g.get(ctx, token, g.at(at, nil), &r); err != nil {
		return Facts{}, err
	}
	f := Facts{DefaultBranch: r.DefaultBranch, Description: r.Description, Private: r.Private, Updated: r.updated(), Stars: r.Stars}
	if f.Stars == nil {
		f.Stars = r.StarsToo
	}
	if f.Stars == nil {
		f.Stars = new(int)
	}
	languages := map[string]int64{}
	if _, err := g.get(ctx, token, g.at(at+"/languages", nil), &languages); err != nil {
		return Facts{}, err
	}
	var bytes int64
	f.Language, bytes = largest(languages)
	f.Lines = lines(bytes)
	// Empty repositories have neither commits nor a tree, and the provider answers with an error.
	var commits []json.RawMessage
	header, err := g.get(ctx, token, g.at(at+"/commits", url.Values{"sha": {r.DefaultBranch}, "since": {commitsSince().Format(time.RFC3339)},
		"per_page": {"1"}, "limit": {"1"}, "stat": {"false"}, "files": {"false"}, "verification": {"false"}}), &commits)
	if empty(err) {
		return f, nil
	} else if err != nil {
		return Facts{}, err
	}
	if f.Commits = total(header, "X-Total", "X-Total-Count"); f.Commits < 0 {
		f.Commits = len(commits)
	}
	// GitHub sends a whole tree, up to a bound of its own, and has no pages; Gitea sends a thousand entries per page.
	for page := 1; page <= filePages; page++ {
		truncated := 0
		_, err = g.get(ctx, token, g.at(at+"/git/trees/"+url.PathEscape(r.DefaultBranch), url.Values{"recursive": {"1"}, "page": {strconv.Itoa(page)}}),
			countAll(map[*int][]string{&f.Files: {`"type":"blob"`, `"type": "blob"`}, &truncated: {`"truncated":true`}}))
		if err != nil && !empty(err) {
			return Facts{}, err
		}
		if err != nil || truncated == 0 || !strings.HasSuffix(g.base.Path, "/api/v1") {
			break
		}
	}
	return f, nil
}

// empty reports the error of a repository without commits: 409, 404 or, for Gitea's trees, 400.
func empty(err error) bool {
	refusal, ok := errorAs(err)
	return ok && (refusal.Status == http.StatusConflict || refusal.Status == http.StatusNotFound || refusal.Status == http.StatusBadRequest)
}

// Revoke ends one token. The account's consent to the application stays, because another person's connection may depend on it.
func (g *github) Revoke(ctx context.Context, t Token) error {
	body, err := json.Marshal(map[string]string{"access_token": t.Access})
	if err != nil {
		return err
	}
	return g.send(ctx, http.MethodDelete, g.at("/applications/"+url.PathEscape(g.clientID)+"/token", nil), "application/json", body, func(r *http.Request) {
		r.SetBasicAuth(g.clientID, g.clientSecret)
	})
}

// send makes a request whose answer is its status. A token that the provider does not know, or cannot revoke, counts as ended.
func (s *service) send(ctx context.Context, method, address, contentType string, body []byte, prepare func(*http.Request)) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return unavailable(s.provider, errNoAddress)
	}
	request.Header.Set("Accept", s.accept)
	request.Header.Set("Content-Type", contentType)
	prepare(request)
	answer, err := s.client.Do(request)
	if err != nil {
		return unavailable(s.provider, err)
	}
	_ = answer.Body.Close()
	switch status := answer.StatusCode; {
	case status < 300, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusUnprocessableEntity, status == http.StatusBadRequest:
		return nil
	default:
		return fmt.Errorf("give a token back: %w", s.refusal(answer))
	}
}

func escaped(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// largest returns the language with the most bytes, and the sum of all bytes. Among equal languages it takes the first by name.
func largest(languages map[string]int64) (name string, sum int64) {
	most := int64(-1)
	for language, n := range languages {
		sum += n
		if n > most || n == most && language < name {
			name, most = language, n
		}
	}
	return name, sum
}
