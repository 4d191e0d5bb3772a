package sources

import (
	"bytes"
	"mime/multipart"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
)

// lab is a server with a worker and the cast: Anna owns a shared context, Ben is a member of her organization, Stan is a stranger.
type lab struct {
	*stack.Stack
	anna, ben, stan *client.Person
	context         string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s := stack.New(t)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.Join(l.anna, l.ben, "member")
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	return l
}

type source struct {
	ID, Name, Path, FileType string
	Size                     int
	Selected, Compressed     bool
}

type added struct {
	Added, Rejected int
	RejectedFiles   []string
	Sources         []source
	OperationID     string
}

type file struct{ name, content string }

// drop sends files as a browser does.
func (l *lab) drop(t *testing.T, p *client.Person, root string, files []file, header ...string) client.Response {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range files {
		part, err := form.CreateFormFile("files", f.name)
		require.NoError(t, err)
		_, err = part.Write([]byte(f.content))
		require.NoError(t, err)
	}
	require.NoError(t, form.Close())
	c := p.With("Content-Type", form.FormDataContentType())
	for i := 0; i < len(header); i += 2 {
		c = c.With(header[i], header[i+1])
	}
	return c.Do("POST", root+l.context+"/sources", body.Bytes())
}

func (l *lab) sources(p *client.Person) []source {
	return client.JSON[[]source](p.Get("/contexts/" + l.context + "/sources").Want(200))
}

func paths(list []source) (all []string) {
	for _, s := range list {
		all = append(all, s.Path)
	}
	return all
}

func TestDroppedFilesBecomeOneIngestion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	r := l.drop(t, l.anna, "/contexts/", []file{{"src/app.ts", "export const a = 1\n"}, {"tool.exe", "MZ"}, {"README.MD", "# Shop\n"}, {"empty.py", ""}, {"no extension", "x"}})
	got := client.JSON[added](r.Want(201))
	require.Equal(t, 2, got.Added)
	require.Equal(t, 3, got.Rejected)
	slices.Sort(got.RejectedFiles)
	require.Equal(t, []string{"empty.py", "no extension", "tool.exe"}, got.RejectedFiles)
	require.Equal(t, []string{"README.MD", "src/app.ts"}, paths(got.Sources))
	require.Equal(t, got.Sources, l.sources(l.anna), "after the wait they are the context's sources, with the same ids")
	require.Equal(t, "typescript", got.Sources[1].FileType)
	entries := client.JSON[[]map[string]any](l.anna.Get("/contexts/" + l.context + "/ingestions").Want(200))
	require.Len(t, entries, 1)
	require.Equal(t, []any{"file", "ready", false, 2.0, "2 files"}, []any{entries[0]["sourceType"], entries[0]["status"], entries[0]["compressed"], entries[0]["filesAdded"], entries[0]["displayName"]})

	// A path that is there is skipped and counts nowhere; without an accepted file there is no ingestion.
	none := client.JSON[added](l.drop(t, l.anna, "/context/", []file{{"src/app.ts", "changed"}, {"a.zip", "PK"}}).Want(200))
	require.Equal(t, added{Rejected: 1, RejectedFiles: []string{"a.zip"}, Sources: []source{}}, none)
	later := client.JSON[added](l.drop(t, l.anna, "/context/", []file{{"src/new.css", "a { color: red }\n"}}, "Prefer", "respond-async").Want(202))
	require.Equal(t, 1, later.Added)
	require.NotEmpty(t, later.OperationID)
	stack.Eventually(t, "the ingestion", func() bool {
		return l.anna.Get("/contexts/"+l.context+"/operations/"+later.OperationID).Want(200).String("status") == "completed"
	})
	require.Equal(t, []string{"README.MD", "src/app.ts", "src/new.css"}, paths(l.sources(l.ben)))
	require.Len(t, client.JSON[[]any](l.anna.Get("/contexts/"+l.context+"/ingestions")), 2)

	l.drop(t, l.ben, "/contexts/", []file{{"b.ts", "x"}}).Problem(403, "FORBIDDEN")
	l.drop(t, l.stan, "/contexts/", []file{{"b.ts", "x"}}).Problem(404, "CONTEXT_NOT_FOUND")
	l.drop(t, l.anna, "/contexts/", nil).Problem(400, "VALIDATION_ERROR").Field("files")
	l.anna.Do("POST", "/contexts/"+l.context+"/sources", map[string]any{"files": []any{}}).Problem(400, "VALIDATION_ERROR")
	l.anna.With("Content-Type", "multipart/form-data; boundary=x").Do("POST", "/contexts/"+l.context+"/sources", "--x\r\nbroken").Problem(400, "VALIDATION_ERROR")
	many := make([]file, 1001)
	for i := range many {
		many[i] = file{strings.Repeat("a", i%9+1) + ".exe", ""}
	}
	l.drop(t, l.anna, "/contexts/", many).Problem(400, "VALIDATION_ERROR").Field("files")

	// The same request under a key is answered again and adds nothing.
	first := l.drop(t, l.anna, "/contexts/", []file{{"key.ts", "const k = 1\n"}}, "Idempotency-Key", "drop").Want(201)
	again := l.drop(t, l.anna, "/contexts/", []file{{"key.ts", "const k = 1\n"}}, "Idempotency-Key", "drop").Want(201)
	require.Equal(t, client.JSON[added](first), client.JSON[added](again))
	require.Len(t, client.JSON[[]any](l.anna.Get("/contexts/"+l.context+"/ingestions")), 3)
}

