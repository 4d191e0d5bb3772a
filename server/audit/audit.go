// Package audit answers the operations of the audit log that return files. The rest of the audit log is in db/code/audit. The files are
// read page by page from Postgres, each page in a transaction of its own and authorized like any request.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"

	"kijko/server/api"
	"kijko/worker/audit"
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
	return map[string]api.Handler{
		"exportAuditLog": f.export, "exportAuditLogAtAlias": f.export, "downloadAuditFile": f.download, "exportLoginHistory": f.history,
	}
}

// Close has nothing to close.
func (*Feature) Close() error { return nil }

// export writes the entries that fit. The first call authorizes, counts, and keeps a schedule, under the request's Idempotency-Key. A
// replay returns the same entries again.
func (f *Feature) export(c *api.Call) error {
	answer, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return err
	}
	var begun struct {
		Format   string          `json:"format"`
		Filters  json.RawMessage `json:"filters"`
		Until    string          `json:"until"`
		FileName string          `json:"fileName"`
	}
	if err := json.Unmarshal(answer.Body, &begun); err != nil {
		return err
	}
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	pages := f.pages(c, "audit_download_page", func(after json.RawMessage) any {
		return map[string]any{"format": begun.Format, "filters": begun.Filters, "until": begun.Until, "after": after}
	})
	return c.File(begun.FileName, audit.ContentType(begun.Format), func(ctx context.Context, w io.Writer) error {
		return audit.Write(ctx, w, begun.Format, pages)
	})
}

// pages reads pages as the caller. A page is not a request of the client, so it has no Idempotency-Key.
func (f *Feature) pages(c *api.Call, function string, arguments func(after json.RawMessage) any) audit.Pages {
	caller, requestID, ip, device := c.Caller, c.RequestID, c.ClientIP, c.Device
	return func(ctx context.Context, after json.RawMessage) (audit.Page, error) {
		raw, err := json.Marshal(arguments(after))
		if err != nil {
			return audit.Page{}, err
		}
		answer, err := f.Exec.Run(ctx, &api.Request{Caller: caller, SQL: api.ProcedureSQL(function + "($1)"), Args: []any{raw}, RequestID: requestID,
			ClientIP: ip, Device: device})
		if err != nil {
			return audit.Page{}, err
		}
		var page audit.Page
		return page, json.Unmarshal(answer.Body, &page)
	}
}

// history writes all of the caller's sign-ins.
func (f *Feature) history(c *api.Call) error {
	answer, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return err
	}
	var first struct {
		audit.Page
		FileName string `json:"fileName"`
	}
	if err := json.Unmarshal(answer.Body, &first); err != nil {
		return err
	}
	rest := f.pages(c, "login_history_csv", func(after json.RawMessage) any { return after })
	return c.File(first.FileName, audit.ContentType("csv"), func(ctx context.Context, w io.Writer) error {
		return audit.Write(ctx, w, "csv", func(ctx context.Context, after json.RawMessage) (audit.Page, error) {
			if after == nil {
				return first.Page, nil
			}
			return rest(ctx, after)
		})
	})
}

// download returns the file of a mailed link. The token is the only credential, and it is compared by its hash.
func (f *Feature) download(c *api.Call) error {
	answer, err := c.Server(c.Context(), "take_audit_file", c.Params)
	if err != nil {
		return err
	}
	var file struct {
		Key      string `json:"key"`
		FileName string `json:"fileName"`
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
	format := strings.TrimPrefix(path.Ext(file.FileName), ".")
	return c.File(file.FileName, audit.ContentType(format), func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, content)
		return errors.Join(err, content.Close())
	})
}
