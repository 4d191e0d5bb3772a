// Package worktrees tests worktrees and branches over HTTP, and the branches that a run brings.
package worktrees

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/gitfetch/gittest"
)

type branch struct {
	Name       string `json:"name"`
	IsDefault  bool   `json:"isDefault"`
	IsCurrent  bool   `json:"isCurrent"`
	LastCommit string `json:"lastCommit"`
}

type worktree struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	IsActive      bool     `json:"isActive"`
	CurrentBranch string   `json:"currentBranch"`
	Branches      []branch `json:"branches"`
}

func project(p *client.Person, name string) (id, at string) {
	id = p.Do("POST", "/projects", map[string]any{"name": name}).Want(201).String("project.id")
	return id, "/projects/" + id + "/worktrees"
}

func TestNamesOfBranchesStandInThePath(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	_, at := project(anna, "Trees")
	tree := at + "/" + client.JSON[[]worktree](anna.Get(at).Want(200))[0].ID
	old := "main"
	for _, name := range []string{"feature/one", "a b/c d", "50%", "a%2Fb", "ü/ß", "a?b#c&d", "..", "a+b", "quote\"s", "semi;colon", "main"} {
		t.Run(name, func(t *testing.T) {
			anna := anna.In(t)
			w := client.JSON[worktree](anna.Do("PUT", tree+"/branches/"+escape(old), map[string]string{"name": name}).Want(200))
			require.Equal(t, name, w.CurrentBranch)
			require.Equal(t, []branch{{name, true, true, "No commits yet"}}, w.Branches)
			anna.Do("PATCH", tree+"/branches/"+escape(old+"x"), map[string]string{"name": name}).Problem(404, "BRANCH_NOT_FOUND")
			old = name
		})
	}
}

// escape also writes the dots of ".." as escapes, because clients shorten such paths.
func escape(name string) string {
	if name == ".." {
		return "%2E%2E"
	}
	return url.PathEscape(name)
}

func TestOneWorktreeIsActive(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	id, at := project(anna, "Trees")
	var ids []string
	for range 6 {
		ids = append(ids, anna.Do("POST", at, "{}").Want(201).String("id"))
	}
	for _, r := range client.AtOnce(t, 24, func(i int) (client.Response, error) {
		return anna.Try("PUT", at+"/"+ids[i%6], map[string]any{"isActive": true})
	}) {
		require.Equal(t, true, r.Want(200).Value("isActive"))
	}
	active := func() (names []string) {
		for _, w := range client.JSON[[]worktree](anna.Get(at).Want(200)) {
			if w.IsActive {
				names = append(names, w.Name)
			}
		}
		return names
	}
	require.Len(t, active(), 1)
	// Names are given once, and one worktree remains.
	names := map[string]bool{}
	for _, r := range client.AtOnce(t, 12, func(int) (client.Response, error) { return anna.Try("POST", at, "{}") }) {
		names[r.Want(201).String("name")] = true
	}
	require.Len(t, names, 12)
	for _, w := range client.JSON[[]worktree](anna.Get(at).Want(200))[2:] {
		anna.Do("DELETE", at+"/"+w.ID, nil).Want(204)
	}
	last := client.JSON[[]worktree](anna.Get(at).Want(200))
	require.Len(t, last, 2)
	refused := 0
	for _, r := range client.AtOnce(t, 2, func(i int) (client.Response, error) { return anna.Try("DELETE", at+"/"+last[i].ID, nil) }) {
		if r.Status == 409 {
			r.Problem(409, "LAST_WORKTREE")
			refused++
		}
	}
	require.Equal(t, 1, refused)
	require.Len(t, active(), 1)

	all := client.JSON[[]struct {
		ProjectID string     `json:"projectId"`
		Worktrees []worktree `json:"worktrees"`
	}](anna.Get("/worktrees?projectIds=" + id).Want(200))
	require.Len(t, all, 1)
	require.Equal(t, id, all[0].ProjectID)
	require.Len(t, all[0].Worktrees, 1)
	for _, alias := range []string{"/contexts/", "/context/"} {
		require.Equal(t, all[0].Worktrees, client.JSON[[]worktree](anna.Get(alias+id+"/worktrees").Want(200)))
	}
	s.SignUp("Stan").Get("/contexts/"+id+"/worktrees").Problem(404, "CONTEXT_NOT_FOUND")
	anna.Get("/context/none/worktrees").Problem(404, "CONTEXT_NOT_FOUND")
}

func TestAFetchBringsTheBranchesOfTheFirstRepository(t *testing.T) {
	t.Parallel()
	git := gittest.New(t)
	hour := func(n int) gittest.Commit {
		return gittest.Commit{When: time.Now().Add(-time.Duration(n)*time.Hour - time.Minute), Files: gittest.Texts(map[string]string{"a.go": fmt.Sprint("package a // ", n)})}
	}
	git.Create(t, "ada/app", gittest.Branch{Name: "trunk", Commits: []gittest.Commit{hour(5), hour(2)}}, gittest.Branch{Name: "release/1", Commits: []gittest.Commit{hour(3)}},
		gittest.Branch{Name: "old", Commits: []gittest.Commit{hour(24 * 400)}})
	git.Create(t, "ada/other", gittest.Branch{Name: "main", Commits: []gittest.Commit{hour(1)}}, gittest.Branch{Name: "unseen", Commits: []gittest.Commit{hour(1)}})
	s := stack.New(t, func(c *config.Config) { c.GitHub, c.GitAllowPrivate = git.URL, true })
	worker.Start(t, s)
	anna := s.SignUp("Anna")
	id, at := project(anna, "Branches")
	for _, name := range []string{"ada/app", "ada/other"} {
		anna.Do("POST", "/projects/"+id+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/" + name}).Want(201)
	}
	anna.Do("POST", at+"/"+client.JSON[[]worktree](anna.Get(at))[0].ID+"/branches", map[string]string{"name": "by hand"}).Want(201)
	psql, runs := s.DB.Pool("postgres"), 0
	run := func() []branch {
		t.Helper()
		anna.Do("POST", "/projects/"+id+"/ingest", map[string]any{"forceReprocess": true}).Want(202)
		runs++
		stack.Eventually(t, "the run is done", func() bool {
			return stack.Count(t, psql, "select count(*) from public.ingestion_runs where project_id = $1 and outcome = 'completed'", id) == runs
		})
		return client.JSON[[]worktree](anna.Get(at).Want(200))[0].Branches
	}
	require.Equal(t, []branch{{"by hand", false, false, "just now"}, {"trunk", true, true, "2h ago"},
		{"old", false, false, time.Now().Add(-24*400*time.Hour - time.Minute).UTC().Format(time.DateOnly)}, {"release/1", false, false, "3h ago"}}, run())

	git.Delete(t, "ada/app", "old")
	git.Push(t, "ada/app", gittest.Branch{Name: "release/1", Commits: []gittest.Commit{hour(1)}})
	require.Equal(t, []branch{{"by hand", false, false, "just now"}, {"trunk", true, true, "2h ago"}, {"release/1", false, false, "1h ago"}}, run())
}
