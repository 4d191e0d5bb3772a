package source_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/source"
)

type item struct {
	name, data string
	typeflag   byte // tar's; 0 for a file
}

func zipped(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, it := range items {
		header := &zip.FileHeader{Name: it.name, Method: zip.Deflate}
		header.SetMode(0o644)
		if it.typeflag == tar.TypeSymlink {
			header.SetMode(0o777 | os.ModeSymlink)
		}
		f, err := w.CreateHeader(header)
		require.NoError(t, err)
		_, err = io.WriteString(f, it.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func tarred(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, it := range items {
		header := &tar.Header{Name: it.name, Mode: 0o644, Typeflag: it.typeflag}
		if it.typeflag == 0 {
			header.Typeflag, header.Size = tar.TypeReg, int64(len(it.data))
		} else {
			header.Linkname = it.data
		}
		require.NoError(t, w.WriteHeader(header))
		if it.typeflag == 0 {
			_, err := io.WriteString(w, it.data)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func archive(name string, data []byte) source.Source {
	return source.FromArchive(name, bytes.NewReader(data), int64(len(data)), source.ArchiveLimits{})
}

// contents reads a whole source.
func contents(t testing.TB, s source.Source) (map[string]string, error) {
	t.Helper()
	entries, err := s.List(t.Context())
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	err = s.Read(t.Context(), entries, func(e source.Entry, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err == nil && int64(len(data)) != e.Size {
			err = fmt.Errorf("%s: %d bytes, listed %d", e.Path, len(data), e.Size)
		}
		got[e.Path] = string(data)
		return err
	})
	return got, err
}

func invalid(t testing.TB, err error, message string) {
	t.Helper()
	failure, ok := gitfetch.AsFailure(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, gitfetch.InvalidFormat, failure.Code)
	require.False(t, failure.Retryable)
	require.Equal(t, message, failure.Message)
}

func TestArchive(t *testing.T) {
	items := []item{{name: "src/b.go", data: "b"}, {name: "a.txt", data: "aa"}, {name: "./docs/inner.zip", data: "PK"}}
	want := map[string]string{"src/b.go": "b", "a.txt": "aa", "docs/inner.zip": "PK"}
	for name, data := range map[string][]byte{
		"x.zip": zipped(t, items...), "x.tar": tarred(t, items...), "x.tar.gz": gzipped(t, tarred(t, items...)), "x.TGZ": gzipped(t, tarred(t, items...)),
	} {
		t.Run("FilesStandBelowTheArchive/"+name, func(t *testing.T) {
			expected := map[string]string{}
			for path, data := range want {
				expected[name+"/"+path] = data
			}
			got, err := contents(t, archive(name, data))
			require.NoError(t, err)
			require.Equal(t, expected, got)
		})
		t.Run("OneOfMany/"+name, func(t *testing.T) {
			s := archive(name, data)
			entries, err := s.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{name + "/a.txt", name + "/docs/inner.zip", name + "/src/b.go"}, []string{entries[0].Path, entries[1].Path, entries[2].Path})
			var got []string
			require.NoError(t, s.Read(t.Context(), entries[2:], func(e source.Entry, r io.Reader) error { got = append(got, e.Path); return nil }))
			require.Equal(t, []string{name + "/src/b.go"}, got)
		})
		t.Run("ErrorOfTheReaderIsItsOwn/"+name, func(t *testing.T) {
			s := archive(name, data)
			entries, err := s.List(t.Context())
			require.NoError(t, err)
			mine := errors.New("mine")
			require.Equal(t, mine, s.Read(t.Context(), entries, func(source.Entry, io.Reader) error { return mine }))
		})
		t.Run("CancelledContextStops/"+name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := archive(name, data).List(ctx)
			require.ErrorIs(t, err, context.Canceled)
		})
		t.Run("AnyCutIsCorruptOrWhole/"+name, func(t *testing.T) {
			for n := range data {
				got, err := contents(t, archive(name, data[:n]))
				if err != nil {
					invalid(t, err, fmt.Sprintf("The archive %q is corrupt.", name))
				} else { // a plain tar has no checksum over the whole: its padding may miss
					require.Equal(t, "x.tar", name)
					for path, data := range got {
						require.Equal(t, want[strings.TrimPrefix(path, name+"/")], data)
					}
				}
			}
		})
	}

	hostile := []item{{name: "../up"}, {name: "a/../../up"}, {name: "/etc/passwd"}, {name: `C:\x`}, {name: `..\up`}, {name: "ctrl\x01"}, {name: "dir/"}, {name: strings.Repeat("x/", 501) + "y"}, {name: "ok", data: "ok"}}
	t.Run("WhatLeadsOutsideIsSkipped", func(t *testing.T) {
		got, err := contents(t, archive("x.zip", zipped(t, append(hostile, item{name: "link", data: "/etc/passwd", typeflag: tar.TypeSymlink})...)))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x.zip/ok": "ok"}, got)
		got, err = contents(t, archive("x.tar", tarred(t, item{name: "../up", data: "x"}, item{name: "/abs", data: "x"}, item{name: "ok", data: "ok"},
			item{name: "sym", data: "/etc/passwd", typeflag: tar.TypeSymlink}, item{name: "hard", data: "ok", typeflag: tar.TypeLink},
			item{name: "null", typeflag: tar.TypeChar}, item{name: "pipe", typeflag: tar.TypeFifo}, item{name: "dir", typeflag: tar.TypeDir})))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x.tar/ok": "ok"}, got)
	})
	t.Run("WindowsSeparatorsAndOldEncodings", func(t *testing.T) {
		got, err := contents(t, archive("x.zip", zipped(t, item{name: `src\a.go`, data: "a"}, item{name: "caf\x82.txt", data: "c"}, item{name: "né.txt", data: "d"})))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x.zip/src/a.go": "a", "x.zip/café.txt": "c", "x.zip/né.txt": "d"}, got)
		got, err = contents(t, archive("x.tar", tarred(t, item{name: "caf\xe9.txt", data: "c"})))
		require.NoError(t, err)
		require.Equal(t, map[string]string{`x.tar/caf\xe9.txt`: "c"}, got)
	})
	t.Run("OfTheSameNameTheLastCounts", func(t *testing.T) {
		got, err := contents(t, archive("x.tar", tarred(t, item{name: "a", data: "old"}, item{name: "a", data: "new"})))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"x.tar/a": "new"}, got)
	})
	t.Run("EmptyArchiveHasNoFiles", func(t *testing.T) {
		for name, data := range map[string][]byte{"x.zip": zipped(t), "x.tar": tarred(t), "x.tgz": gzipped(t, tarred(t))} {
			got, err := contents(t, archive(name, data))
			require.NoError(t, err, name)
			require.Empty(t, got)
		}
	})
	t.Run("GarbageIsCorrupt", func(t *testing.T) {
		garbage := []byte(strings.Repeat("no archive at all ", 100))
		for _, name := range []string{"x.zip", "x.tar", "x.tar.gz"} {
			_, err := contents(t, archive(name, garbage))
			invalid(t, err, fmt.Sprintf("The archive %q is corrupt.", name))
		}
		_, err := contents(t, archive("x.rar", garbage))
		invalid(t, err, `The archive "x.rar" is of an unknown format.`)
	})
	t.Run("WrongChecksumIsCorrupt", func(t *testing.T) {
		data := zipped(t, item{name: "a", data: "hello"})
		at := bytes.Index(data, []byte("PK\x01\x02"))
		data[at+16] ^= 1 // CRC in the table of contents
		_, err := contents(t, archive("x.zip", data))
		invalid(t, err, `The archive "x.zip" is corrupt.`)
	})
	t.Run("PaddingBehindAGzipIsFine", func(t *testing.T) {
		got, err := contents(t, archive("x.tgz", append(gzipped(t, tarred(t, item{name: "a", data: "1"})), make([]byte, 512)...)))
		require.NoError(t, err)
		require.Len(t, got, 1)
	})
	t.Run("EntriesOfAnotherArchiveAreRefused", func(t *testing.T) {
		s := archive("x.tar", tarred(t, item{name: "a", data: "1"}))
		nothing := func(source.Entry, io.Reader) error { return nil }
		invalid(t, s.Read(t.Context(), []source.Entry{{Path: "x.tar/b", Ref: "7"}}, nothing), `The archive "x.tar" has changed.`)
		require.ErrorContains(t, s.Read(t.Context(), []source.Entry{{Path: "b", Ref: "key"}}, nothing), "not from this archive")
	})
}

func TestArchiveBombs(t *testing.T) {
	zeros := strings.Repeat("\x00", 2<<20)
	t.Run("RatioIsRefusedFromTheTableOfContents", func(t *testing.T) {
		_, err := archive("x.zip", zipped(t, item{name: "zeros", data: zeros})).List(t.Context())
		invalid(t, err, `The archive "x.zip" expands to more than 100 times its size.`)
		_, err = archive("x.tgz", gzipped(t, tarred(t, item{name: "zeros", data: zeros}))).List(t.Context())
		invalid(t, err, `The archive "x.tgz" expands to more than 100 times its size.`)
	})
	t.Run("ExpandedSizeIsRefused", func(t *testing.T) {
		limits := source.ArchiveLimits{Expanded: 1 << 20, Ratio: 1 << 30}
		for name, data := range map[string][]byte{"x.zip": zipped(t, item{name: "z", data: zeros}), "x.tgz": gzipped(t, tarred(t, item{name: "z", data: zeros}))} {
			_, err := source.FromArchive(name, bytes.NewReader(data), int64(len(data)), limits).List(t.Context())
			invalid(t, err, fmt.Sprintf("The archive %q expands to more than 1 MiB.", name))
		}
	})
	t.Run("TooManyEntriesAreRefused", func(t *testing.T) {
		items := make([]item, 11)
		for i := range items {
			items[i] = item{name: fmt.Sprintf("d%d", i), typeflag: tar.TypeSymlink, data: "x"} // entries that are not read count as well
		}
		limits := source.ArchiveLimits{Entries: 10}
		for name, data := range map[string][]byte{"x.zip": zipped(t, items...), "x.tar": tarred(t, items...)} {
			_, err := source.FromArchive(name, bytes.NewReader(data), int64(len(data)), limits).List(t.Context())
			invalid(t, err, fmt.Sprintf("The archive %q has more than 10 entries.", name))
		}
	})
	t.Run("TableOfContentsWithoutEndDoesNotFillMemory", func(t *testing.T) {
		// A million entries of the same empty file: the table has 50 MB, and in parsed form would have ten times that.
		record := make([]byte, 46)
		copy(record, "PK\x01\x02")
		record[28] = 1 // length of the name
		record = append(record, 'a')
		table := bytes.Repeat(record, 1_000_000)
		end := make([]byte, 22)
		copy(end, "PK\x05\x06")
		binary.LittleEndian.PutUint16(end[8:], 0x4240)
		binary.LittleEndian.PutUint16(end[10:], 0x4240)
		binary.LittleEndian.PutUint32(end[12:], uint32(len(table)))
		data := append(table, end...)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := archive("x.zip", data).List(t.Context())
		runtime.ReadMemStats(&after)
		invalid(t, err, `The archive "x.zip" has more than 20000 entries.`)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(400<<20))
	})
	t.Run("EntryThatLiesAboutItsSizeIsCorrupt", func(t *testing.T) {
		data := zipped(t, item{name: "a", data: strings.Repeat("abc", 1000)})
		at := bytes.Index(data, []byte("PK\x01\x02"))
		binary.LittleEndian.PutUint32(data[at+24:], 10) // claims ten bytes
		_, err := contents(t, archive("x.zip", data))
		invalid(t, err, `The archive "x.zip" is corrupt.`)
	})
	t.Run("EncryptedIsRefused", func(t *testing.T) {
		data := zipped(t, item{name: "a", data: "secret"})
		data[bytes.Index(data, []byte("PK\x01\x02"))+8] |= 1
		_, err := contents(t, archive("x.zip", data))
		invalid(t, err, `The archive "x.zip" is encrypted.`)
	})
	t.Run("UnknownCompressionIsRefused", func(t *testing.T) {
		data := zipped(t, item{name: "a", data: "secret"})
		data[bytes.Index(data, []byte("PK\x01\x02"))+10] = 99
		_, err := contents(t, archive("x.zip", data))
		invalid(t, err, `The archive "x.zip" uses a compression that is not supported.`)
	})
	t.Run("ImpossibleSizeIsRefused", func(t *testing.T) {
		data := zipped(t, item{name: "a", data: "x"}, item{name: "b", data: "x"})
		at := bytes.Index(data, []byte("PK\x01\x02"))
		binary.LittleEndian.PutUint32(data[at+24:], 0xFFFFFFFE)
		_, err := contents(t, archive("x.zip", data))
		invalid(t, err, `The archive "x.zip" expands to more than 1024 MiB.`)
	})
	t.Run("EndlessTarIsRefused", func(t *testing.T) {
		// Comments cost only time: their bytes have a limit as well.
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for range 80 {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"K.c": strings.Repeat("c", 1<<20-64)}}))
		}
		require.NoError(t, w.Close())
		_, err := source.FromArchive("x.tar", bytes.NewReader(buf.Bytes()), int64(buf.Len()), source.ArchiveLimits{Expanded: 1 << 20}).List(t.Context())
		invalid(t, err, `The archive "x.tar" expands to more than 1 MiB.`)
	})
}

func TestIsArchive(t *testing.T) {
	for _, name := range []string{"a.zip", "a.ZIP", "b/a.tar", "a.tar.gz", "a.tgz"} {
		require.True(t, source.IsArchive(name), name)
	}
	for _, name := range []string{"a.gz", "zip", "a.rar", "a.7z", "a.zip.txt"} {
		require.False(t, source.IsArchive(name), name)
	}
}
