#!/bin/sh
# gocloud.dev/blob/s3blob: a write that is given up by cancelling its context, which is how the library says to abandon one, leaves a
# multipart upload behind: it is begun, and never aborted, because the abort is sent with the context that was just cancelled. The store
# keeps the parts, unseen by listings, until a lifecycle rule removes them. A write whose reader fails while the context lives is aborted.
#
# Runs the library against a small S3 endpoint in the same process, which counts requests. Exits 1 when this has changed.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob"
)

var (
	mu             sync.Mutex
	begun, aborted int
)

func serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	mu.Lock()
	defer mu.Unlock()
	switch q := r.URL.Query(); {
	case r.Method == http.MethodPost && q.Has("uploads"):
		begun++
		_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		aborted++
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("ETag", `"e"`)
	}
}

func counts() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprintf("begun %d, aborted %d", begun, aborted) }

// zeros gives 20 MiB, then fails.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, errors.New("the reader failed")
	}
	n := min(len(p), z.left)
	z.left -= n
	return n, nil
}

func main() {
	for _, d := range func() []*debug.Module { b, _ := debug.ReadBuildInfo(); return b.Deps }() {
		if d.Path == "gocloud.dev" || strings.HasSuffix(d.Path, "/transfermanager") {
			fmt.Println(d.Path, d.Version)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(serve))
	defer server.Close()
	bucket, err := blob.OpenBucket(context.Background(), "s3://b?region=eu-west-1&use_path_style=true&endpoint="+server.URL)
	if err != nil {
		panic(err)
	}
	options := &blob.WriterOptions{ContentType: "text/plain", BufferSize: 5 << 20, MaxConcurrency: 1}

	ctx, cancel := context.WithCancel(context.Background())
	w, err := bucket.NewWriter(ctx, "given-up", options)
	if err != nil {
		panic(err)
	}
	_, _ = io.Copy(w, &zeros{left: 20 << 20})
	cancel()
	fmt.Println("Close after cancelling:", w.Close())
	fmt.Println("cancelled context:", counts())
	left := begun - aborted

	fmt.Println("Upload:", bucket.Upload(context.Background(), "reader-failed", &zeros{left: 20 << 20}, options))
	fmt.Println("failing reader:   ", counts())
	if left != 1 || begun-aborted != 1 {
		fmt.Println("changed: a cancelled write no longer leaves its upload behind, or a failing reader does")
		os.Exit(1)
	}
}
GO
cat > go.mod <<'MOD'
module finding

go 1.26

require gocloud.dev v0.47.0
MOD
export GOFLAGS=-mod=mod AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret
go mod tidy >/dev/null 2>&1
go run .
