// Package storage keeps the content of files: in a folder by default, or in an S3-compatible bucket if the address says so. It handles
// keys and bytes only; the owner of a key is a row of the database.
//
// Keys are random, so no caller can guess or choose one, and a key is written once. A Store is safe for concurrent use. A Put that fails
// or is canceled leaves nothing behind, as far as the store still answers. Close the Store after the last call.
//
// # Errors
//
// ErrNotFound means that the store works and the content does not exist. A bucket or folder that is missing itself is ErrUnavailable.
// ErrUnavailable marks every fault of the store: unreachable, full, missing, forbidden. When the context has ended, its error is
// returned unchanged, and so is an error of the reader that was passed to Put.
package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// ErrNotFound means that no content is stored under a key.
var ErrNotFound = errors.New("storage: no such content")

// ErrTooLarge means that a reader had more bytes than allowed.
var ErrTooLarge = errors.New("storage: the content is larger than allowed")

// ErrUnavailable marks a fault of the store itself.
var ErrUnavailable = errors.New("storage: the store cannot be used")

// Store stores content. Make it with Open.
type Store struct {
	bucket *blob.Bucket
	// Exactly one of the two is set.
	folder *folder
	s3     *s3bucket
}

// Object describes the content that Put stored.
type Object struct {
	Key string
	// Size in bytes, SHA256 in lower-case hex.
	Size   int64
	SHA256 string
}

// Open accepts file:///path (created if missing, for this user only) or s3://bucket with its parameters.
func Open(ctx context.Context, address string) (*Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("storage: the address is malformed: %w", err)
	}
	switch u.Scheme {
	case "file":
		return openFolder(u.Path)
	case "s3":
		return openS3(ctx, u)
	}
	return nil, fmt.Errorf("storage: scheme %q is unknown: use file or s3", u.Scheme)
}

// Provider is "local" or "s3", as rows store it.
func (s *Store) Provider() string {
	if s.s3 != nil {
		return "s3"
	}
	return "local"
}

// Put stores the content of r under a new key. More than limit bytes are ErrTooLarge. Memory does not grow with the content.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (Object, error) {
	key, err := NewKey()
	if err != nil {
		return Object{}, err
	}
	return s.PutAs(ctx, key, r, limit)
}

// PutAs is Put under a key from NewKey, for callers that need the key before there is content. Use a key for one call only.
func (s *Store) PutAs(ctx context.Context, key string, r io.Reader, limit int64) (Object, error) {
	var err error
	in := &content{ctx: ctx, r: r, limit: limit, digest: sha256.New()}
	if s.s3 != nil {
		err = s.s3.put(ctx, key, in)
	} else {
		err = s.folder.put(ctx, key, in)
	}
	switch {
	case err == nil:
		return Object{Key: key, Size: in.size, SHA256: hex.EncodeToString(in.digest.Sum(nil))}, nil
	case in.err != nil:
		return Object{}, in.err
	}
	return Object{}, fault(ctx, "write", err)
}

// Get opens content for reading from its beginning. Close the reader.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := s.bucket.NewReader(ctx, key, nil)
	if err != nil {
		if s.isMissing(err) {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
		}
		return nil, fault(ctx, "read", err)
	}
	return &reader{ctx: ctx, r: r}, nil
}

// Delete removes content, and in a folder what a killed process was writing under the key; keys without content count as removed. It tries
// all keys
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	var faults []error
	for _, key := range keys {
		var err error
		if s.s3 != nil {
			err = s.s3.delete(ctx, key)
		} else {
			err = s.folder.delete(ctx, key)
		}
		if err != nil && !s.isMissing(err) {
			faults = append(faults, fault(ctx, "delete "+key, err))
		}
	}
	return errors.Join(faults...)
}

// isMissing distinguishes missing content from a missing store.
func (s *Store) isMissing(err error) bool {
	if s.s3 != nil {
		return s.s3.isMissing(err)
	}
	return gcerrors.Code(err) == gcerrors.NotFound && s.folder.present() == nil
}

// The sizes of the content that a probe writes. A full file system may have room for one byte for a long time, and an object store for
// content that it keeps inside its index.
const (
	folderProbe = 1 << 20
	s3Probe     = 256 << 10
)

// Reachable reports whether content can be stored, read and removed now, by doing so.
func (s *Store) Reachable(ctx context.Context) error {
	size := folderProbe
	if s.s3 != nil {
		size = s3Probe
	}
	sent := make([]byte, size)
	if _, err := rand.Read(sent); err != nil {
		return fmt.Errorf("storage: draw a probe: %w", err)
	}
	o, err := s.Put(ctx, bytes.NewReader(sent), int64(size))
	if err != nil {
		return err
	}
	err = s.compare(ctx, o.Key, sent)
	// The cleanup runs also after the time limit: a probe leaves nothing behind.
	tidying, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	return errors.Join(err, s.Delete(tidying, o.Key))
}

func (s *Store) compare(ctx context.Context, key string, sent []byte) error {
	r, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: what was written just now is missing", ErrUnavailable)
	}
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%w: what was written just now comes back changed", ErrUnavailable)
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

// content is the input of a Put: it counts and hashes the bytes, and separates read errors from errors of the store.
type content struct {
	ctx    context.Context
	r      io.Reader
	limit  int64
	digest hash.Hash
	size   int64
	// err is the reason why reading ended early: the reader's own error, too many bytes, or the end of the context.
	err error
}

func (c *content) Read(p []byte) (int, error) {
	if c.err == nil {
		c.err = c.ctx.Err()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	_, _ = c.digest.Write(p[:n])
	switch c.size += int64(n); {
	case c.size > c.limit:
		c.err = ErrTooLarge
	case err != nil && err != io.EOF:
		c.err = err
	default:
		return n, err
	}
	return n, c.err
}

// reader marks errors of reading content.
type reader struct {
	ctx context.Context
	r   *blob.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = fault(r.ctx, "read", err)
	}
	return n, err
}

func (r *reader) Close() error { return r.r.Close() }

// fault is an error of the store, or the context's error if the context ended the call.
func fault(ctx context.Context, doing string, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("storage: %s: %w", doing, ended)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}

// NewKey is 128 random bits, spread over 256 folders: "ab/cdef...".
func NewKey() (string, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("storage: draw a key: %w", err)
	}
	text := hex.EncodeToString(raw)
	return strings.Join([]string{text[:2], text[2:]}, "/"), nil
}
