package projects

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"kijko/db"
	"kijko/server/api"
	"kijko/worker/ingestion/source"
	"kijko/worker/storage"
)

// The limits of contract 10, section 15.1.
const (
	maxFile    = 50 << 20
	maxArchive = 200 << 20
	maxFiles   = 1_000
	maxRequest = 250 << 20
	maxJSON    = 10 << 20
	// A path of 1,000 characters has at most 4,000 bytes; longer fields are cut off and refused as too long.
	maxField = 8 << 10
)

// file is one input of a request. It is either left out for a reason, or its content is stored under Key.
type file struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Type     string `json:"type"`
	Size     int64  `json:"size"`
	Checksum string `json:"checksum"`
	Key      string `json:"storageKey"`
	Provider string `json:"storageProvider"`
	reason   string
}

// problem is an entry of `errors`.
type problem struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// batch is the content of one request during its upload to the store.
type batch struct {
	store  *storage.Store
	files  []*file
	digest hash.Hash
}

func (f *Feature) newBatch() *batch { return &batch{store: f.store, digest: sha256.New()} }

// add stores one file. Problems of the file are recorded; the error is about the request or the store.
func (b *batch) add(ctx context.Context, name, mimeType string, r io.Reader) error {
	if len(b.files) == maxFiles {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A request carries at most 1,000 files.", "files")
	}
	limit, label := int64(maxFile), "50 MiB"
	if source.IsArchive(name) {
		limit, label = maxArchive, "200 MiB"
	}
	f := &file{Name: name, Type: mimeType, Provider: b.store.Provider()}
	b.files = append(b.files, f)
	in := bufio.NewReaderSize(r, 64<<10)
	if f.Type == "" {
		head, _ := in.Peek(512) // a shorter file gives all its bytes
		f.Type = http.DetectContentType(head)
	}
	o, err := b.store.Put(ctx, in, limit)
	switch {
	case errors.Is(err, storage.ErrTooLarge):
		f.reason = "The file is larger than " + label + "."
		// The rest of the part is skipped; the request's own limit bounds it.
		_, err = io.Copy(io.Discard, in)
		return err
	case err != nil:
		return err
	}
	f.Key, f.Size, f.Checksum = o.Key, o.Size, o.SHA256
	if f.Size == 0 {
		f.reason = "The file is empty."
	}
	return nil
}

// place sets the path of every file (by index; the name if no path came) and checks it.
func (b *batch) place(paths []string) {
	for i, f := range b.files {
		wanted := f.Name
		if i < len(paths) && paths[i] != "" {
			wanted = paths[i]
		}
		fmt.Fprintf(b.digest, "%q %q %s\n", f.Name, wanted, f.Checksum)
		if f.Name == "" {
			f.Name = path.Base(strings.ReplaceAll(wanted, `\`, "/"))
		}
		if !isStorable(f.Name) || !isStorable(f.Type) {
			f.reason, f.Name = "The name or the type is no text.", db.Text(f.Name)
		}
		if f.reason != "" {
			continue
		}
		clean, err := source.CleanPath(wanted)
		switch {
		case err != nil:
			f.reason = err.Error()
		case len([]rune(f.Type)) > source.MaxType:
			f.reason = "The type is longer than 100 characters."
		default:
			f.Path = clean
		}
	}
}

// register passes the accepted files to Postgres and answers the operation. projectID "" stages them.
func (f *Feature) register(c *api.Call, b *batch, projectID string) error {
	fmt.Fprintf(b.digest, "%q", projectID)
	c.SetFingerprint(b.digest.Sum(nil))
	good, failed := []*file{}, []problem{}
	var bad []string
	for _, one := range b.files {
		if one.reason == "" {
			good = append(good, one)
			continue
		}
		failed = append(failed, problem{one.Name, one.reason})
		if one.Key != "" {
			bad = append(bad, one.Key)
		}
	}
	f.discard(c, bad)
	answer := struct {
		Uploaded json.RawMessage `json:"uploaded"`
		Errors   []problem       `json:"errors"`
	}{json.RawMessage("[]"), failed}
	if len(good) > 0 {
		reply, err := f.call(c, "register_uploads", map[string]any{"projectId": projectID, "files": good}, keysOf(good))
		if err != nil {
			return err
		}
		var registered struct {
			Uploaded json.RawMessage `json:"uploaded"`
			Errors   []problem       `json:"errors"`
			Refused  []string        `json:"refused"`
		}
		if err := json.Unmarshal(reply.Body, &registered); err != nil {
			return fmt.Errorf("read what was registered: %w", err)
		}
		f.discard(c, registered.Refused)
		answer.Uploaded = registered.Uploaded
		answer.Errors = append(answer.Errors, registered.Errors...)
	}
	return c.JSON(answer)
}

// call runs a registering function and deletes the content again if it was not registered.
func (f *Feature) call(c *api.Call, function string, p any, keys []string) (api.Answer, error) {
	answer, err := c.Query(c.Context(), function, p)
	switch {
	case err == nil && answer.Headers["Idempotency-Replayed"] != "":
		// The first request's content is registered; that of this request is not.
		f.discard(c, keys)
	case err != nil && isRefusal(err):
		f.discard(c, keys)
	case err != nil:
		f.log.WarnContext(c.Context(), "stored content may be without a row", "function", function, "keys", keys, "err", err)
	}
	return answer, err
}

// isRefusal reports that the transaction certainly did not commit.
func isRefusal(err error) bool {
	var p *api.Problem
	var pg *pgconn.PgError
	return errors.As(err, &p) || errors.As(err, &pg)
}

// discard deletes content that no row refers to, even if the request has been canceled.
func (f *Feature) discard(c *api.Call, keys []string) {
	if len(keys) == 0 {
		return
	}
	if err := f.store.Delete(context.WithoutCancel(c.Context()), keys...); err != nil {
		f.log.WarnContext(c.Context(), "content could not be deleted", "err", err)
	}
}

func keysOf(files []*file) []string {
	keys := make([]string, 0, len(files))
	for _, f := range files {
		if f.Key != "" {
			keys = append(keys, f.Key)
		}
	}
	return keys
}
