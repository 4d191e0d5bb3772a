package spill_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/spill"
)

type record struct {
	File   parse.File
	Chunks []chunk.Chunk
	Hash   [4]byte
	Share  float64
	Small  uint16
}

func sample(i int) record {
	return record{
		File: parse.File{Language: "go", Lines: i, Structured: true, Decls: []parse.Decl{{Name: "A", Children: []parse.Decl{{Name: "B", StartByte: -1}}}},
			Imports: []parse.Import{{Path: "fmt", Names: []string{}}}},
		Chunks: []chunk.Chunk{{Order: i, Content: "text", Metadata: map[string]any{"k": "v"}}},
		Hash:   [4]byte{1, 2, 3, byte(i)}, Share: 0.5, Small: 7,
	}
}

func TestSpill(t *testing.T) {
	t.Run("RecordsComeBackAsTheyWereInAnyOrder", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "set")
		w, err := spill.Create(name, 50)
		require.NoError(t, err)
		var group sync.WaitGroup
		for i := range 49 {
			group.Go(func() {
				r := sample(i)
				if err := w.Put(i, &r); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		r, err := w.Seal()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		r, err = spill.Open(name, 50)
		require.NoError(t, err)
		defer func() { _ = r.Close() }()
		require.Equal(t, 50, r.Len())
		for i := range 49 {
			var got record
			ok, err := r.Get(i, &got)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, sample(i), got)
		}
		ok, err := r.Get(49, &record{})
		require.NoError(t, err)
		require.False(t, ok, "a record that was never written")
	})
	t.Run("AnUnsealedSetDoesNotExist", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "set")
		w, err := spill.Create(name, 1)
		require.NoError(t, err)
		r := sample(0)
		require.NoError(t, w.Put(0, &r))
		_, err = spill.Open(name, 1)
		require.ErrorIs(t, err, os.ErrNotExist)
		w.Abort()
		require.NoFileExists(t, name+".data")
	})
	t.Run("DamageIsNoticed", func(t *testing.T) {
		for _, ending := range []string{".data", ".index"} {
			name := filepath.Join(t.TempDir(), "set")
			w, err := spill.Create(name, 1)
			require.NoError(t, err)
			rec := sample(0)
			require.NoError(t, w.Put(0, &rec))
			r, err := w.Seal()
			require.NoError(t, err)
			require.NoError(t, r.Close())
			data, err := os.ReadFile(name + ending)
			require.NoError(t, err)
			data[len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(name+ending, data, 0o600))
			r, err = spill.Open(name, 1)
			if err == nil {
				_, err = r.Get(0, &rec)
				_ = r.Close()
			}
			require.ErrorIs(t, err, spill.ErrDamaged, ending)
		}
	})
	t.Run("AnotherNumberOfRecordsIsAnotherSet", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "set")
		w, err := spill.Create(name, 2)
		require.NoError(t, err)
		r, err := w.Seal()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		_, err = spill.Open(name, 3)
		require.ErrorIs(t, err, spill.ErrDamaged)
	})
	t.Run("WhatCannotBeKeptIsRefused", func(t *testing.T) {
		w, err := spill.Create(filepath.Join(t.TempDir(), "set"), 1)
		require.NoError(t, err)
		defer w.Abort()
		require.ErrorContains(t, w.Put(0, &struct{ hidden int }{1}), "unexported")
		require.Error(t, w.Put(0, &struct{ C chan int }{}))
	})
	t.Run("TheSchemaTellsVersionsApart", func(t *testing.T) {
		require.NotEqual(t, spill.Schema(&struct{ A int }{}), spill.Schema(&struct{ A string }{}))
		require.Contains(t, spill.Schema(&record{}), "Children:[]^Decl")
	})
}
