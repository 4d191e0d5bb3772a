package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
	"kijko/worker/ingestion/source"
)

// storage is an in-memory storage that counts its open readers.
type storage struct {
	files map[string][]byte
	open  int
}

func (s *storage) Open(_ context.Context, key string) (io.ReadCloser, error) {
	data, ok := s.files[key]
	if !ok {
		return nil, os.ErrNotExist
	}
	s.open++
	return &openFile{bytes.NewReader(data), s}, nil
}

type openFile struct {
	io.Reader
	s *storage
}

func (f *openFile) Close() error { f.s.open--; return nil }

func TestStored(t *testing.T) {
	setup := func(t *testing.T) (*storage, []source.Stored, string) {
		t.Helper()
		s := &storage{files: map[string][]byte{
			"k!1": []byte("package a\n"),
			"k2":  zipped(t, item{name: "src/a.go", data: "package z\n"}, item{name: "img.png", data: "\x89PNG\x00"}),
			"k3":  gzipped(t, tarred(t, item{name: "b.py", data: "pass\n"})),
		}}
		files := []source.Stored{{Path: "b/a.go", Key: "k!1"}, {Path: "code.zip", Key: "k2"}, {Path: "a/t.tgz", Key: "k3"}}
		for i := range files {
			files[i].Size = int64(len(s.files[files[i].Key]))
		}
		temp := t.TempDir()
		t.Cleanup(func() {
			require.Zero(t, s.open, "every stored file is closed")
			left, err := filepath.Glob(filepath.Join(temp, "*"))
			require.NoError(t, err)
			require.Empty(t, left, "nothing stays spooled")
		})
		return s, files, temp
	}
	t.Run("ArchivesAreReplacedByTheirFiles", func(t *testing.T) {
		s, files, temp := setup(t)
		got, err := contents(t, source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{}))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"b/a.go": "package a\n", "code.zip/src/a.go": "package z\n", "code.zip/img.png": "\x89PNG\x00", "a/t.tgz/b.py": "pass\n"}, got)
	})
	t.Run("TypedTextIsNotExpanded", func(t *testing.T) {
		s, _, temp := setup(t)
		s.files["k4"] = []byte("text")
		got, err := contents(t, source.FromStored(source.Text, []source.Stored{{Path: "texts/a.zip", Key: "k4", Size: 4}}, s.Open, temp, source.ArchiveLimits{}))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"texts/a.zip": "text"}, got)
	})
	t.Run("SomeOfThemInALaterProcess", func(t *testing.T) {
		s, files, temp := setup(t)
		entries, err := source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{}).List(t.Context())
		require.NoError(t, err)
		var got []source.Entry
		later := source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{})
		require.NoError(t, later.Read(t.Context(), entries[:2], func(e source.Entry, _ io.Reader) error { got = append(got, e); return nil }))
		require.ElementsMatch(t, entries[:2], got)
	})
	t.Run("DiscoveryKeepsWhatIsText", func(t *testing.T) {
		s, files, temp := setup(t)
		filter, err := source.NewFilter(source.Rules{Kind: source.Upload, ExcludePatterns: []string{"*.py"}})
		require.NoError(t, err)
		var seen []int
		d, err := source.Discover(t.Context(), source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{}), filter, func(done, total int) { seen = append(seen, done, total) })
		require.NoError(t, err)
		require.Equal(t, []string{"b/a.go", "code.zip/src/a.go"}, []string{d.Files[0].Path, d.Files[1].Path})
		require.Len(t, d.Files, 2)
		require.Equal(t, int64(20), d.Bytes)
		require.Equal(t, map[source.Reason]int{source.Binary: 1, source.ExcludedPattern: 1}, d.Excluded)
		require.Equal(t, []int{1, 3, 2, 3, 3, 3}, seen)
	})
	t.Run("CorruptArchiveIsTheUsersFault", func(t *testing.T) {
		s, files, temp := setup(t)
		s.files["k2"] = bytes.Repeat([]byte("x"), len(s.files["k2"]))
		_, err := source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{}).List(t.Context())
		invalid(t, err, `The archive "code.zip" is corrupt.`)
	})
	t.Run("FaultsOfStorageAreNotTheUsers", func(t *testing.T) {
		s, files, temp := setup(t)
		src := source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{})
		entries, err := src.List(t.Context())
		require.NoError(t, err)
		s.files["k2"] = s.files["k2"][:9]
		_, err = src.List(t.Context())
		require.ErrorContains(t, err, "spool code.zip: has 9 bytes")
		delete(s.files, "k2")
		delete(s.files, "k!1")
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Path, ".py") {
				require.ErrorIs(t, src.Read(t.Context(), []source.Entry{entry}, nil), os.ErrNotExist)
			}
		}
		_, err = src.List(t.Context())
		require.ErrorIs(t, err, os.ErrNotExist)
		_, ok := gitfetch.AsFailure(err)
		require.False(t, ok)
		_, err = source.FromStored(source.Upload, files[2:], s.Open, "/nowhere", source.ArchiveLimits{}).List(t.Context())
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("CancelledContextStops", func(t *testing.T) {
		s, files, temp := setup(t)
		src := source.FromStored(source.Upload, files, s.Open, temp, source.ArchiveLimits{})
		entries, err := src.List(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, src.Read(ctx, entries, nil), context.Canceled)
	})
}

