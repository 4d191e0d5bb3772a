package exports

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestOriginalsOfAVersionAreFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.anna.Get("/contexts/"+l.context+"/original").Problem(404, "CONTEXT_EMPTY")
	noise := make([]byte, 2_500_001)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	l.version(1)
	l.file(1, "src/a.go", []byte("package a\n"), false)
	l.file(1, "../b.go", []byte("no end of line"), false)
	l.version(2)
	l.file(2, "src/a.go", []byte("package a // again\n"), false)
	l.file(2, "_/b.go", []byte("the same name when it is cleaned"), false)
	l.file(2, "logo.png", noise, true)
	l.file(2, "ünïcode 文.txt", []byte("语"), false)
	for _, root := range []string{"/contexts/", "/context/"} {
		r := l.ben.Get(root + l.context + "/original").Want(200)
		require.Equal(t, "application/zip", r.Header.Get("Content-Type"))
		require.Equal(t, `attachment; filename="shop---co-original.zip"`, r.Header.Get("Content-Disposition"))
		archive, err := zip.NewReader(bytes.NewReader(r.Body), int64(len(r.Body)))
		require.NoError(t, err)
		files := map[string]string{}
		for _, f := range archive.File {
			in, err := f.Open()
			require.NoError(t, err)
			content, err := io.ReadAll(in)
			require.NoError(t, err)
			require.Equal(t, "2026-05-04T03:02:02Z", f.Modified.UTC().Format(time.RFC3339))
			files[f.Name] = string(content)
		}
		require.Equal(t, map[string]string{"src/a.go": "package a // again\n", "_/b.go.1": "no end of line", "_/b.go": "the same name when it is cleaned",
			"logo.png": string(noise), "ünïcode 文.txt": "语"}, files)
	}
	text := l.ben.Get("/contexts/" + l.context + "/original?format=txt&version=1").Want(200)
	require.Equal(t, "application/octet-stream", text.Header.Get("Content-Type"))
	require.Equal(t, "===== ../b.go =====\nno end of line\n\n===== src/a.go =====\npackage a\n", string(text.Body))
	require.NotContains(t, string(l.ben.Get("/contexts/"+l.context+"/original?format=txt").Body), "logo.png", "binary files are only in a zip")
	l.ben.Get("/contexts/"+l.context+"/original?format=tar").Problem(400, "VALIDATION_ERROR").Field("format")
	l.ben.Get("/contexts/"+l.context+"/original?version=x").Problem(400, "VALIDATION_ERROR").Field("version")
	l.ben.Get("/contexts/"+l.context+"/original?version=3").Problem(404, "VERSION_NOT_FOUND")
	l.stan.Get("/contexts/"+l.context+"/original").Problem(404, "CONTEXT_NOT_FOUND")
}

func TestTheTextOfAFileIsReadAndTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.version(1)
	large := []byte(strings.Repeat("línea de texto\n", 200_000))
	id := l.file(1, "docs/large.md", []byte("small once"), false)
	binary := l.file(1, "logo \"é\".png", []byte{0, 1}, true)
	l.version(2)
	l.file(2, "docs/large.md", large, false)
	path := l.context + "/files/" + id + "/content"
	r := l.ben.Get("/contexts/" + path).Want(200)
	require.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"))
	require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	require.True(t, bytes.Equal(large, r.Body), "all of it")
	require.Equal(t, "small once", string(l.ben.Get("/context/"+path+"?version=1").Want(200).Body))
	b := l.ben.Get("/contexts/" + l.context + "/files/" + binary + "/content").Want(200)
	require.Equal(t, "application/octet-stream", b.Header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="logo ___.png"`, b.Header.Get("Content-Disposition"))
	l.ben.Get("/contexts/"+path+"?version=0").Problem(404, "FILE_NOT_FOUND")
	l.ben.Get("/contexts/"+l.context+"/files/x/content").Problem(404, "FILE_NOT_FOUND")
	l.stan.Get("/contexts/"+path).Problem(404, "CONTEXT_NOT_FOUND")
	stack.Eventually(t, "two views", func() bool {
		return len(client.JSON[[]any](l.ben.Get("/contexts/"+l.context+"/activity?type=view"))) == 2
	})
	require.Contains(t, string(l.ben.Get("/contexts/"+l.context+"/search?q=large&types=activity").Want(200).Body), `"title": "viewed docs/large.md"`)
}

func TestALogIsExportedAsItIsShown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec("delete from public.project_activity where project_id = $1", l.context)
	l.DB.Exec(`insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
		select $1, $2, 'view', $3, 'Ben', 'ben@example.org', 'viewed =' || n || E',"\n', now() - n * interval '1 minute' from generate_series(1, 2500) n`, l.anna.OrgID, l.context, l.ben.ID)
	l.DB.Exec(`insert into public.project_activity (organization_id, project_id, type, user_name, user_email, description) values ($1, $2, 'ingestion', 'System', 'system@kijko.ai', '=1+1')`, l.anna.OrgID, l.context)
	day := time.Now().UTC().Format("2006-01-02")
	for _, root := range []string{"/contexts/", "/context/"} {
		asCSV := l.anna.Get(root + l.context + "/activity/export?format=csv").Want(200)
		require.Equal(t, `attachment; filename="activity-log-`+day+`.csv"`, asCSV.Header.Get("Content-Disposition"))
		rows, err := csv.NewReader(bytes.NewReader(asCSV.Body)).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 2502)
		require.Equal(t, "System", rows[1][2])
		require.Equal(t, "'=1+1", rows[1][4], "no formula")
		require.Equal(t, "viewed =1,\"\n", rows[2][4])
		asJSON := l.anna.Get(root + l.context + "/activity/export").Want(200)
		require.Equal(t, "application/json", asJSON.Header.Get("Content-Type"))
		require.Equal(t, 2501.0, asJSON.Value("totalCount"))
		require.Len(t, asJSON.Value("events"), 2501)
		require.Equal(t, client.JSON[[]any](l.anna.Get("/contexts/" + l.context + "/activity?limit=1"))[0], asJSON.Value("events").([]any)[0])
	}
	require.Equal(t, 2500.0, l.ben.Get("/contexts/"+l.context+"/activity/export").Want(200).Value("totalCount"), "Ben exports what he reads")
	l.anna.Get("/contexts/"+l.context+"/activity/export?format=pdf").Problem(400, "VALIDATION_ERROR").Field("format")
	l.stan.Get("/contexts/"+l.context+"/activity/export").Problem(404, "CONTEXT_NOT_FOUND")
}

// raw sends a GET whose body the caller reads.
func (l *lab) raw(t *testing.T, ctx context.Context, path string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.BaseURL+openapi.Prefix+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+l.anna.Token)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	return answer
}

// large fills a version with files of a megabyte that do not compress.
func (l *lab) large(megabytes int) {
	l.version(1)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for n := range megabytes {
		noise[n]++
		l.DB.Exec(`with b as (
				insert into public.content_blobs (organization_id, project_id, hash, content, is_binary) values ($1, $2, sha256($3::bytea), $3, true) returning hash
			)
			insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
			select i.organization_id, i.project_id, i.id, 1, 'f/' || encode(b.hash, 'hex'), 'added', b.hash, 'file'
			from b join public.context_ingestions i on i.project_id = $2 and i.number = 1`, l.anna.OrgID, l.context, noise)
	}
}

func TestADownloadIsWholeOrBrokenOff(t *testing.T) {
	l := newLab(t)
	l.large(48)
	answer := l.raw(t, t.Context(), "/contexts/"+l.context+"/original")
	head := make([]byte, 1<<20)
	_, err := io.ReadFull(answer.Body, head)
	require.NoError(t, err)
	// The last file loses its content while the first ones are on their way.
	l.DB.Exec(`delete from public.content_blobs b where b.project_id = $1
		and b.hash = (select o.hash from public.context_file_ops o where o.project_id = $1 order by o.path collate "C" desc limit 1)`, l.context)
	rest, err := io.ReadAll(answer.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "the client sees that the file is not complete")
	require.Less(t, len(rest), 48<<20)
	require.NoError(t, answer.Body.Close())
}

func TestAClientThatLeavesEndsItsDownload(t *testing.T) {
	l := newLab(t)
	l.large(64)
	ctx, leave := context.WithCancel(t.Context())
	answer := l.raw(t, ctx, "/contexts/"+l.context+"/original")
	_, err := io.ReadFull(answer.Body, make([]byte, 64<<10))
	require.NoError(t, err)
	require.NotZero(t, downloads())
	leave()
	_ = answer.Body.Close()
	stack.Eventually(t, "the end of the work", func() bool { return downloads() == 0 })
}

// downloads counts the goroutines of this process that write originals.
func downloads() int {
	buffer := make([]byte, 4<<20)
	return strings.Count(string(buffer[:runtime.Stack(buffer, true)]), "exports.(*Feature).originals.")
}

// TestADownloadTakesTheSameMemoryHoweverLargeItIs compares the heap of this process, which is the server too, during downloads of 8 and of 48 MB.
func TestADownloadTakesTheSameMemoryHoweverLargeItIs(t *testing.T) {
	peak := func(megabytes int) uint64 {
		l := newLab(t)
		l.large(megabytes)
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		answer := l.raw(t, t.Context(), "/contexts/"+l.context+"/original")
		var most, read atomic.Uint64
		buffer := make([]byte, 256<<10)
		for {
			n, err := answer.Body.Read(buffer)
			if read.Add(uint64(n))%(4<<20) < uint64(n) {
				// What is in use, without what waits for its collection.
				runtime.GC()
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), now.HeapAlloc))
			}
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		require.NoError(t, answer.Body.Close())
		require.Greater(t, read.Load(), uint64(megabytes)<<20)
		return most.Load() - min(before.HeapAlloc, most.Load())
	}
	small, large := peak(8), peak(48)
	t.Logf("peak of the heap above its start: %d KB with 8 MB, %d KB with 48 MB", small>>10, large>>10)
	require.Less(t, large, small+(16<<20), "five times the content")
}

func TestExportsHaveTheContractsNames(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for name, want := range map[string]string{"Shop": "shop", "My Shop 2": "my-shop-2", "Ünï": "-n-", "a/b\\c": "a-b-c"} {
		require.Equal(t, want, testdb.Value[string](db, "select private.slug($1)", name), fmt.Sprintf("%q", name))
	}
}
