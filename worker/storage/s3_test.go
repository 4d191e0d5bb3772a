package storage_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"kijko/worker/storage"
)

// place is an S3 server with one bucket, files: the double below, or MinIO (make test-peers).
type place struct {
	endpoint string
	// left counts the objects of the bucket, and the uploads that were neither completed nor aborted.
	left func(t *testing.T) (objects, uploads int)
}

func (p place) open(t *testing.T, bucket, parameters string) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), "s3://"+bucket+"?region=eu-west-1&use_path_style=true&endpoint="+p.endpoint+parameters)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// testS3 tests what every S3 server has to do.
func testS3(t *testing.T, p place) {
	nothingIsLeft := func(t *testing.T) {
		t.Helper()
		objects, uploads := p.left(t)
		require.Zero(t, objects, "objects")
		require.Zero(t, uploads, "unfinished uploads")
	}
	const mib = 1 << 20
	t.Run("WhatWasPutComesBack", func(t *testing.T) {
		for name, c := range map[string]struct {
			parameters string
			sizes      []int
		}{
			"Plain":        {"", []int{0, 1, 5 * mib, 16*mib + 1}},
			"UnderAPrefix": {"&prefix=kijko/test/", []int{1}},
		} {
			s := p.open(t, "files", c.parameters)
			require.Equal(t, "s3", s.Provider())
			for _, size := range c.sizes {
				sent := bytes.Repeat([]byte("kijko"), size/5+1)[:size]
				o, err := s.Put(t.Context(), bytes.NewReader(sent), int64(size))
				require.NoError(t, err, name)
				r, err := s.Get(t.Context(), o.Key)
				require.NoError(t, err, name)
				got, err := io.ReadAll(r)
				require.NoError(t, errors.Join(err, r.Close()))
				require.True(t, bytes.Equal(sent, got), "%s: %d bytes", name, size)
				require.NoError(t, s.Delete(t.Context(), o.Key, o.Key, "no/such"))
				_, err = s.Get(t.Context(), o.Key)
				require.ErrorIs(t, err, storage.ErrNotFound)
			}
		}
		nothingIsLeft(t)
	})
	cut := errors.New("cut")
	for _, at := range []int64{1 << 10, 18 * mib, 21 * mib} {
		zeros := func() io.Reader {
			return io.LimitReader(readerFunc(func(p []byte) (int, error) { clear(p); return len(p), nil }), at)
		}
		t.Run(fmt.Sprintf("GivenUpAt%dKiB", at>>10), func(t *testing.T) {
			s := p.open(t, "files", "")
			_, err := s.Put(t.Context(), io.MultiReader(zeros(), iotest.ErrReader(cut)), 40*mib)
			require.ErrorIs(t, err, cut)
			nothingIsLeft(t)
			_, err = s.Put(t.Context(), io.MultiReader(zeros(), strings.NewReader("more")), at)
			require.ErrorIs(t, err, storage.ErrTooLarge)
			nothingIsLeft(t)
			for _, end := range []error{nil, io.EOF} { // with more to come, and with the last byte
				ctx, cancel := context.WithCancel(t.Context())
				_, err = s.Put(ctx, io.MultiReader(zeros(), readerFunc(func(p []byte) (int, error) { cancel(); return len(p), end })), 40*mib)
				require.ErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, storage.ErrUnavailable)
				nothingIsLeft(t)
			}
		})
	}
	t.Run("AMissingBucketIsAFaultOfTheStore", func(t *testing.T) {
		s := p.open(t, "nobucket", "")
		_, putting := s.Put(t.Context(), strings.NewReader("x"), 1)
		_, getting := s.Get(t.Context(), "ab/cd")
		for name, err := range map[string]error{"Put": putting, "Get": getting, "Delete": s.Delete(t.Context(), "ab/cd"), "Reachable": s.Reachable(t.Context())} {
			require.ErrorIs(t, err, storage.ErrUnavailable, name)
			require.NotErrorIs(t, err, storage.ErrNotFound, name)
		}
	})
	t.Run("AProbeWritesReadsAndRemoves", func(t *testing.T) {
		require.NoError(t, p.open(t, "files", "").Reachable(t.Context()))
		nothingIsLeft(t)
	})
}

func TestS3(t *testing.T) {
	d := newDouble(t)
	testS3(t, place{endpoint: d.url, left: d.left})
}

