package connections

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/testdb"
	"kijko/worker/gitfetch/gittest"
)

// stock gives the provider repositories number 0 to n-1, each changed a day before its predecessor. Every tenth is archived.
func (h *hub) stock(n int) {
	h.do(func() {
		h.repositories = nil
		for i := range n {
			h.repositories = append(h.repositories, map[string]any{"id": i + 1, "name": fmt.Sprintf("repo-%03d", i), "full_name": fmt.Sprintf("anna-hub/repo-%03d", i),
				"html_url": fmt.Sprintf("%s/anna-hub/repo-%03d", h.URL, i), "private": i%2 == 0, "archived": i%10 == 9, "default_branch": "main",
				"owner": map[string]string{"login": "anna-hub"}, "description": fmt.Sprintf("Number %d", i),
				"updated_at": time.Now().AddDate(0, 0, -i).UTC().Format(time.RFC3339)})
		}
	})
}

type batch struct {
	Repositories []struct{ ID, Name, FullName, URL, LastUpdated, UpdatedAt, Owner, DefaultBranch, Description string }
	Total        int
}

func TestAnnaListsWhatHerAccountReads(t *testing.T) {
	t.Parallel()
	h, _, anna, ben, stan := start(t)
	h.stock(120)
	list := func(t *testing.T, p *client.Person, query string) batch {
		t.Helper()
		return client.JSON[batch](p.In(t).Get("/repositories/batch?provider=github" + query).Want(200))
	}
	anna.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	anna.Get("/repositories/batch").Problem(400, "VALIDATION_ERROR").Field("provider")
	anna.Get("/repositories/batch?provider=okta").Problem(400, "VALIDATION_ERROR").Field("provider")
	h.connect(t, anna, "anna-hub")
	ben.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	stan.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")

	all := list(t, anna, "")
	require.Equal(t, 120, all.Total)
	require.Len(t, all.Repositories, 120, "short pages are not the end")
	for i, r := range all.Repositories {
		require.Equal(t, fmt.Sprintf("repo-%03d", i), r.Name, "newest change first")
		require.Equal(t, r.LastUpdated, r.UpdatedAt)
	}
	require.Equal(t, "anna-hub", all.Repositories[0].Owner)
	for name, c := range map[string]struct {
		query        string
		first        string
		count, total int
	}{
		"Search":               {"&search=REPO-01", "repo-010", 10, 10},
		"SearchInDescriptions": {"&search=number+77", "repo-077", 1, 1},
		"WithinDays":           {"&updatedWithinDays=7", "repo-000", 7, 7},
		"WithoutArchived":      {"&includeArchived=false", "repo-000", 108, 108},
		"APage":                {"&page=2&pageSize=50", "repo-050", 50, 120},
		"TheLastPage":          {"&page=3&pageSize=50", "repo-100", 20, 120},
		"APageOfTheUsualSize":  {"&page=1", "repo-000", 50, 120},
		"BeyondTheEnd":         {"&page=9&pageSize=100", "", 0, 120},
		"APageOfASearch":       {"&search=repo-1&page=2&pageSize=15", "repo-115", 5, 20},
	} {
		t.Run(name, func(t *testing.T) {
			got := list(t, anna, c.query)
			require.Len(t, got.Repositories, c.count)
			require.Equal(t, c.total, got.Total)
			if c.count > 0 {
				require.Equal(t, c.first, got.Repositories[0].Name)
			}
		})
	}
	t.Run("AThousandAtMost", func(t *testing.T) {
		h.stock(1200)
		require.Len(t, list(t, anna, "").Repositories, 1000)
		h.stock(0)
		require.Empty(t, list(t, anna, "").Repositories)
	})
	t.Run("AnAnswerThatLeadsElsewhereIsNotFollowed", func(t *testing.T) {
		seen := make(chan string, 10)
		h.fail(t, "/api/v3/user/repos", func(w http.ResponseWriter, r *http.Request) {
			seen <- r.Host
			w.Header().Set("Link", `<http://localhost:1/steal>; rel="next"`)
			answer(w, 200, []any{})
		})
		anna.In(t).Get("/repositories/batch?provider=github").Problem(502, "PROVIDER_ERROR")
		require.Len(t, seen, 1)
	})
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		code   string
		wait   string
	}{
		"Down": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 503, map[string]any{}) }, 502, "PROVIDER_ERROR", ""},
		"APage": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		},
			502, "PROVIDER_ERROR", ""},
		"Nonsense":  {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "x") }, 502, "PROVIDER_ERROR", ""},
		"Forbidden": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 403, map[string]any{}) }, 403, "NOT_AUTHENTICATED", ""},
		"Limited": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "30")
			answer(w, 429, map[string]any{})
		}, 429, "RATE_LIMITED", "30"},
	} {
		t.Run("TheProviderIs"+name, func(t *testing.T) {
			h.fail(t, "/api/v3/user/repos", c.answer)
			r := anna.In(t).Get("/repositories/batch?provider=github").Problem(c.status, c.code)
			require.Equal(t, c.wait, r.Header.Get("Retry-After"))
			require.Equal(t, "github", r.String("details.provider"))
			require.Equal(t, true, client.JSON[[]map[string]any](anna.In(t).Get("/oauth/connections"))[0]["connected"], "that ends no connection")
		})
	}
}

