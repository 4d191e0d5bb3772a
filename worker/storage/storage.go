// Package storage keeps the content of files: a folder by default, an S3-compatible bucket when the address says so. It knows keys
// and bytes and nothing else; who owns a key is a row of the database.
//
// Keys are random, so nobody can guess or choose one, and a key is written once. A Store is safe for concurrent use. A Put that fails
// or is cancelled leaves nothing behind. Close it after the last call.
package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3://bucket?region=...&endpoint=...&use_path_style=true
	"gocloud.dev/gcerrors"
)

// ErrNotFound means that no content is stored under a key.
var ErrNotFound = errors.New("storage: no such content")

// ErrTooLarge means that a reader had more bytes than allowed.
var ErrTooLarge = errors.New("storage: the content is larger than allowed")

// Store is a place for content.
type Store struct {
	bucket   *blob.Bucket
	provider string
}

// Object is what Put stored.
type Object struct {
	Key string
	// Size in bytes, SHA256 in lower-case hex.
	Size   int64
	SHA256 string
}

// Open takes file:///path (made where missing, for this user only) or s3://bucket with its parameters.
func Open(ctx context.Context, address string) (*Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("storage: the address is malformed: %w", err)
	}
	switch u.Scheme {
	case "file":
		if err := os.MkdirAll(u.Path, 0o700); err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
		// Temporary files beside the content: a rename within one file system is atomic. Keys are ours, so no attribute files.
		bucket, err := fileblob.OpenBucket(u.Path, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
		if err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
		return &Store{bucket: bucket, provider: "local"}, nil
	case "s3":
		bucket, err := blob.OpenBucket(ctx, address)
		if err != nil {
			// The address may hold credentials; it stays out of the message.
			return nil, fmt.Errorf("storage: bucket %s cannot be opened: %w", u.Host, err)
		}
		return &Store{bucket: bucket, provider: "s3"}, nil
	}
	return nil, fmt.Errorf("storage: scheme %q is unknown: use file or s3", u.Scheme)
}

// Provider is "local" or "s3", as rows say it.
func (s *Store) Provider() string { return s.provider }

// Put stores what r gives under a new key. More than limit bytes are ErrTooLarge; memory does not grow with the content.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (Object, error) {
	key, err := newKey()
	if err != nil {
		return Object{}, err
	}
	// Cancelling before Close is how the library abandons a write.
	writing, abandon := context.WithCancel(ctx)
	defer abandon()
	w, err := s.bucket.NewWriter(writing, key, &blob.WriterOptions{ContentType: "application/octet-stream", BufferSize: 5 << 20, MaxConcurrency: 1})
	if err != nil {
		return Object{}, fmt.Errorf("storage: begin to write: %w", err)
	}
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(w, digest), io.LimitReader(r, limit+1))
	if err == nil && size > limit {
		err = ErrTooLarge
	}
	if err != nil {
		abandon()
		_ = w.Close() // reports the cancellation that was just asked for
		return Object{}, err
	}
	if err := w.Close(); err != nil {
		return Object{}, fmt.Errorf("storage: finish writing: %w", err)
	}
	return Object{Key: key, Size: size, SHA256: hex.EncodeToString(digest.Sum(nil))}, nil
}

// Get opens content for reading from its beginning. Close the reader.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	if err != nil {
		return nil, fmt.Errorf("storage: read: %w", err)
	}
	return r, nil
}

// Delete removes content; keys without any count as removed. It tries all keys and gives the errors together.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	var faults []error
	for _, key := range keys {
		if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			faults = append(faults, fmt.Errorf("storage: delete %s: %w", key, err))
		}
	}
	return errors.Join(faults...)
}

// Reachable says whether content could be stored now, for the health check.
func (s *Store) Reachable(ctx context.Context) error {
	ok, err := s.bucket.IsAccessible(ctx)
	if err == nil && !ok {
		err = errors.New("not accessible")
	}
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}

// Close releases connections.
func (s *Store) Close() error {
	if err := s.bucket.Close(); err != nil {
		return fmt.Errorf("storage: close: %w", err)
	}
	return nil
}

// newKey is 128 random bits, spread over 256 folders: "ab/cdef...".
func newKey() (string, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("storage: draw a key: %w", err)
	}
	text := hex.EncodeToString(raw)
	return strings.Join([]string{text[:2], text[2:]}, "/"), nil
}