func TestS3ThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(r *http.Request) (status int, code string)
		part   string // of the error's text
	}{
		"Full": {func(r *http.Request) (int, string) {
			return onWrite(r, http.StatusInsufficientStorage, "XMinioStorageFull")
		}, "XMinioStorageFull"},
		"AWrongSecret":          {func(*http.Request) (int, string) { return http.StatusForbidden, "SignatureDoesNotMatch" }, "SignatureDoesNotMatch"},
		"MayNotWrite":           {func(r *http.Request) (int, string) { return onWrite(r, http.StatusForbidden, "AccessDenied") }, "AccessDenied"},
		"AnotherRegion":         {func(*http.Request) (int, string) { return http.StatusMovedPermanently, "PermanentRedirect" }, "PermanentRedirect"},
		"NotAnS3ServerAtAll":    {func(*http.Request) (int, string) { return http.StatusNotFound, "" }, "404"},
		"TheEndIsNotAcceptable": {func(r *http.Request) (int, string) { return onEnd(r, http.StatusBadRequest, "InvalidPart") }, "InvalidPart"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t)
			s := place{endpoint: d.url}.open(t, "files", "")
			d.refuse = c.refuse
			_, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 20<<20)), 20<<20)
			require.ErrorIs(t, err, storage.ErrUnavailable)
			require.ErrorContains(t, err, c.part)
			d.refuse = nil
			objects, uploads := d.left(t)
			require.Zero(t, objects+uploads)
		})
	}
	t.Run("OnlyAMissingKeyIsMissingContent", func(t *testing.T) {
		d := newDouble(t)
		s := place{endpoint: d.url}.open(t, "files", "")
		for code, status := range map[string]int{"NoSuchBucket": 404, "NotFound": 404, "": 404, "PermanentRedirect": 301, "InvalidObjectState": 403} {
			d.refuse = func(*http.Request) (int, string) { return status, code }
			_, err := s.Get(t.Context(), "ab/cd")
			require.ErrorIs(t, err, storage.ErrUnavailable, code)
			require.NotErrorIs(t, err, storage.ErrNotFound, code)
			require.ErrorIs(t, s.Delete(t.Context(), "ab/cd"), storage.ErrUnavailable, code)
		}
	})
	t.Run("AnAnswerThatIsLostLeavesNothing", func(t *testing.T) {
		d := newDouble(t)
		s := place{endpoint: d.url}.open(t, "files", "")
		d.hangUp = true
		_, err := s.Put(t.Context(), strings.NewReader("x"), 1)
		require.ErrorIs(t, err, storage.ErrUnavailable)
		objects, _ := d.left(t)
		require.Zero(t, objects)
	})
	t.Run("ContentThatBreaksOffIsAFaultOfTheStore", func(t *testing.T) {
		d := newDouble(t)
		s := place{endpoint: d.url}.open(t, "files", "")
		o, err := s.Put(t.Context(), strings.NewReader("content"), 10)
		require.NoError(t, err)
		d.short = true
		r, err := s.Get(t.Context(), o.Key)
		require.NoError(t, err)
		_, err = io.ReadAll(r)
		require.ErrorIs(t, err, storage.ErrUnavailable)
		require.NoError(t, r.Close())
	})
	t.Run("NobodyListens", func(t *testing.T) {
		d := newDouble(t)
		s := place{endpoint: d.url}.open(t, "files", "&request_checksum_calculation=when_required")
		d.server.Close()
		require.ErrorIs(t, s.Delete(t.Context(), "ab/cd"), storage.ErrUnavailable)
	})
	t.Run("DeletingIsOneRequestAKey", func(t *testing.T) {
		d := newDouble(t)
		s := place{endpoint: d.url}.open(t, "files", "")
		var asked []string
		d.refuse = func(r *http.Request) (int, string) { asked = append(asked, r.Method); return 0, "" }
		require.NoError(t, s.Delete(t.Context(), "ab/cd", "ab/ce"))
		require.Equal(t, []string{"DELETE", "DELETE"}, asked)
	})
}

func onWrite(r *http.Request, status int, code string) (int, string) {
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		return status, code
	}
	return 0, ""
}

// onEnd answers the end of an upload in parts.
func onEnd(r *http.Request, status int, code string) (int, string) {
	if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
		return status, code
	}
	return 0, ""
}

// double answers as an S3 server does, with parts. Its error answers are taken from MinIO and the S3 reference.
type double struct {
	url    string
	server *httptest.Server
	// refuse answers first; status 0 lets the request through. hangUp accepts an object and closes the connection without an answer.
	// short promises more content than it sends.
	refuse        func(r *http.Request) (status int, code string)
	hangUp, short bool

	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string][][]byte // by upload
	keys    map[string]string
}

func newDouble(t *testing.T) *double {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	d := &double{objects: map[string][]byte{}, parts: map[string][][]byte{}, keys: map[string]string{}}
	d.server = httptest.NewServer(d)
	t.Cleanup(d.server.Close)
	d.url = d.server.URL
	return d
}

func (d *double) left(*testing.T) (objects, uploads int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.objects), len(d.parts)
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		body = unframed(body)
	}
	if d.refuse != nil {
		if status, code := d.refuse(r); status != 0 {
			refuse(w, r, status, code)
			return
		}
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	upload := q.Get("uploadId")
	switch object, known := d.objects[key]; {
	case bucket != "files":
		refuse(w, r, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet && q.Has("uploads"):
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult>")
		for id, at := range d.keys {
			if strings.HasPrefix(at, q.Get("prefix")) && d.parts[id] != nil {
				_, _ = fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", at, id)
			}
		}
		_, _ = io.WriteString(w, "</ListMultipartUploadsResult>")
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := fmt.Sprintf("upload%d", len(d.keys)+1)
		d.parts[id], d.keys[id] = [][]byte{}, key
		_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case r.Method == http.MethodPut && upload != "":
		d.parts[upload] = append(d.parts[upload], body)
		w.Header().Set("ETag", `"part"`)
	case r.Method == http.MethodPost && upload != "":
		d.objects[key] = bytes.Join(d.parts[upload], nil)
		delete(d.parts, upload)
		_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>")
	case r.Method == http.MethodDelete && upload != "":
		delete(d.parts, upload)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		d.objects[key] = body
		if d.hangUp {
			panic(http.ErrAbortHandler)
		}
	case r.Method == http.MethodDelete:
		delete(d.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case !known:
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
	case d.short:
		w.Header().Set("Content-Length", fmt.Sprint(len(object)+1))
		_, _ = w.Write(object)
	default:
		_, _ = w.Write(object)
	}
}

// refuse sends the reason, except for HEAD, which has no body.
func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.WriteHeader(status)
	if code != "" && r.Method != http.MethodHead {
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}{Code: code})
	}
}

// unframed extracts the content from signed chunks: size in hex, extensions, line, content, line; then trailers.
func unframed(body []byte) (content []byte) {
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		var size int
		if _, err := fmt.Sscanf(string(line), "%x", &size); !ok || err != nil || size == 0 {
			return content
		}
		content, body = append(content, rest[:size]...), rest[size+2:]
	}
}
