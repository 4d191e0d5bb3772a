package api

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/gitfetch/gittest"
)

// The start of a run asks the Git host first, so that a wrong branch is a clear refusal and costs no unit of the plan.
func TestStartLooksAtTheHost(t *testing.T) {
	host := gittest.New(t)
	host.Create(t, "ada/app", gittest.On("trunk", gittest.Files{"a.go": gittest.Text("package a\n")}))
	s := stack.New(t, func(c *config.Config) { c.GitHub = host.URL })
	ann := s.SignUp("Ann")
	project := func(name, url, branch string) string {
		id := ann.Do("POST", "/projects", client.Object{"name": name, "type": "repository"}).Want(201).String("project.id")
		ann.Do("POST", "/projects/"+id+"/repositories", client.Object{"provider": "github", "repositoryUrl": url, "branch": branch}).Want(201)
		return "/projects/" + id + "/ingest"
	}

	t.Run("AMissingBranchIsNamed", func(t *testing.T) {
		r := ann.Do("POST", project("Branch", "https://github.com/ada/app", "nowhere"), client.Object{}).Problem(400, "VALIDATION_ERROR")
		require.Equal(t, "repositories[0].branch", r.String("field"))
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from public.usage where organization_id = $1", ann.OrgID))
	})
	t.Run("AMissingRepositoryIsNamed", func(t *testing.T) {
		r := ann.Do("POST", project("Repository", "https://github.com/ada/none", "trunk"), client.Object{}).Problem(400, "VALIDATION_ERROR")
		require.Equal(t, "repositories[0].repositoryUrl", r.String("field"))
	})
	t.Run("MainFallsBackToTheDefault", func(t *testing.T) {
		ann.Do("POST", project("Fallback", "https://github.com/ada/app", "main"), client.Object{}).Want(202)
	})
	t.Run("AHostThatDoesNotAnswerIsNoError", func(t *testing.T) {
		path := project("Away", "https://github.com/ada/app", "trunk")
		host.Set("ada/app", gittest.Mood{Status: 503})
		ann.Do("POST", path, client.Object{}).Want(202)
	})
	t.Run("NobodyIsAskedWithoutValidation", func(t *testing.T) {
		path := project("Skip", "https://github.com/ada/app", "nowhere")
		host.Requests() // discards the earlier requests
		ann.Do("POST", path, client.Object{"skipValidation": true}).Want(202)
		require.Empty(t, host.Requests())
	})
}
