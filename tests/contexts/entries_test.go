package contexts

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
)

type entry struct {
	ID, Status, DisplayName, SourceType, OperationID, ErrorMessage string
	Number, FilesAdded, FilesModified, FilesRemoved, Tokens        int
	Tags                                                           []string
}

func TestARequestWaitsForTheEndOfItsRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	t.Run("an entry is answered when its run has ended", func(t *testing.T) {
		answer := make(chan client.Response, 1)
		go func() { answer <- l.anna.In(t).Do("POST", l.path+"/ingestions", text("Waits", "one\n")) }()
		stack.Eventually(t, "the run has begun", func() bool {
			return stack.Count(t, l.psql, "select count(*) from public.ingestion_runs where project_id = $1 and outcome = 'open'", l.context) == 1
		})
		l.finish(t, files{"a.md": "one\n"})
		got := client.JSON[entry]((<-answer).Want(201))
		require.Equal(t, []any{1, "ready", 1, ""}, []any{got.Number, got.Status, got.FilesAdded, got.OperationID})
	})
	t.Run("a failed run is an entry that says so", func(t *testing.T) {
		answer := make(chan client.Response, 1)
		go func() {
			answer <- l.anna.In(t).Do("POST", l.path+"/ingest", client.Object{"config": config("Gone"), "sourceType": "repo", "repoUrl": "https://github.com/a/b"})
		}()
		stack.Eventually(t, "the run has begun", func() bool {
			return stack.Count(t, l.psql, "select count(*) from public.ingestion_runs where project_id = $1 and outcome = 'open'", l.context) == 1
		})
		l.DB.Exec("select private.write_failure(id, 'REPO_FETCH_FAILED', 'No such host.') from public.ingestion_runs where outcome = 'open'")
		got := client.JSON[entry]((<-answer).Want(201))
		require.Equal(t, []string{"failed", "REPO_FETCH_FAILED: No such host.", "repo"}, []string{got.Status, got.ErrorMessage, got.SourceType})
	})
	t.Run("a client that does not wait gets 202 and an operation to read", func(t *testing.T) {
		for _, prefer := range []string{"respond-async", "wait=0", "wait=1"} {
			r := l.anna.In(t).With("Prefer", prefer).Do("POST", l.path+"/ingestions", text("Later", prefer)).Want(202)
			require.Equal(t, prefer, r.Header.Get("Preference-Applied"))
			got := client.JSON[entry](r)
			require.Equal(t, "processing", got.Status)
			require.Equal(t, "running", l.anna.In(t).Get(l.path+"/operations/"+got.OperationID).Want(200).String("status"))
			l.finish(t, files{"b.md": prefer})
			require.Equal(t, "completed", l.anna.In(t).Get(l.path+"/operations/"+got.OperationID).Want(200).String("status"))
		}
	})
	t.Run("the same request twice is one entry", func(t *testing.T) {
		once := l.async(l.anna.In(t)).With("Idempotency-Key", "one-entry")
		first := client.JSON[entry](once.Do("POST", l.path+"/ingestions", text("Once", "only once")).Want(202))
		require.Equal(t, first.Number, client.JSON[entry](once.Do("POST", l.path+"/ingestions", text("Once", "only once")).Want(202)).Number)
		require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from public.project_files where project_id = $1 and name like 'Plain text%' and size = 9", l.context))
		l.finish(t, files{})
	})
}

