// Package dataexports tests the exports of people's data with server and worker together: what is in them and what never is, who opens them,
// and workers that die.
package dataexports

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/pgtap"
	"kijko/tests/stack"
)

// lab is a server with the cast: Anna owns an organization, Ben is a member of it, Stan owns another one. Anna and Stan have rows in every table.
type lab struct {
	*stack.Stack
	anna, ben, stan *client.Person
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	s := stack.New(t, options...)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	for name, p := range map[string]*client.Person{"Aubergine": l.anna, "Benvenuto": l.ben, "Stanislaus": l.stan} {
		l.DB.Exec("update public.users set last_name = $2 where id = $1", p.ID, name)
		l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", p.OrgID)
	}
	l.Join(l.anna, l.ben, "admin")
	return l
}

// furnish makes rows in every table of the person's organization, with the words "secret of <name>" in each text.
func (l *lab) furnish(t *testing.T, p *client.Person, name string) {
	t.Helper()
	seeds, err := pgtap.Seeds()
	require.NoError(t, err)
	conn := l.DB.Connect("postgres")
	for _, script := range []string{pgtap.Prelude, pgtap.Begin(name, "select '"+p.OrgID+"'", "select '"+p.ID+"'"), seeds, pgtap.End} {
		_, err := conn.Exec(t.Context(), script)
		require.NoError(t, err)
	}
}

type export struct {
	ID, Type, Status, RequestedAt, CompletedAt, ExpiresAt, FileURL string
	Categories                                                     []string
	FileSize                                                       int64
}

func ask(p *client.Person, body map[string]any) export {
	return client.JSON[export](p.Do("POST", "/data/export", body).Want(201))
}

// ready waits for the file of an export.
func ready(t *testing.T, p *client.Person, id string) (e export) {
	t.Helper()
	stack.Eventually(t, "the export is ready", func() bool {
		e = client.JSON[export](p.Get("/data/exports/" + id).Want(200))
		require.NotEqual(t, "failed", e.Status)
		return e.Status == "ready"
	})
	return e
}

// link is the path of a fileUrl.
func link(t *testing.T, e export) string {
	t.Helper()
	_, path, found := strings.Cut(e.FileURL, "/api/v1")
	require.True(t, found, e.FileURL)
	return path
}

// archive is a downloaded file, unpacked.
type archive struct {
	files    map[string][]byte
	manifest struct {
		FormatVersion, ExportedAt, UserID string
		Categories                        []string
		Files                             []struct {
			Name, SHA256 string
			Records      int
		}
	}
}

// open downloads the file, unpacks it, and holds it against its manifest.
func (l *lab) open(t *testing.T, e export) *archive {
	t.Helper()
	r := l.As("").Get(link(t, e)).Want(200)
	require.Equal(t, "application/zip", r.Header.Get("Content-Type"))
	require.EqualValues(t, e.FileSize, len(r.Body))
	return unpack(t, r.Body)
}

func unpack(t *testing.T, raw []byte) *archive {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	a := &archive{files: map[string][]byte{}}
	for _, f := range z.File {
		in, err := f.Open()
		require.NoError(t, err)
		a.files[f.Name], err = io.ReadAll(in)
		require.NoError(t, err)
	}
	require.NoError(t, json.Unmarshal(a.files["manifest.json"], &a.manifest))
	require.Len(t, a.manifest.Files, len(a.files)-1, "the manifest lists all other files")
	for _, f := range a.manifest.Files {
		sum := sha256.Sum256(a.files[f.Name])
		require.Equal(t, hex.EncodeToString(sum[:]), f.SHA256, f.Name)
		if strings.HasSuffix(f.Name, ".json") && !strings.Contains(f.Name, "/") {
			records := 0
			for name, table := range a.category(t, f.Name) {
				require.Len(t, table.Records, table.RecordCount, name)
				records += table.RecordCount
			}
			require.Equal(t, records, f.Records, f.Name)
		}
	}
	return a
}

type table struct {
	Label       string
	RecordCount int
	Records     []map[string]any
}

func (a *archive) category(t *testing.T, name string) map[string]table {
	t.Helper()
	var tables map[string]table
	require.NoError(t, json.Unmarshal(a.files[name], &tables), name)
	return tables
}

// text is everything in the archive.
func (a *archive) text() string {
	var all strings.Builder
	for name, content := range a.files {
		all.WriteString(name + "\n" + string(content) + "\n")
	}
	return all.String()
}

// stored are the files of the storage.
func (l *lab) stored(t *testing.T) (names []string) {
	t.Helper()
	root := strings.TrimPrefix(l.Config.Storage(), "file://")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}
