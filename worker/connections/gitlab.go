package connections

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// gitlab is the REST API (v4) of GitLab, gitlab.com or self-managed.
type gitlab struct {
	service
	oauth                  *service
	clientID, clientSecret string
}

func (g *gitlab) Identity(ctx context.Context, token string) (Account, error) {
	var user struct {
		ID        int64  `json:"id"`
		Username  string `json:"username"`
		AvatarURL string `json:"avatar_url"`
	}
	_, err := g.get(ctx, token, g.at("/user", nil), &user)
	if err == nil && user.ID == 0 {
		err = unavailable(g.provider, errNoAccount)
	}
	return Account{strconv.FormatInt(user.ID, 10), user.Username, user.AvatarURL}, err
}

type gitlabProject struct {
	ID                int64  `json:"id"`
	Name              string `json:"path"`
	PathWithNamespace string `json:"path_with_namespace"`
	WebURL            string `json:"web_url"`
	Description       string `json:"description"`
	DefaultBranch     string `json:"default_branch"`
	Visibility        string `json:"visibility"`
	Archived          bool   `json:"archived"`
	Namespace         struct {
		FullPath string `json:"full_path"`
	} `json:"namespace"`
	LastActivityAt time.Time `json:"last_activity_at"`
	Stars          int       `json:"star_count"`
}

func (g *gitlab) Repositories(ctx context.Context, token, search, next string) (Page, error) {
	if next == "" {
		query := url.Values{"membership": {"true"}, "order_by": {"last_activity_at"}, "sort": {"desc"}, "per_page": {"100"}}
		if search != "" {
			query.Set("search", search)
			query.Set("search_namespaces", "true")
		}
		next = g.at("/projects", query)
	}
	var list []gitlabProject
	header, err := g.get(ctx, token, next, &list)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: link(header, "next"), Total: -1}
	if n, err := strconv.Atoi(header.Get("X-Total")); err == nil {
		page.Total = n
	}
	for _, r := range list {
		page.Repositories = append(page.Repositories, Repository{ID: strconv.FormatInt(r.ID, 10), Name: r.Name, FullName: r.PathWithNamespace, URL: r.WebURL,
			Owner: r.Namespace.FullPath, DefaultBranch: r.DefaultBranch, Description: r.Description, Private: r.Visibility != "public", Archived: r.Archived,
			Updated: r.LastActivityAt})
	}
	return page, nil
}

// linesPerFile is for providers that report no bytes per language, as in the estimate of contract 10, 7.4.
const linesPerFile = 200

// filePages bounds how many pages of a provider's tree are read, if the tree comes in pages of 100.
const filePages = 100

func (g *gitlab) Look(ctx context.Context, token, path string) (Facts, error) {
	at := "/projects/" + url.PathEscape(path)
	var r gitlabProject
	if _, err := g.get(ctx, token, g.at(at, nil), &r); err != nil {
		return Facts{}, err
	}
	f := Facts{DefaultBranch: r.DefaultBranch, Description: r.Description, Private: r.Visibility != "public", Updated: r.LastActivityAt, Stars: &r.Stars}
	shares := map[string]float64{}
	if _, err := g.get(ctx, token, g.at(at+"/languages", nil), &shares); err != nil {
		return Facts{}, err
	}
	weights := map[string]int64{}
	for language, share := range shares {
		weights[language] = int64(share * 1000)
	}
	f.Language, _ = largest(weights)
	if r.DefaultBranch == "" {
		return f, nil
	}
	var commits []json.RawMessage
	header, err := g.get(ctx, token, g.at(at+"/repository/commits", url.Values{"ref_name": {r.DefaultBranch}, "since": {commitsSince().Format(time.RFC3339)},
		"per_page": {"100"}}), &commits)
	for pages := 1; err == nil; pages++ {
		f.Commits += len(commits)
		next := link(header, "next")
		if next == "" || pages == filePages {
			break
		}
		commits = nil
		header, err = g.get(ctx, token, next, &commits)
	}
	if empty(err) {
		return f, nil
	} else if err != nil {
		return Facts{}, err
	}
	next := g.at(at+"/repository/tree", url.Values{"ref": {r.DefaultBranch}, "recursive": {"true"}, "per_page": {"100"}, "pagination": {"keyset"}})
	for pages := 0; next != "" && pages < filePages; pages++ {
		header, err := g.get(ctx, token, next, countIn(&f.Files, `"type":"blob"`, `"type": "blob"`))
		if empty(err) {
			break
		} else if err != nil {
			return Facts{}, err
		}
		next = link(header, "next")
	}
	f.Lines = f.Files * linesPerFile
	return f, nil
}

func (g *gitlab) Revoke(ctx context.Context, t Token) error {
	return revokeStandard(ctx, g.oauth, "/oauth/revoke", t, url.Values{"client_id": {g.clientID}, "client_secret": {g.clientSecret}}, func(*http.Request) {})
}

// revokeStandard is RFC 7009. Revoking the refresh token also revokes the access token if the provider links the two.
func revokeStandard(ctx context.Context, s *service, path string, t Token, form url.Values, prepare func(*http.Request)) error {
	for _, token := range []string{t.Refresh, t.Access} {
		if token == "" {
			continue
		}
		form.Set("token", token)
		if err := s.send(ctx, http.MethodPost, s.at(path, nil), "application/x-www-form-urlencoded", []byte(form.Encode()), prepare); err != nil {
			return err
		}
	}
	return nil
}
