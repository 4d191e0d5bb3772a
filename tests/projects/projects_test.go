package projects

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
)

func TestProjects(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")

	t.Run("TheWizardsSequenceWorks", func(t *testing.T) {
		path := Create(t, anna, "Billing service")
		anna.Do("PUT", path+"/settings", map[string]any{"fileFilters": map[string]bool{"excludeTests": false}}).Want(200)
		anna.Do("POST", path+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "git@github.com:vercel/next.js.git"}).Want(201)
		anna.Do("PUT", path+"/manual-content", map[string]any{"content": "ten letters\nand more"}).Want(200)
		full := anna.Get(path + "/full").Want(200)
		require.Equal(t, "current-user", full.String("owner"))
		require.Equal(t, 2.0, full.Value("sourceCount"))
		require.Len(t, full.Value("repositories"), 1)
		require.Equal(t, false, anna.Get(path+"/settings").Value("fileFilters.excludeTests"))
		require.Equal(t, 2.0, anna.Get(path+"/manual-content").Value("lines"))
		anna.Do("DELETE", path, nil).Want(200)
		anna.Do("DELETE", path, nil).Problem(404, "PROJECT_NOT_FOUND")
	})
	// The client spreads whole objects into these three. The server ignores members that it does not know, as in the other writes.
	t.Run("WholeObjectsOfTheClientAreTaken", func(t *testing.T) {
		id := uuid.NewString()
		created := anna.Do("POST", "/projects", map[string]any{"id": id, "name": "From the dashboard", "icon": map[string]any{"type": "emoji", "value": "🚀"},
			"createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z", "sourceCount": 7, "isShared": true, "owner": "current-user",
			"status": "active", "settings": map[string]any{"outputFormat": "markdown", "step": 3}}).Want(201)
		require.Equal(t, id, created.String("project.id"))
		require.Equal(t, 0.0, created.Value("project.sourceCount"))
		require.Equal(t, "draft", created.String("project.status"))
		form := map[string]any{"name": "A form", "description": "", "privacy": "private", "projectType": "manual", "persona": "sam", "chunkingStrategy": "semantic",
			"includeMetadata": true, "anonymizeSecrets": true, "manualContent": strings.Repeat("a", 40), "repositories": []any{}, "files": []any{}, "members": []any{},
			"metadataOptions": map[string]any{"gitHistory": false}, "outputFormat": "json", "icon": nil, "currentStep": "review"}
		require.Equal(t, 10.0, anna.Do("POST", "/projects/estimate", form).Want(200).Value("totalTokens"))
		require.Equal(t, "json", anna.Do("PUT", "/projects/"+id+"/settings", form).Want(200).Value("outputFormat"))
		require.Equal(t, "From the dashboard", anna.Get("/projects/"+id).Want(200).Value("name"))
		anna.Do("PUT", "/projects/"+id+"/settings", map[string]any{"outputFormat": "xml"}).Problem(400, "VALIDATION_ERROR").Field("outputFormat")
	})
	t.Run("StrangersAndNobodyFindNothing", func(t *testing.T) {
		path := Create(t, anna, "Hidden")
		for _, at := range []string{"", "/full", "/settings", "/manual-content", "/repositories", "/files", "/source-files", "/worktrees"} {
			stan.Get(path+at).Problem(404, "PROJECT_NOT_FOUND")
			s.As("").Get(path+at).Problem(401, "UNAUTHENTICATED")
			anna.Get("/projects/not-a-uuid"+at).Problem(404, "PROJECT_NOT_FOUND")
		}
		stan.Do("PUT", path, map[string]any{"name": "Mine now"}).Problem(404, "PROJECT_NOT_FOUND")
		stan.Do("DELETE", path, nil).Problem(404, "PROJECT_NOT_FOUND")
		require.Zero(t, client.JSON[client.Page[Project]](stan.Get("/projects")).Total)
	})
	t.Run("NamesAreCheckedEverywhereAlike", func(t *testing.T) {
		Create(t, anna, "Taken")
		require.Equal(t, "TAKEN 2", anna.Do("POST", "/projects/validate-name", map[string]any{"name": " TAKEN "}).Want(200).String("suggestion"))
		require.Equal(t, "taken 2", anna.Get("/projects/check-name?name=taken").Want(200).String("suggestion"))
		require.Equal(t, "Taken 2", anna.Do("POST", "/projects", map[string]any{"name": "Taken"}).Problem(409, "PROJECT_NAME_EXISTS").Field("name").String("details.suggestion"))
		anna.Do("POST", "/projects", map[string]any{"name": "x"}).Problem(400, "VALIDATION_ERROR").Field("name")
		stan.Do("POST", "/projects", map[string]any{"name": "Taken"}).Want(201)
	})
	t.Run("OneOfManySimultaneousCreatorsGetsTheName", func(t *testing.T) {
		var wg sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wg.Go(func() {
				r, err := anna.Try("POST", "/projects", map[string]any{"name": "Race"})
				if err == nil {
					statuses[i] = r.Status
				}
			})
		}
		wg.Wait()
		won := 0
		for _, status := range statuses {
			if status == 201 {
				won++
				continue
			}
			require.Equal(t, 409, status)
		}
		require.Equal(t, 1, won)
	})
	t.Run("AStarMovesNothing", func(t *testing.T) {
		path := Create(t, anna, "Starred one")
		before := client.JSON[Project](anna.Get(path))
		after := client.JSON[Project](anna.Do("PATCH", path, map[string]any{"starred": true}).Want(200))
		require.True(t, after.Starred)
		require.Equal(t, before.UpdatedAt, after.UpdatedAt)
		found := client.JSON[client.Page[Project]](anna.Get("/projects?starred=true"))
		require.Equal(t, 1, found.Total)
		require.Equal(t, before.ID, found.Data[0].ID)
	})
	t.Run("PagesAreStableAndBeyondTheEndEmpty", func(t *testing.T) {
		ben := s.SignUp("Ben")
		for i := range 7 {
			Create(t, ben, fmt.Sprintf("Number %d", i))
		}
		seen := map[string]bool{}
		for n := 1; n <= 4; n++ {
			got := client.JSON[client.Page[Project]](ben.Get(fmt.Sprintf("/projects?page=%d&pageSize=3&sort=name", n)).Want(200))
			require.Equal(t, 7, got.Total)
			require.Equal(t, n*3 < 7, got.HasMore)
			for _, p := range got.Data {
				require.False(t, seen[p.ID])
				seen[p.ID] = true
			}
		}
		require.Len(t, seen, 7)
		ben.Get("/projects?pageSize=101").Problem(400, "VALIDATION_ERROR").Field("pageSize")
	})
	t.Run("AWebhookSecretIsShownOnce", func(t *testing.T) {
		path := Create(t, anna, "Custom chunks")
		body := map[string]any{"chunkingStrategy": "custom", "webhookUrl": "https://hooks.example.com/chunks"}
		first := anna.Do("PUT", path+"/settings", body).Want(200)
		require.Regexp(t, `^whsec_[0-9a-f]{64}$`, first.String("webhookSecret"))
		require.Nil(t, anna.Do("PATCH", path+"/settings", body).Want(200).Value("webhookSecret"))
		require.Nil(t, anna.Get(path+"/settings").Want(200).Value("webhookSecret"))
		var sealed string
		require.NoError(t, s.DB.Pool("postgres").QueryRow(t.Context(), "select sealed from private.project_webhook_secrets").Scan(&sealed))
		require.NotContains(t, sealed, "whsec_")
		anna.Do("PUT", path+"/settings", map[string]any{"webhookUrl": "https://169.254.169.254/x"}).Problem(400, "VALIDATION_ERROR").Field("webhookUrl")
	})
	t.Run("AReplayedSecretIsTheSame", func(t *testing.T) {
		keyed := anna.With("Idempotency-Key", "create-custom")
		body := map[string]any{"name": "Custom too", "chunkingStrategy": "custom", "settings": map[string]any{"webhookUrl": "https://hooks.example.com/y"}}
		first := keyed.Do("POST", "/projects", body).Want(201)
		again := keyed.Do("POST", "/projects", body).Want(201)
		require.Equal(t, first.String("webhookSecret"), again.String("webhookSecret"))
		require.Equal(t, first.String("project.id"), again.String("project.id"))
	})
	t.Run("EstimatesNeedNoProject", func(t *testing.T) {
		got := anna.Do("POST", "/projects/estimate", map[string]any{"projectType": "files", "chunkingStrategy": "semantic",
			"files": []any{map[string]any{"size": 4000, "type": "text/plain"}, map[string]any{"size": 6000, "type": "application/json"}}}).Want(200)
		require.Equal(t, 2000.0, got.Value("totalTokens"))
		require.Equal(t, 100.0, got.Value("optimizedTokens"))
	})
}