func TestATokenThatTheProviderTookBack(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	h.connect(t, anna, "anna-hub")
	h.do(func() { clear(h.access) })
	anna.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	list := client.JSON[[]map[string]any](anna.Get("/oauth/connections"))
	require.Equal(t, false, list[0]["connected"])
	require.Equal(t, "anna-hub", list[0]["username"])
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.notifications where user_id = $1 and title = 'The connection to GitHub has ended'", anna.ID))
	asked := h.count("GET /api/v3/user/repos")
	anna.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	require.Equal(t, asked, h.count("GET /api/v3/user/repos"), "a dead token is not tried again")
	require.Equal(t, true, h.connect(t, anna, "anna-hub").Value("connected"))
	h.stock(1)
	anna.Get("/repositories/batch?provider=github").Want(200)
}

func TestARepositoryIsChecked(t *testing.T) {
	t.Parallel()
	h, s, anna, ben, _ := start(t)
	h.do(func() { h.private["ada/open"], h.private["ada/secret"] = false, true })
	check := func(t *testing.T, p *client.Person, url string) client.Response {
		t.Helper()
		return p.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": url}).Want(200)
	}
	says := func(t *testing.T, r client.Response, part string, private bool) {
		t.Helper()
		require.Equal(t, false, r.Value("valid"))
		require.Nil(t, r.Value("info"))
		require.Contains(t, r.String("error"), part)
		require.Equal(t, private, strings.Contains(strings.ToLower(r.String("error")), "private"), r.String("error"))
	}
	says(t, check(t, anna, ""), "required", false)
	says(t, check(t, anna, "https://private.example/a/b"), "Invalid", false)
	says(t, check(t, anna, "https://github.com/ada/missing"), "Authenticate", true)
	says(t, check(t, anna, "https://github.com/ada/secret"), "Authenticate", true)
	open := check(t, anna, "git@github.com:ada/open.git")
	require.Equal(t, true, open.Value("valid"))
	for name, want := range map[string]any{"name": "open", "fullName": "ada/open", "provider": "github", "url": "https://github.com/ada/open", "defaultBranch": "main",
		"commitsPerMonth": 17.0, "fileCount": 2.0, "locEstimate": 1001.0, "primaryLanguage": "SQL", "lastUpdated": "2026-11-01T10:00:00.000Z", "isPrivate": false,
		"stars": 42.0, "description": "A repository"} {
		require.Equal(t, want, open.Value("info."+name), name)
	}
	t.Run("WhatIsKnownIsNotAskedAgain", func(t *testing.T) {
		asked := h.count("GET /api/v3/repos/ada/open")
		require.JSONEq(t, string(open.Body), string(check(t, anna, "https://github.com/ada/open").Body))
		require.Equal(t, asked, h.count("GET /api/v3/repos/ada/open"))
		check(t, ben, "https://github.com/ada/open")
		require.Equal(t, asked+1, h.count("GET /api/v3/repos/ada/open"), "each person asks for themselves")
		s.DB.Exec("update private.repository_checks set checked_at = now() - interval '11 minutes'")
		check(t, anna, "https://github.com/ada/open")
		require.Equal(t, asked+2, h.count("GET /api/v3/repos/ada/open"))
	})
	t.Run("AnEstimateUsesIt", func(t *testing.T) {
		tokens := func(p *client.Person, repository map[string]any) any {
			return p.In(t).Do("POST", "/projects/estimate", map[string]any{"projectType": "repository", "chunkingStrategy": "semantic",
				"repositories": []any{repository}}).Want(200).Value("totalTokens")
		}
		require.Equal(t, 4004.0, tokens(anna, map[string]any{"url": "https://github.com/ada/open"}))
		require.Equal(t, 40.0, tokens(anna, map[string]any{"url": "https://github.com/ada/open", "locEstimate": 10}))
		require.Equal(t, 50000.0, tokens(anna, map[string]any{"url": "https://github.com/ada/other"}))
	})
	h.connect(t, anna, "anna-hub")
	t.Run("TheConnectionOpensIt", func(t *testing.T) {
		require.Equal(t, true, check(t, anna, "https://github.com/ada/secret").Value("info.isPrivate"))
		says(t, check(t, ben, "https://github.com/ada/secret"), "Authenticate", true)
		says(t, check(t, anna, "https://github.com/ada/missing"), "not found or is not accessible", false)
		require.NoError(t, nil)
	})
	t.Run("TheProviderIsAway", func(t *testing.T) {
		h.fail(t, "/api/v3/repos", func(w http.ResponseWriter, _ *http.Request) { answer(w, 500, map[string]any{}) })
		says(t, check(t, anna, "https://github.com/ada/third"), "could not be checked", false)
		says(t, check(t, ben, "https://github.com/ada/third"), "could not be checked", false)
		h.fail(t, "/api/v3/repos", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "9"); answer(w, 403, nil) })
		says(t, check(t, ben, "https://github.com/ada/third"), "could not be checked", false)
	})
	t.Run("TheConnectionHasEnded", func(t *testing.T) {
		h.do(func() { clear(h.access); h.instead = nil })
		s.DB.Exec("delete from private.repository_checks")
		says(t, check(t, anna, "https://github.com/ada/secret"), "Authenticate", true)
		require.Equal(t, true, check(t, anna, "https://github.com/ada/open").Value("valid"))
		require.Equal(t, false, client.JSON[[]map[string]any](anna.In(t).Get("/oauth/connections"))[0]["connected"])
	})
	t.Run("ThirtyAMinute", func(t *testing.T) {
		limited := 0
		for range 31 {
			if ben.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": "x"}).Status == 429 {
				limited++
			}
		}
		require.Positive(t, limited)
	})
}