func TestContentComesInThreeForms(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	anna := l.async(l.anna.In(t))
	t.Run("files come as a form, with their folders", func(t *testing.T) {
		kind, body := projects.Form(t, [2]string{"=config", `{"fileId": "file-1", "fileName": "x", "displayName": "Two files", "processingMode": "none",
			"codebase": {"type": "existing", "name": ""}}`}, [2]string{"docs/a.md", "a"}, [2]string{"b.md", "b"}, [2]string{"../c.md", "c"}, [2]string{"empty.md", ""})
		got := client.JSON[entry](anna.In(t).With("Content-Type", kind).Do("POST", l.path+"/ingestions", body).Want(202))
		require.Equal(t, []any{"Two files", "file"}, []any{got.DisplayName, got.SourceType})
		require.Equal(t, 2, stack.Count(t, l.psql, "select count(*) from public.project_files where project_id = $1 and path in ('docs/a.md', 'b.md')", l.context), "what an upload refuses is left out")
		l.finish(t, files{"docs/a.md": "a", "b.md": "b"})
	})
	t.Run("a form without a good file is refused", func(t *testing.T) {
		good := `{"fileId": "file-1", "fileName": "x", "displayName": "None", "processingMode": "none", "codebase": {"type": "existing", "name": ""}}`
		for name, c := range map[string]struct {
			parts [][2]string
			field string
		}{
			"only an empty file":                {[][2]string{{"=config", good}, {"a.md", ""}}, "files"},
			"no file at all":                    {[][2]string{{"=config", good}}, "files"},
			"no configuration":                  {[][2]string{{"a.md", "a"}}, "config"},
			"a configuration that is no object": {[][2]string{{"=config", "[]"}, {"a.md", "a"}}, "config"},
			"a configuration without a name":    {[][2]string{{"=config", strings.Replace(good, "None", " ", 1)}, {"a.md", "a"}}, "displayName"},
		} {
			kind, body := projects.Form(t, c.parts...)
			anna.In(t).With("Content-Type", kind).Do("POST", l.path+"/ingestions", body).Problem(400, "VALIDATION_ERROR").Field(c.field)
			_ = name
		}
	})
	t.Run("a text is stored under texts", func(t *testing.T) {
		body := text("A text", "some words")
		body["title"] = "Minutes"
		require.Equal(t, "text", client.JSON[entry](anna.In(t).Do("POST", l.path+"/ingestions", body).Want(202)).SourceType)
		require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from public.project_files where project_id = $1 and path = 'texts/Minutes'", l.context))
		l.finish(t, files{"texts/Minutes": "some words"})
		for field, change := range map[string]client.Object{"content": {"content": " \n"}, "title": {"title": strings.Repeat("x", 256)}} {
			body := text("A text", "words")
			for k, v := range change {
				body[k] = v
			}
			anna.In(t).Do("POST", l.path+"/ingestions", body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		anna.In(t).Do("POST", l.path+"/ingestions", text("Long", strings.Repeat("x", 500_001))).Problem(400, "VALIDATION_ERROR").Field("content")
		anna.In(t).Do("POST", l.path+"/ingestions", strings.Repeat(" ", 5<<20)).Problem(413, "PAYLOAD_TOO_LARGE")
	})
	t.Run("a stored file is named", func(t *testing.T) {
		kind, body := projects.Form(t, [2]string{"=projectId", l.context}, [2]string{"stored.md", "stored"})
		file := client.JSON[projects.Uploaded](l.anna.In(t).With("Content-Type", kind).Do("POST", "/files/upload", body).Want(200)).Uploaded[0].ID
		named := config("Stored")
		named["fileId"] = file
		require.Equal(t, "file", client.JSON[entry](anna.In(t).Do("POST", l.path+"/ingestions", named).Want(202)).SourceType)
		l.finish(t, files{"stored.md": "stored"})
	})
	t.Run("numbers alone are a declared entry, which may get its content later", func(t *testing.T) {
		number := fmt.Sprint(l.anna.In(t).Do("POST", "/context/"+l.context+"/ingest", client.Object{"filesAdded": 2, "tokens": 10, "displayName": "Modal"}).Want(201).Value("number"))
		kind, body := projects.Form(t, [2]string{"late.md", "late"})
		got := client.JSON[entry](anna.In(t).With("Content-Type", kind).Do("POST", l.path+"/ingestions/"+number+"/content", body).Want(202))
		require.Equal(t, "processing", got.Status)
		l.finish(t, files{"late.md": "late"})
		got = client.JSON[entry](l.anna.In(t).Get(l.path + "/ingestions/" + number).Want(200))
		require.Equal(t, []any{"ready", 1, 1}, []any{got.Status, got.FilesAdded, got.Tokens})
		anna.In(t).Do("POST", l.path+"/ingestions/"+number+"/content", client.Object{"sourceType": "text", "content": "x"}).Problem(409, "CONTENT_ALREADY_ATTACHED")
	})
}

func TestANewContextComesFromTheStore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	body := text("Minutes of the meeting", "words")
	got := l.anna.In(t).Do("POST", "/contexts", body).Want(201)
	require.Equal(t, []string{"Minutes of the meeting", "pending", "file", "0 B"}, []string{got.String("name"), got.String("status"), got.String("type"), got.String("size")})
	require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from public.context_ingestions where project_id = $1 and number = 1", got.String("id")))
	body["config"].(client.Object)["codebase"] = client.Object{"type": "existing", "name": "", "id": l.context}
	require.Equal(t, l.context, l.anna.In(t).Do("POST", "/context", body).Want(201).String("id"), "or it is one that is there")
	kind, form := projects.Form(t, [2]string{"=config", `{"fileId": "00000000-0000-4000-8000-0000000000d7", "fileName": "x", "displayName": "From a form", "processingMode": "none",
		"codebase": {"type": "new", "name": " "}}`}, [2]string{"a.md", "a"})
	require.Equal(t, "00000000-0000-4000-8000-0000000000d7", l.anna.In(t).With("Content-Type", kind).Do("POST", "/contexts", form).Want(201).String("id"), "with the client's id")
	list := l.anna.In(t).Get("/contexts?view=store&search=meeting").Want(200)
	require.Equal(t, "1", list.Header.Get("X-Total-Count"))
	stan := l.SignUp("Stan")
	stan.In(t).Do("POST", "/contexts", body).Problem(404, "CONTEXT_NOT_FOUND")
	require.Empty(t, client.JSON[[]any](stan.In(t).Get("/contexts").Want(200)))
}

func TestEntriesOfManyAtOnceRunOneAfterAnother(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dev := l.member("Dev", "developer")
	answers := client.AtOnce(t, 3, func(i int) (client.Response, error) {
		switch i {
		case 0:
			return l.async(l.anna.Client).Try("POST", l.path+"/ingestions", text("Anna's", "a"))
		case 1:
			return l.async(dev.Client).Try("POST", l.path+"/ingestions", text("Dev's", "b"))
		}
		// As a push does, past the API.
		_, err := l.psql.Exec(t.Context(), `select private.add_ingestion($1, '{"displayName": "A push", "sourceType": "repo"}', null)`, l.context)
		return client.Response{Status: http.StatusAccepted}, err
	})
	for _, r := range answers {
		require.Equal(t, http.StatusAccepted, r.Status)
	}
	for n := 1; n <= 3; n++ {
		require.Equal(t, n, stack.Count(t, l.psql, `select e.number from public.ingestion_runs r join public.context_ingestions e on e.run_id = r.id
			where r.project_id = $1 and r.outcome = 'open'`, l.context), "in the order of the numbers, one at a time")
		l.finish(t, files{"f.md": strings.Repeat("x", n)})
	}
	require.Equal(t, 3, stack.Count(t, l.psql, "select count(*) from public.context_ingestions where project_id = $1 and status = 'ready'", l.context), "none is lost")
}

func TestAQuotaIsExactForManyAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec(`update public.subscriptions set overrides = '{"ingestions": 2}' where organization_id = $1`, l.anna.OrgID)
	answers := client.AtOnce(t, 50, func(int) (client.Response, error) {
		return l.anna.Try("POST", l.path+"/ingestions", client.Object{"filesAdded": 1})
	})
	accepted := slices.DeleteFunc(answers, func(r client.Response) bool {
		if r.Status != http.StatusCreated {
			r.Problem(429, "QUOTA_EXCEEDED")
			return true
		}
		return false
	})
	require.Len(t, accepted, 2)
	require.Equal(t, 2, stack.Count(t, l.psql, "select count(*) from public.context_ingestions where project_id = $1", l.context))
	require.Equal(t, 2, stack.Count(t, l.psql, "select last_number from private.context_counters where project_id = $1", l.context), "a refused one takes no number")
}

