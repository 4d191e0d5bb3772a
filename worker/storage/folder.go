package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
