package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
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

// A process that is killed while it writes leaves a temporary file beside the content.
func TestDeletingRemovesWhatAKilledProcessWasWriting(t *testing.T) {
	s, dir := open(t)
	key, err := storage.NewKey()
	require.NoError(t, err)
	other, err := s.Put(t.Context(), strings.NewReader("x"), 10)
	require.NoError(t, err)
	half := filepath.Join(dir, key+".18f3a5b7c9d1.tmp")
	require.NoError(t, os.MkdirAll(filepath.Dir(half), 0o700))
	require.NoError(t, os.WriteFile(half, []byte("half"), 0o600))
	require.Equal(t, 2, files(t, dir))
	require.NoError(t, s.Delete(t.Context(), key))
	require.NoFileExists(t, half)
	require.FileExists(t, filepath.Join(dir, other.Key))
}

// A missing folder is a fault of the store: no content in it counts as deleted, and nothing is written into a new folder of the same
// name.
func TestAFolderThatIsGoneIsAFaultOfTheStore(t *testing.T) {
	s, dir := open(t)
	o, err := s.Put(t.Context(), strings.NewReader("x"), 10)
	require.NoError(t, err)
	require.NoError(t, os.Rename(dir, dir+".moved"))
	for name, call := range map[string]func() error{
		"Put":       func() error { _, err := s.Put(t.Context(), strings.NewReader("x"), 10); return err },
		"Get":       func() error { _, err := s.Get(t.Context(), o.Key); return err },
		"Delete":    func() error { return s.Delete(t.Context(), o.Key) },
		"Reachable": func() error { return s.Reachable(t.Context()) },
	} {
		err := call()
		require.ErrorIs(t, err, storage.ErrUnavailable, name)
		require.NotErrorIs(t, err, storage.ErrNotFound, name)
	}
	require.NoDirExists(t, dir)
	require.NoError(t, os.Rename(dir+".moved", dir))
	require.NoError(t, s.Reachable(t.Context()))
	require.Equal(t, 1, files(t, dir), "a probe leaves nothing behind")
}

// Each key's folder is a file here, so every write fails, for every user and on every system.
func TestAFolderThatTakesNothingIsAFaultOfTheStore(t *testing.T) {
	s, dir := open(t)
	for i := range 256 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, hex.EncodeToString([]byte{byte(i)})), nil, 0o600))
	}
	_, err := s.Put(t.Context(), strings.NewReader("x"), 10)
	require.ErrorIs(t, err, storage.ErrUnavailable)
	require.ErrorIs(t, s.Reachable(t.Context()), storage.ErrUnavailable)
	require.Equal(t, 256, files(t, dir))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestOpenRefusesStrangeAddresses(t *testing.T) {
	for _, address := range []string{"ftp://x", "%", "", "file:///dev/null/x", "s3://files?region=eu-west-1&key=one",
		"s3://files?region=eu-west-1&prefix=a/../b", "s3://files?region=eu-west-1&unknown=1",
		"s3://files?region=eu-west-1&endpoint=127.0.0.1:9000&disable_https=true"} {
		_, err := storage.Open(t.Context(), address)
		require.Error(t, err, address)
	}
}
