package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
)

// folder is a store in a folder of a file system.
type folder struct {
	path   string
	bucket *blob.Bucket
}

func openFolder(path string) (*Store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	// Temporary files lie beside the content: a rename within one file system is atomic. The store makes the keys itself, so no
	// attribute files are needed.
	bucket, err := fileblob.OpenBucket(path, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return &Store{bucket: bucket, folder: &folder{path: path, bucket: bucket}}, nil
}

// present fails if the folder itself is gone (moved, or its volume is no longer mounted). The library would make an empty folder.
func (f *folder) present() error {
	info, err := os.Stat(f.path)
	if err == nil && !info.IsDir() {
		err = errors.New("the store is no folder")
	}
	return err
}

func (f *folder) put(ctx context.Context, key string, in io.Reader) error {
	if err := f.present(); err != nil {
		return err
	}
	// Cancelling before Close is how the library abandons a write.
	writing, abandon := context.WithCancel(ctx)
	defer abandon()
	w, err := f.bucket.NewWriter(writing, key, &blob.WriterOptions{ContentType: contentType})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		abandon()
		_ = w.Close() // reports the cancellation by abandon
		return err
	}
	return w.Close()
}

// delete also removes the temporary files of the key: the library writes them beside the content, and a process that is killed leaves its own.
func (f *folder) delete(ctx context.Context, key string) error {
	// Keys have no signs that a pattern would read.
	left, err := filepath.Glob(filepath.Join(f.path, filepath.FromSlash(key)) + ".*.tmp")
	for _, name := range left {
		if gone := os.Remove(name); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	// A missing file is no error here: the caller decides.
	if deleting := f.bucket.Delete(ctx, key); deleting != nil && err == nil {
		return deleting
	}
	return err
}
