package storage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob" // s3://bucket?region=...&endpoint=...&use_path_style=true
)

const (
	contentType = "application/octet-stream"
	// patience is how long a running write may go on after its context has ended, so that it can be aborted cleanly.
	patience = 10 * time.Second
	// tidyTime bounds the removal of the remains of a failed write.
	tidyTime = 3 * time.Second
)

// s3bucket is a store with the S3 API. If the library drops the store's error code, this code asks the library's client directly.
type s3bucket struct {
	name, prefix string
	bucket       *blob.Bucket
	client       *s3.Client
}

func openS3(ctx context.Context, u *url.URL) (*Store, error) {
	b := &s3bucket{name: u.Host, prefix: u.Query().Get("prefix")}
	if u.Query().Has("key") {
		return nil, errors.New("storage: a store has many keys: leave the parameter key out")
	}
	if endpoint := u.Query().Get("endpoint"); endpoint != "" && !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return nil, errors.New("storage: the endpoint needs its scheme: https://host[:port]")
	}
	// The library would encode these keys in a form of its own.
	if strings.Contains(b.prefix, "../") || strings.ContainsFunc(b.prefix, func(r rune) bool { return r < ' ' }) {
		return nil, errors.New("storage: the prefix contains ../ or control characters")
	}
	// The address may hold credentials; it stays out of messages.
	bucket, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("storage: bucket %s cannot be opened: %w", u.Host, err)
	}
	if b.bucket = bucket; !bucket.As(&b.client) {
		return nil, errors.Join(errors.New("storage: the library gives no client of S3"), bucket.Close())
	}
	return &Store{bucket: bucket, s3: b}, nil
}

// put writes in parts. The library aborts unfinished uploads when reading fails, but not when its context has ended. So the end of the
// context reaches the library through the reader, and only an upload to a store that does not answer is abandoned.
func (b *s3bucket) put(ctx context.Context, key string, in *content) error {
	writing, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(patience, abandon) })
	defer stop()
	err := b.bucket.Upload(writing, key, in, &blob.WriterOptions{ContentType: contentType, BufferSize: 5 << 20, MaxConcurrency: 1})
	if err == nil {
		// The whole content may have arrived although the caller's context has ended.
		err = ctx.Err()
	} else if in.err != nil && errors.Is(err, in.err) && writing.Err() == nil || neverArrived(err) {
		return err
	}
	if err != nil {
		b.takeBack(context.WithoutCancel(ctx), key)
	}
	return err
}

// neverArrived reports that no connection to the store was made.
func neverArrived(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// takeBack removes the possible remains of a failed write: the whole object, if only the answer was lost, or parts.
func (b *s3bucket) takeBack(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()
	_ = b.delete(ctx, key)
	at := b.prefix + key
	uploads, err := b.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &at})
	if err != nil {
		return // keys without the right to list; the store's own rule cleans up (README, "Operation")
	}
	for _, u := range uploads.Uploads {
		_, _ = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: u.Key, UploadId: u.UploadId})
	}
}

// delete calls the store directly. The library first checks whether the key exists, which costs a request, and mistakes a missing bucket
// for a missing key.
func (b *s3bucket) delete(ctx context.Context, key string) error {
	at := b.prefix + key
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &at})
	return err
}

// isMissing checks the one error code of a missing key. The library's error class also contains missing buckets, moved buckets and
// archived content.
func (b *s3bucket) isMissing(err error) bool {
	var said smithy.APIError
	if !b.bucket.ErrorAs(err, &said) && !errors.As(err, &said) {
		return false
	}
	return said.ErrorCode() == "NoSuchKey"
}