func TestTheRoomHearsOfEntries(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ben := l.member("Ben", "viewer")
	s := l.subscribe(t, ben.Client)
	var hello any
	s.expect("hello", &hello)
	l.async(l.anna.In(t)).Do("POST", l.path+"/ingestions", text("Told", "a")).Want(202)
	var added struct {
		ContextID string
		Entry     entry
		Metrics   struct{ TotalIngestions int }
	}
	s.expect("ingestion:added", &added)
	require.Equal(t, []any{l.context, 1, "processing", 1}, []any{added.ContextID, added.Entry.Number, added.Entry.Status, added.Metrics.TotalIngestions})
	l.finish(t, files{"a.md": "a"})
	var complete struct {
		Success bool
		Entry   struct {
			Type       string
			Number     int
			AddedFiles []string
			FilesAdded int
			Author     struct{ Name, Role string }
		}
	}
	s.expect("ingestion:complete", &complete)
	require.Equal(t, []any{true, "ingestion", 1, []string{"a.md"}, 1, "Anna Test", "owner"}, []any{complete.Success, complete.Entry.Type, complete.Entry.Number,
		complete.Entry.AddedFiles, complete.Entry.FilesAdded, complete.Entry.Author.Name, complete.Entry.Author.Role})
	l.anna.In(t).Do("PATCH", l.path+"/ingestions/1", client.Object{"displayName": "Renamed"}).Want(200)
	var updated struct {
		IngestionNumber int
		Field           string
		Value           any
	}
	for updated.Field != "displayName" {
		s.expect("ingestion:updated", &updated)
	}
	require.Equal(t, []any{1, "Renamed"}, []any{updated.IngestionNumber, updated.Value})
	l.anna.In(t).Do("PUT", l.path+"/ingestions/1/tags", client.Object{"tags": []string{"a"}}).Want(200)
	s.expect("ingestion:updated", &updated)
	require.Equal(t, []any{"tags", []any{"a"}}, []any{updated.Field, updated.Value})
	l.anna.In(t).Do("DELETE", l.path+"/ingestions/1", nil).Want(204)
	var deleted struct {
		IngestionNumber int
		Metrics         struct{ TotalIngestions, OriginalTokens int }
	}
	s.expect("ingestion:deleted", &deleted)
	require.Equal(t, []int{1, 0, 0}, []int{deleted.IngestionNumber, deleted.Metrics.TotalIngestions, deleted.Metrics.OriginalTokens})
	all := l.subscribe(t, l.anna.Client)
	all.expect("hello", &hello)
	l.anna.In(t).Do("PATCH", l.path, client.Object{"name": "Papers"}).Want(200)
	var activity struct{ Type, Description string }
	all.expect("activity:new", &activity)
}
