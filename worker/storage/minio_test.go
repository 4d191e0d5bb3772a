//go:build peers

package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"

	"kijko/tests/peers"
	"kijko/worker/storage"
)

// newMinIO starts a MinIO server with a bucket files.
func newMinIO(t *testing.T, data string) (place, *s3.Client) {
	t.Helper()
	m := peers.NewMinIO(t, data)
	t.Setenv("AWS_ACCESS_KEY_ID", m.User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", m.Password)
	bucket, err := blob.OpenBucket(t.Context(), "s3://files?region=eu-west-1&use_path_style=true&endpoint="+m.URL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bucket.Close()) })
	var client *s3.Client
	require.True(t, bucket.As(&client))
	name := "files"
	_, err = client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name})
	require.NoError(t, err)
	// MinIO lists the unfinished uploads of one key only, so the test counts them in MinIO's data folder.
	return place{endpoint: m.URL, left: func(t *testing.T) (objects, uploads int) {
		listed, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &name})
		require.NoError(t, err)
		open, err := filepath.Glob(filepath.Join(data, ".minio.sys", "multipart", "*", "*"))
		require.NoError(t, err)
		return len(listed.Contents), len(open)
	}}, client
}

func TestMinIO(t *testing.T) {
	p, client := newMinIO(t, t.TempDir())
	testS3(t, p)

	t.Run("KeysThatMayOnlyReadWriteAndDelete", func(t *testing.T) {
		name, policy := "files", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]},
			"Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "Resource": ["arn:aws:s3:::files/*"]}]}`
		_, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: &policy})
		require.NoError(t, err)
		s := p.open(t, "files", "&anonymous=true")
		require.NoError(t, s.Reachable(t.Context()), "listing is not needed")
		o, err := s.Put(t.Context(), strings.NewReader("content"), 10)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), o.Key))
	})
	t.Run("KeysThatMayNotDelete", func(t *testing.T) {
		name, policy := "files", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]},
			"Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::files/*"]}]}`
		_, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: &policy})
		require.NoError(t, err)
		require.ErrorIs(t, p.open(t, "files", "&anonymous=true").Reachable(t.Context()), storage.ErrUnavailable)
	})
	t.Run("AWrongSecret", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		s := p.open(t, "files", "")
		for name, err := range map[string]error{"Reachable": s.Reachable(t.Context()), "Delete": s.Delete(t.Context(), "ab/cd"),
			"Get": func() error { _, err := s.Get(t.Context(), "ab/cd"); return err }()} {
			require.ErrorIs(t, err, storage.ErrUnavailable, name)
			require.NotErrorIs(t, err, storage.ErrNotFound, name)
		}
	})
	t.Run("ABucketThatWasRemoved", func(t *testing.T) {
		s := p.open(t, "files", "")
		objects, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: ptr("files")})
		require.NoError(t, err)
		for _, o := range objects.Contents {
			_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: ptr("files"), Key: o.Key})
			require.NoError(t, err)
		}
		_, err = client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: ptr("files")})
		require.NoError(t, err)
		_, err = s.Get(t.Context(), "ab/cd")
		require.ErrorIs(t, err, storage.ErrUnavailable)
		require.ErrorIs(t, s.Delete(t.Context(), "ab/cd"), storage.ErrUnavailable)
	})
}

func ptr(s string) *string { return &s }

// KIJKO_TEST_SMALL_DISK names a folder on a file system of less than 200 MB, which the test fills; make test-peers makes one as root.
func TestMinIOThatIsFull(t *testing.T) {
	disk := os.Getenv("KIJKO_TEST_SMALL_DISK")
	require.NotEmpty(t, disk, "KIJKO_TEST_SMALL_DISK names no small file system")
	data := filepath.Join(disk, "minio")
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(data)) })
	p, _ := newMinIO(t, data)
	s := p.open(t, "files", "")
	require.NoError(t, s.Reachable(t.Context()))
	fill := func(size int) error {
		for {
			if _, err := s.Put(context.WithoutCancel(t.Context()), strings.NewReader(strings.Repeat("x", size)), int64(size)); err != nil {
				return err
			}
		}
	}
	require.ErrorIs(t, fill(20<<20), storage.ErrUnavailable)
	_, uploads := p.left(t)
	require.Zero(t, uploads, "what did not fit leaves no parts")
	require.ErrorIs(t, fill(1<<20), storage.ErrUnavailable)
	require.ErrorIs(t, s.Reachable(t.Context()), storage.ErrUnavailable, "a full store is none that content can go to")
}

func TestAFullDisk(t *testing.T) {
	disk := os.Getenv("KIJKO_TEST_SMALL_DISK")
	require.NotEmpty(t, disk, "KIJKO_TEST_SMALL_DISK names no small file system")
	dir := filepath.Join(disk, "files")
	s, err := storage.Open(t.Context(), "file://"+dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(s.Close(), os.RemoveAll(dir))) })
	require.NoError(t, s.Reachable(t.Context()))
	o, err := s.Put(t.Context(), strings.NewReader("before"), 10)
	require.NoError(t, err)
	for err == nil {
		_, err = s.Put(t.Context(), strings.NewReader(strings.Repeat("x", 1<<20)), 1<<20)
	}
	require.ErrorIs(t, err, storage.ErrUnavailable)
	before := files(t, dir)
	require.ErrorIs(t, s.Reachable(t.Context()), storage.ErrUnavailable)
	require.Equal(t, before, files(t, dir), "nothing half-written remains")
	require.NoError(t, s.Delete(t.Context(), o.Key), "deleting frees room")
}
