package chat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"

	"kijko/server/api"
	"kijko/server/models"
)

// The limits of a form.
const (
	maxFiles = 10
	maxFile  = 10 << 20
	maxForm  = maxFiles*maxFile + 2<<20
)

// stored is a file for register_attachments.
type stored struct {
	Name            string `json:"name"`
	MimeType        string `json:"mimeType"`
	Size            int64  `json:"size"`
	IsImage         bool   `json:"isImage"`
	Checksum        string `json:"checksum"`
	StorageKey      string `json:"storageKey"`
	StorageProvider string `json:"storageProvider"`
}

// addAttachments answers POST /contexts/{contextId}/chat/attachments. Content without a row is deleted again; when it is unknown whether the
// rows were committed, it stays.
func (f *Feature) addAttachments(c *api.Call) error {
	if _, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, ReadOnly: true, Needs: c.Op.Scope, SQL: api.CallSQL("admit_attachments"), Args: []any{c.Params},
		RequestID: c.RequestID, ClientIP: c.ClientIP}); err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The content type must be multipart/form-data.", "")
	}
	files, sum, err := f.receive(c, params["boundary"])
	if err == nil && len(files) == 0 {
		err = api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The request carries no files.", "files")
	}
	if err != nil {
		f.discard(c, files)
		var p *api.Problem
		if errors.As(err, &p) {
			// The rest of the form is not read.
			c.Ctx.Context().SetConnectionClose()
		}
		return err
	}
	c.SetFingerprint(sum)
	answer, err := c.Query(c.Context(), "register_attachments", map[string]any{"contextId": c.Path("contextId"), "files": files})
	switch {
	case err == nil && answer.Headers["Idempotency-Replayed"] != "", err != nil && isRefusal(err):
		f.discard(c, files)
	case err != nil:
		f.Log.WarnContext(c.Context(), "stored content may be without a row", "err", err)
	}
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// isRefusal reports that the transaction certainly did not commit.
func isRefusal(err error) bool {
	var p *api.Problem
	var pg *pgconn.PgError
	return errors.As(err, &p) || errors.As(err, &pg)
}

// receive stores the files of a form one after another; one of them is in memory at a time.
func (f *Feature) receive(c *api.Call, boundary string) (files []stored, sum []byte, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), waitForRoom)
	defer cancel()
	if err := f.attached.Acquire(ctx, maxFile); err != nil {
		return nil, nil, busy(err)
	}
	defer f.attached.Release(maxFile)
	digest := sha256.New()
	form := multipart.NewReader(io.LimitReader(c.Stream(), maxForm), boundary)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return files, digest.Sum(nil), nil
		}
		if err != nil {
			return files, nil, malformed(err)
		}
		switch part.FormName() {
		case "files", "files[]", "file":
		default:
			continue
		}
		file, err := f.keep(c, part, len(files))
		if err != nil {
			return files, nil, err
		}
		fmt.Fprintf(digest, "%q %s\n", file.Name, file.Checksum)
		files = append(files, file)
	}
}

func malformed(cause error) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The form ended too early or is malformed.", "files").Because(cause)
}

// keep stores one file.
func (f *Feature) keep(c *api.Call, part *multipart.Part, n int) (stored, error) {
	field := fmt.Sprintf("files[%d]", n)
	if n == maxFiles {
		return stored{}, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A request carries at most 10 files.", "files")
	}
	raw, err := io.ReadAll(io.LimitReader(part, maxFile+1))
	if err != nil {
		return stored{}, malformed(err)
	}
	if len(raw) > maxFile {
		p := api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "A file is larger than 10 MB.", field)
		p.Details, _ = json.Marshal(map[string]int{"maxBytes": maxFile})
		return stored{}, p
	}
	kind, isImage, err := models.KindOf(raw, field)
	if err != nil {
		return stored{}, err
	}
	o, err := f.Store.Put(c.Context(), bytes.NewReader(raw), maxFile)
	if err != nil {
		return stored{}, err
	}
	return stored{Name: shorten(models.Title(part.FileName()), 255), MimeType: kind, Size: o.Size, IsImage: isImage, Checksum: o.SHA256,
		StorageKey: o.Key, StorageProvider: f.Store.Provider()}, nil
}

// discard deletes content that no row names, also when the request was given up.
func (f *Feature) discard(c *api.Call, files []stored) {
	if len(files) == 0 {
		return
	}
	keys := make([]string, 0, len(files))
	for _, file := range files {
		keys = append(keys, file.StorageKey)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), toStore)
	defer cancel()
	if err := f.Store.Delete(ctx, keys...); err != nil {
		f.Log.WarnContext(ctx, "content could not be deleted", "err", err)
	}
}