func TestAFileStaysTheSameThroughNamesAndDeletion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.drop(t, l.anna, "/contexts/", []file{{"lib/guide.py", "guide = 1\n"}, {"app.ts", "export const a = 1\n"}}).Want(201)
	guide := l.sources(l.anna)[1]
	require.Equal(t, "lib/guide.py", guide.Path)
	for _, root := range []string{"/contexts/", "/context/"} {
		path := root + l.context
		l.ben.Do("PUT", path+"/sources/selection", map[string]any{"selected": true}).Want(200)
		require.Equal(t, false, l.ben.Do("PATCH", path+"/sources/"+guide.ID, map[string]any{"selected": false}).Want(200).Value("selected"))
		require.Equal(t, 5.0, l.ben.Get(path+"/token-usage").Want(200).Value("currentTokens"))
		require.Equal(t, 2.0, l.ben.Do("PUT", path+"/sources/selection", map[string]any{"selected": true}).Want(200).Value("selectedCount"))
		require.Equal(t, 1.0, l.ben.Do("PATCH", path+"/sources/selection", map[string]any{"fileIds": []string{guide.ID}}).Want(200).Value("selectedCount"))
		require.Equal(t, "1", l.ben.Get(path+"/sources?selected=true&limit=1").Want(200).Header.Get("X-Total-Count"))
		require.Equal(t, "true", l.ben.Get(path+"/sources?limit=1").Want(200).Header.Get("X-Has-More"))
		require.Equal(t, true, l.ben.Do("PUT", path+"/sources/"+guide.ID, map[string]any{"selected": true}).Want(200).Value("selected"))
		require.Len(t, client.JSON[[]any](l.ben.Get(path+"/files").Want(200)), 3)
		l.stan.Get(path+"/files").Problem(404, "CONTEXT_NOT_FOUND")
		l.ben.Do("POST", path+"/files/folders", map[string]any{"name": "x"}).Problem(403, "FORBIDDEN")
	}
	require.Equal(t, "manual.py", l.anna.Do("PATCH", "/contexts/"+l.context+"/files/"+guide.ID, map[string]any{"name": "manual.py"}).Want(200).String("name"))
	require.Equal(t, []string{"app.ts", "lib/guide.py"}, paths(l.sources(l.anna)), "the current set has the path of its ingestion")
	l.anna.Do("POST", "/projects/"+l.context+"/ingest", map[string]any{"skipValidation": true, "forceReprocess": true}).Want(202)
	stack.Eventually(t, "the new path", func() bool { return slices.Contains(paths(l.sources(l.anna)), "lib/manual.py") })
	moved := l.sources(l.anna)
	require.Equal(t, []string{"app.ts", "lib/manual.py"}, paths(moved), "once")
	require.Equal(t, guide.ID, moved[1].ID, "the same file")
	require.Equal(t, "guide = 1\n", string(l.ben.Get("/contexts/"+l.context+"/files/"+guide.ID+"/content").Want(200).Body))
	l.anna.Do("DELETE", "/context/"+l.context+"/files/"+guide.ID, nil).Want(204)
	require.Equal(t, []string{"app.ts"}, paths(l.sources(l.anna)))
	l.ben.Get("/contexts/"+l.context+"/files/"+guide.ID+"/content").Problem(404, "FILE_NOT_FOUND")
	require.Equal(t, "[]", string(l.ben.Get("/contexts/"+l.context+"/search?q=manual.py&types=file").Want(200).Body))
	require.Equal(t, "[]", string(l.ben.Get("/contexts/"+l.context+"/chunks/search?q=guide").Want(200).Body))
	back := client.JSON[added](l.drop(t, l.anna, "/contexts/", []file{{"lib/manual.py", "guide = 2\n"}}).Want(201))
	require.Equal(t, guide.ID, back.Sources[0].ID, "an ingestion that has the path brings the file back")
	require.Equal(t, []string{"app.ts", "lib/manual.py"}, paths(l.sources(l.anna)))
}
