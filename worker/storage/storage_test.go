package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"kijko/worker/storage"
)

func open(t *testing.T) (*storage.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "made", "here")
	s, err := storage.Open(t.Context(), "file://"+dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, dir
}

func files(t *testing.T, dir string) (n int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func TestStore(t *testing.T) {
	t.Run("WhatWasPutComesBack", func(t *testing.T) {
		s, dir := open(t)
		content := bytes.Repeat([]byte("kijko\x00"), 2_000_000)
		sum := sha256.Sum256(content)
		o, err := s.Put(t.Context(), bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err)
		require.Equal(t, int64(len(content)), o.Size)
		require.Equal(t, hex.EncodeToString(sum[:]), o.SHA256)
		require.Regexp(t, `^[0-9a-f]{2}/[0-9a-f]{30}$`, o.Key)
		r, err := s.Get(t.Context(), o.Key)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(content, got))
		require.Equal(t, 1, files(t, dir))
		require.Equal(t, "local", s.Provider())
		require.NoError(t, s.Reachable(t.Context()))
	})
	t.Run("OneByteTooManyLeavesNothing", func(t *testing.T) {
		s, dir := open(t)
		_, err := s.Put(t.Context(), strings.NewReader("12345"), 4)
		require.ErrorIs(t, err, storage.ErrTooLarge)
		require.Zero(t, files(t, dir))
	})
	t.Run("ABrokenSenderLeavesNothing", func(t *testing.T) {
		s, dir := open(t)
		cut := errors.New("cut")
		_, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cut)), 100)
		require.ErrorIs(t, err, cut)
		require.Zero(t, files(t, dir))
	})
	t.Run("ACancelledRequestLeavesNothing", func(t *testing.T) {
		s, dir := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.Put(ctx, readerFunc(func(p []byte) (int, error) { cancel(); return len(p), io.EOF }), 1<<20)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, files(t, dir))
	})
	t.Run("DeletingTwiceIsFine", func(t *testing.T) {
		s, _ := open(t)
		o, err := s.Put(t.Context(), strings.NewReader("x"), 10)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), o.Key))
		require.NoError(t, s.Delete(t.Context(), o.Key, "no/such"))
		_, err = s.Get(t.Context(), o.Key)
		require.ErrorIs(t, err, storage.ErrNotFound)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOpenRefusesStrangeAddresses(t *testing.T) {
	for _, address := range []string{"ftp://x", "%", "", "file:///dev/null/x"} {
		_, err := storage.Open(t.Context(), address)
		require.Error(t, err, address)
	}
}

// A double of an S3 endpoint, for what our own code adds to the library: the scheme, the limits, and that a failure has a sentence.
func TestS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	objects := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, ok := objects[r.URL.Path]; {
		case r.Method == http.MethodPut:
			raw, _ := io.ReadAll(r.Body)
			objects[r.URL.Path] = raw
		case r.Method == http.MethodDelete:
			delete(objects, r.URL.Path)
			w.WriteHeader(http.StatusNoContent)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
		default:
			_, _ = w.Write(body)
		}
	}))
	defer server.Close()
	s, err := storage.Open(t.Context(), "s3://files?region=eu-west-1&use_path_style=true&endpoint="+server.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Equal(t, "s3", s.Provider())
	o, err := s.Put(t.Context(), strings.NewReader("content"), 10)
	require.NoError(t, err)
	require.Len(t, objects, 1)
	_, err = s.Put(t.Context(), strings.NewReader("content"), 3)
	require.ErrorIs(t, err, storage.ErrTooLarge)
	require.Len(t, objects, 1)
	require.NoError(t, s.Delete(t.Context(), o.Key))
	require.Empty(t, objects)
	_, err = s.Get(t.Context(), o.Key)
	require.ErrorIs(t, err, storage.ErrNotFound)
}