func TestText(t *testing.T) {
	s := source.FromText("manual-content.md", "what we know")
	got, err := contents(t, s)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"manual-content.md": "what we know"}, got)
	require.Equal(t, source.Text, s.Kind())
	entries, err := s.List(t.Context())
	require.NoError(t, err)
	mine := errors.New("mine")
	require.Equal(t, mine, s.Read(t.Context(), entries, func(source.Entry, io.Reader) error { return mine }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Read(ctx, entries, nil), context.Canceled)
}

func TestTree(t *testing.T) {
	server := gittest.New(t)
	server.Create(t, "ada/app", gittest.On("main", gittest.Files{
		"main.go": gittest.Text("package main\n"), "copy.go": gittest.Text("package main\n"), "vendor/x.go": gittest.Text("package x\n"),
		"logo.png": gittest.Text("\x89PNG\x00\x01"), "latin.txt": gittest.Text("caf\xe9"), "odd.txt": gittest.Text("\x81\x8d\x8f\x90\n"),
		".editorconfig": gittest.Text("root = true\n[*.pas]\ncharset = latin1\n"), "old/.editorconfig": gittest.Text("[*.c]\ncharset = latin1\n"),
		"old/a.c": gittest.Text("\xc3\xe9\xc3\xe9\xf7\xd7\n"), "old/b.pas": gittest.Text("\xf7\xd7\n"), "name\xe9": gittest.Text("x"),
		"big.psd": gittest.Text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"), "empty": gittest.Text(""),
		"wide.txt": gittest.Text("\xFF\xFEh\x00i\x00"), "passwd": gittest.Symlink("/etc/passwd"),
	}))
	hosts, err := gitfetch.NewHosts(gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: server.URL}})
	require.NoError(t, err)
	fetcher, err := gitfetch.New(t.Context(), gitfetch.Options{Hosts: hosts})
	require.NoError(t, err)
	tree, err := fetcher.Fetch(t.Context(), gitfetch.Request{URL: "https://github.com/ada/app", Branch: "main", Dir: t.TempDir()})
	require.NoError(t, err)
	filter, err := source.NewFilter(source.Rules{Kind: source.Repository})
	require.NoError(t, err)

	d, err := source.Discover(t.Context(), source.FromTree(tree), filter, nil)
	require.NoError(t, err)
	require.Equal(t, map[source.Reason]int{source.Dependency: 1, source.Binary: 1, source.UnknownEncoding: 1, source.Pointer: 1, source.Empty: 1}, d.Excluded)
	require.Equal(t, []source.LeftOut{{"logo.png", source.Binary}, {"odd.txt", source.UnknownEncoding}}, d.LeftOut)
	texts := map[string]string{}
	require.NoError(t, source.FromTree(tree).Read(t.Context(), d.Files, func(e source.Entry, r io.Reader) error {
		text, err := source.DecodeAs(r, 1<<20, e.Encoding)
		texts[e.Path] = text
		return err
	}))
	delete(texts, ".editorconfig")
	delete(texts, "old/.editorconfig")
	require.Equal(t, map[string]string{"main.go": "package main\n", "copy.go": "package main\n", "wide.txt": "hi", "latin.txt": "café", "old/a.c": "ÃéÃé÷×\n", "old/b.pas": "÷×\n",
		`name\xe9`: "x"}, texts)
}

// broken lists more entries than it returns.
type broken struct{ source.Source }

func (broken) Read(context.Context, []source.Entry, func(source.Entry, io.Reader) error) error {
	return nil
}

func TestDiscover(t *testing.T) {
	filter, err := source.NewFilter(source.Rules{Kind: source.Text})
	require.NoError(t, err)
	t.Run("SourceThatGivesLessThanItListsIsAFault", func(t *testing.T) {
		_, err := source.Discover(t.Context(), broken{source.FromText("a", "b")}, filter, nil)
		require.ErrorContains(t, err, "fewer files")
	})
	t.Run("ListingThatFailsIsReported", func(t *testing.T) {
		_, err := source.Discover(t.Context(), archive("x.zip", nil), filter, nil)
		invalid(t, err, `The archive "x.zip" is corrupt.`)
	})
	t.Run("EmptyTextIsExcluded", func(t *testing.T) {
		d, err := source.Discover(t.Context(), source.FromText("a", ""), filter, nil)
		require.NoError(t, err)
		require.Equal(t, map[source.Reason]int{source.Empty: 1}, d.Excluded)
	})
	t.Run("FaultWhileReadingNamesTheFile", func(t *testing.T) {
		s := &storage{files: map[string][]byte{"k": []byte("a")}}
		failing := func(context.Context, string) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("a"), failingReader{})), nil
		}
		_, err := source.Discover(t.Context(), source.FromStored(source.Text, []source.Stored{{Path: "a.go", Key: "k", Size: 1}}, failing, "", source.ArchiveLimits{}), filter, nil)
		require.ErrorContains(t, err, "a.go: inspect file: disk")
		require.Zero(t, s.open)
	})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("disk") }