func TestUploads(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := stack.New(t, func(c *config.Config) { c.StorageURL = "file://" + folder })
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	blobs := func() (n int) {
		require.NoError(t, filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return err
		}))
		return n
	}
	send := func(p *client.Person, parts ...[2]string) client.Response {
		kind, body := Form(t, parts...)
		return p.With("Content-Type", kind).Do("POST", "/files/upload", body)
	}

	t.Run("EveryInputIsInExactlyOneList", func(t *testing.T) {
		path := Create(t, anna, "Uploads")
		before := blobs()
		got := client.JSON[Uploaded](send(anna, [2]string{"=projectId", strings.TrimPrefix(path, "/projects/")},
			[2]string{"a.ts", "let a"}, [2]string{"=paths", "src/a.ts"}, [2]string{"empty.md", ""}, [2]string{"=paths", ""},
			[2]string{"evil", "x"}, [2]string{"=paths", "../../etc/passwd"}, [2]string{"b.json", "{}"}).Want(200))
		require.Len(t, got.Uploaded, 2)
		require.Len(t, got.Errors, 2)
		require.Equal(t, before+2, blobs(), "refused content does not stay")
		files := client.JSON[client.Page[struct{ Path, Checksum string }]](anna.Get(path + "/files"))
		require.Equal(t, 2, files.Total)
		require.Equal(t, "b.json", files.Data[0].Path)
		require.Equal(t, "src/a.ts", files.Data[1].Path)
		tree := client.JSON[[]map[string]any](anna.Get(path + "/source-files"))
		require.Len(t, tree, 3)
		require.Contains(t, tree[0], "parentId")
		require.Nil(t, tree[0]["parentId"])
	})
	t.Run("StagedFilesAreAttachedByTheirOwnerOnly", func(t *testing.T) {
		path := Create(t, anna, "Attached")
		staged := client.JSON[Uploaded](send(anna, [2]string{"s.ts", "let s"}).Want(200)).Uploaded[0].ID
		theirs := "/projects/" + stan.Do("POST", "/projects", map[string]any{"name": "Of Stan"}).String("project.id")
		require.Empty(t, stan.Do("POST", theirs+"/files", map[string]any{"fileIds": []string{staged}}).Want(200).Value("attached"))
		for range 2 {
			require.Len(t, anna.Do("POST", path+"/files", map[string]any{"fileIds": []string{staged}}).Want(200).Value("attached"), 1)
		}
		anna.Do("DELETE", path+"/source-files/"+staged, nil).Want(204)
	})
	t.Run("OneFileTooLargeLeavesTheOthers", func(t *testing.T) {
		before := blobs()
		got := client.JSON[Uploaded](send(anna, [2]string{"big.bin", strings.Repeat("x", 50<<20+1)}, [2]string{"small.txt", "small"}).Want(200))
		require.Len(t, got.Uploaded, 1)
		require.Contains(t, got.Errors[0].Error, "50 MiB")
		require.Equal(t, before+1, blobs())
	})
	t.Run("HiddenProjectsTakeNothing", func(t *testing.T) {
		path := Create(t, anna, "Not for Stan")
		before := blobs()
		send(stan, [2]string{"=projectId", strings.TrimPrefix(path, "/projects/")}, [2]string{"x.ts", "x"}).Problem(404, "PROJECT_NOT_FOUND")
		send(stan, [2]string{"x.ts", "x"}, [2]string{"=projectId", strings.TrimPrefix(path, "/projects/")}).Problem(404, "PROJECT_NOT_FOUND")
		stan.Do("POST", path+"/text-sources", map[string]any{"content": "text"}).Problem(404, "PROJECT_NOT_FOUND")
		require.Equal(t, before, blobs())
	})
	t.Run("JSONIsTakenToo", func(t *testing.T) {
		got := client.JSON[Uploaded](anna.Do("POST", "/files/upload", map[string]any{"files": []any{
			map[string]any{"name": "j.md", "content": "# j"}, map[string]any{"name": "none.md", "content": ""}}}).Want(200))
		require.Len(t, got.Uploaded, 1)
		require.Equal(t, "text/plain; charset=utf-8", got.Uploaded[0].Type)
		require.Equal(t, "The file is empty.", got.Errors[0].Error)
		anna.Do("POST", "/files/upload", `{"files": 7}`).Problem(400, "VALIDATION_ERROR")
		anna.Do("POST", "/files/upload", `{"files": [], "pad": "`+strings.Repeat("x", 10<<20)+`"}`).Problem(413, "PAYLOAD_TOO_LARGE")
	})
	t.Run("ABrokenFormLeavesNothing", func(t *testing.T) {
		kind, body := Form(t, [2]string{"a.ts", "let a"}, [2]string{"b.ts", strings.Repeat("b", 1000)})
		before := blobs()
		anna.With("Content-Type", kind).Do("POST", "/files/upload", append(body[:len(body)-600:len(body)-600], "\r\n"...)).Want(400)
		anna.With("Content-Type", "text/plain").Do("POST", "/files/upload", "x").Problem(400, "VALIDATION_ERROR")
		empty, none := Form(t)
		anna.With("Content-Type", empty).Do("POST", "/files/upload", none).Problem(400, "VALIDATION_ERROR")
		require.Equal(t, before, blobs())
	})
	t.Run("AReplayStoresNothingAgain", func(t *testing.T) {
		kind, body := Form(t, [2]string{"once.ts", "once"})
		keyed := anna.With("Content-Type", kind).With("Idempotency-Key", "upload-once")
		first := keyed.Do("POST", "/files/upload", body).Want(200)
		before := blobs()
		require.JSONEq(t, string(first.Body), string(keyed.Do("POST", "/files/upload", body).Want(200).Body))
		require.Equal(t, before, blobs())
	})
	t.Run("QuotaRefusesTheRequestAndKeepsNothing", func(t *testing.T) {
		_, err := s.DB.Pool("postgres").Exec(context.Background(),
			"insert into public.usage_counters (organization_id, metric, period, used) values ($1, 'storage', '1970-01-01', 1073741824)", stan.OrgID)
		require.NoError(t, err)
		before := blobs()
		send(stan, [2]string{"x.ts", "x"}).Problem(429, "QUOTA_EXCEEDED")
		require.Equal(t, before, blobs())
	})
	t.Run("ATextBecomesASource", func(t *testing.T) {
		path := Create(t, anna, "Texts")
		require.Equal(t, "Plain text", anna.Do("POST", path+"/text-sources", map[string]any{"content": "some text"}).Want(201).String("name"))
		require.Equal(t, "Plain text 2", anna.Do("POST", path+"/text-sources", map[string]any{"content": "more text"}).Want(201).String("name"))
		anna.Do("POST", path+"/text-sources", map[string]any{"content": "  \n"}).Problem(400, "VALIDATION_ERROR").Field("content")
		require.Equal(t, 2.0, anna.Get(path).Value("sourceCount"))
	})
	t.Run("AStoreThatIsAwayIsOurFault", func(t *testing.T) {
		broken := stack.On(t, s.DB, func(c *config.Config) { c.StorageURL = "file://" + filepath.Join(folder, "gone") })
		require.NoError(t, os.RemoveAll(filepath.Join(folder, "gone")))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "gone"), nil, 0o600))
		kind, body := Form(t, [2]string{"x.ts", "x"})
		r := broken.As(anna.Token).With("Content-Type", kind).Do("POST", "/files/upload", body)
		require.Equal(t, http.StatusServiceUnavailable, r.Status)
	})
}
