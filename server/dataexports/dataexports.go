// Package dataexports answers the operations of a person's own data that SQL cannot answer alone: the download of a file, and the trail's line
// about data that were given away at once. The rest is in db/code/dataexports.
package dataexports

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"kijko/server/api"
	"kijko/worker/storage"
)

// Files is the storage of written exports (*storage.Store is one).
type Files interface {
	Get(ctx context.Context, key string) (io.ReadCloser, error)
}

// Feature has the handlers of the operations.
type Feature struct {
	Exec  *api.Executor
	Files Files
}

// Handlers returns the handlers by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"downloadDataExport": f.download, "exportMyData": f.export}
}

// Close has nothing to close.
func (*Feature) Close() error { return nil }

// download returns the file of a signed link. The token is the only credential.
func (f *Feature) download(c *api.Call) error {
	answer, err := c.Server(c.Context(), "take_data_export", c.Params)
	if err != nil {
		return err
	}
	var file struct {
		Key      string `json:"key"`
		FileName string `json:"fileName"`
		Size     int    `json:"size"`
	}
	if err := json.Unmarshal(answer.Body, &file); err != nil {
		return err
	}
	content, err := f.Files.Get(context.WithoutCancel(c.Context()), file.Key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return api.NewProblem(http.StatusNotFound, "NOT_FOUND", "This link is not valid any more. Links to exports work for 24 hours.", "")
	case err != nil:
		return err
	}
	return c.SizedFile(file.FileName, "application/zip", file.Size, func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, content)
		return errors.Join(err, content.Close())
	})
}

// export answers with all data of the caller. The operation reads only, so that no Idempotency-Key keeps the answer; the line of the trail is
// written in front of it.
func (f *Feature) export(c *api.Call) error {
	answer, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return err
	}
	if _, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("tell_data_export()"), RequestID: c.RequestID, ClientIP: c.ClientIP,
		Device: c.Device}); err != nil {
		return err
	}
	return c.Reply(answer)
}