func TestBranchesAreListed(t *testing.T) {
	t.Parallel()
	h, _, anna, ben, _ := start(t)
	files := gittest.Texts(map[string]string{"a.go": "package a\n"})
	h.Git.Create(t, "ada/open", gittest.On("trunk", files), gittest.On("zeta", files), gittest.On("alpha", files))
	h.Git.Create(t, "ada/secret", gittest.On("main", files))
	h.do(func() { h.private["ada/secret"] = true })
	h.Git.Set("ada/secret", gittest.Mood{User: "x-access-token", Password: "not yet"})
	at := func(name string) string { return "/repositories/branches?url=https://github.com/" + name }
	anna.Get(at("ada/open")).Want(200).Equal(map[string]any{"branches": []string{"trunk", "alpha", "zeta"}, "defaultBranch": "trunk"})
	anna.Get("/repositories/branches").Problem(400, "VALIDATION_ERROR").Field("url")
	anna.Get("/repositories/branches?url=https://example.org/a/b").Problem(400, "VALIDATION_ERROR").Field("url")
	anna.Get(at("ada/secret")).Problem(403, "NOT_AUTHENTICATED")
	h.connect(t, anna, "anna-hub")
	anna.Get(at("ada/secret")).Want(200).Equal(map[string]any{"branches": []string{"main"}, "defaultBranch": "main"})
	ben.Get(at("ada/secret")).Problem(403, "NOT_AUTHENTICATED")
	anna.Get(at("ada/missing")).Problem(404, "REPOSITORY_NOT_FOUND").Field("url")
	h.Git.Set("ada/slow", gittest.Mood{Status: 429, Header: http.Header{"Retry-After": {"12"}}})
	require.Equal(t, "12", anna.Get(at("ada/slow")).Problem(429, "RATE_LIMITED").Header.Get("Retry-After"))
	h.Git.Set("ada/down", gittest.Mood{Status: 503})
	anna.Get(at("ada/down")).Problem(502, "PROVIDER_ERROR")
	// The provider revoked the token.
	h.do(func() { clear(h.access) })
	h.Git.Set("ada/secret", gittest.Mood{User: "x-access-token", Password: "another"})
	anna.Get(at("ada/secret")).Problem(403, "NOT_AUTHENTICATED")
	require.Equal(t, false, client.JSON[[]map[string]any](anna.Get("/oauth/connections"))[0]["connected"])
}
