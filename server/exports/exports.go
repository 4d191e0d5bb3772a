// Package exports answers the operations of a context whose answers are files. They are read part by part from Postgres, each part in a
// transaction of its own and authorized like any request, and go to the client as they come: no file is held in memory or on disk.
package exports

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/exactjson"
)

// Feature has the handlers of the operations.
type Feature struct {
	Exec *api.Executor
}

// Handlers returns the handlers by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	handlers := map[string]api.Handler{}
	for id, handler := range map[string]api.Handler{
		"exportContextActivity": f.entries("activity_export_page"), "exportContextChangelog": f.entries("changelog_export_page"),
		"downloadOriginals": f.originals, "readContextFile": f.content,
	} {
		handlers[id], handlers[id+openapi.AtAlias] = handler, handler
	}
	return handlers
}

// Close has nothing to close.
func (*Feature) Close() error { return nil }

// file is the answer of the call that checks a download. All of it is an argument of the calls that read the parts.
type file struct {
	Format      string `json:"format"`
	FileName    string `json:"fileName"`
	ContentType string `json:"contentType"`
}

func begin(c *api.Call) (file, map[string]json.RawMessage, error) {
	var f file
	answer, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return f, nil, err
	}
	arguments := map[string]json.RawMessage{}
	return f, arguments, errors.Join(json.Unmarshal(answer.Body, &f), json.Unmarshal(answer.Body, &arguments))
}

// parts calls private.<function> until it says that there is no more, and passes each answer to use.
func (f *Feature) parts(c *api.Call, function string, arguments map[string]json.RawMessage, use func(part json.RawMessage) error) func(context.Context) error {
	caller, requestID, ip, device := c.Caller, c.RequestID, c.ClientIP, c.Device
	return func(ctx context.Context) error {
		for {
			raw, err := json.Marshal(arguments)
			if err != nil {
				return err
			}
			answer, err := f.Exec.Run(ctx, &api.Request{Caller: caller, ReadOnly: true, SQL: api.ProcedureSQL(function + "($1)"), Args: []any{raw},
				RequestID: requestID, ClientIP: ip, Device: device})
			if err != nil {
				return fmt.Errorf("read the next part: %w", err)
			}
			var next struct {
				After json.RawMessage `json:"after"`
			}
			if err := json.Unmarshal(answer.Body, &next); err != nil {
				return err
			}
			if err := use(answer.Body); err != nil || next.After == nil {
				return err
			}
			arguments["after"] = next.After
		}
	}
}

// entries writes a log: each part is text of the file.
func (f *Feature) entries(function string) api.Handler {
	return func(c *api.Call) error {
		file, arguments, err := begin(c)
		if err != nil {
			return err
		}
		var out io.Writer
		parts := f.parts(c, function, arguments, func(part json.RawMessage) error {
			var text struct {
				Content string `json:"content"`
			}
			if err := json.Unmarshal(part, &text); err != nil {
				return err
			}
			_, err := io.WriteString(out, text.Content)
			return err
		})
		return c.File(file.FileName, file.ContentType, func(ctx context.Context, w io.Writer) error {
			out = w
			return parts(ctx)
		})
	}
}

// piece is a file, the beginning of one, or with an empty path the continuation of the last one.
type piece struct {
	Path    string `json:"path"`
	At      int64  `json:"at"`
	Content []byte `json:"content"`
}

// originals writes the files of a version.
func (f *Feature) originals(c *api.Call) error {
	file, arguments, err := begin(c)
	if err != nil {
		return err
	}
	var add func(piece) error
	parts := f.parts(c, "originals_page", arguments, func(part json.RawMessage) error {
		var page struct {
			Parts []piece `json:"parts"`
		}
		if err := json.Unmarshal(part, &page); err != nil {
			return err
		}
		for _, p := range page.Parts {
			if err := add(p); err != nil {
				return err
			}
		}
		return nil
	})
	return c.File(file.FileName, file.ContentType, func(ctx context.Context, w io.Writer) error {
		if file.Format == "txt" {
			add = textFile(w)
			return parts(ctx)
		}
		archive := zip.NewWriter(w)
		add = zipFile(archive)
		if err := parts(ctx); err != nil {
			return err
		}
		return archive.Close()
	})
}

// textFile writes each file behind a line that names its path, and separates files by a line end.
func textFile(w io.Writer) func(piece) error {
	var last byte = '\n'
	first := true
	return func(p piece) error {
		if p.Path != "" {
			gap := "\n"
			if last != '\n' {
				gap = "\n\n"
			}
			if first {
				gap, first = "", false
			}
			if _, err := io.WriteString(w, gap+"===== "+p.Path+" =====\n"); err != nil {
				return err
			}
			last = '\n'
		}
		if len(p.Content) > 0 {
			last = p.Content[len(p.Content)-1]
		}
		_, err := w.Write(p.Content)
		return err
	}
}

// zipFile adds the files to an archive. Git allows names that leave the folder or mean another one to unzip, and archive/zip writes any name:
// such signs become "_". Only changed names can meet an earlier one.
func zipFile(archive *zip.Writer) func(piece) error {
	var entry io.Writer
	changed := map[string]int{}
	return func(p piece) error {
		if p.Path != "" {
			name := safeName(p.Path)
			if name != p.Path {
				if changed[name]++; changed[name] > 0 {
					name += fmt.Sprintf(".%d", changed[name])
				}
			}
			var err error
			entry, err = archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Unix(p.At, 0).UTC()})
			if err != nil {
				return err
			}
		}
		_, err := entry.Write(p.Content)
		return err
	}
}

func safeName(name string) string {
	parts := strings.Split(strings.Map(func(r rune) rune {
		if r == '\\' || r == ':' || unicode.IsControl(r) {
			return '_'
		}
		return r
	}, name), "/")
	for i, part := range parts {
		if part == "" || part == "." || part == ".." {
			parts[i] = "_"
		}
	}
	return strings.Join(parts, "/")
}

// content answers the text of one file. Pieces of a large file are read one after the other.
func (f *Feature) content(c *api.Call) error {
	arguments := map[string]json.RawMessage{}
	if err := exactjson.Unmarshal(c.Params, &arguments); err != nil {
		return err
	}
	type part struct {
		Path    string `json:"path"`
		Binary  bool   `json:"binary"`
		Content []byte `json:"content"`
		Size    int64  `json:"size"`
	}
	read := func(offset int64) (part, error) {
		var p part
		arguments["offset"], _ = json.Marshal(offset)
		answer, err := c.Query(c.Context(), "read_context_file", arguments)
		if err != nil {
			return p, err
		}
		return p, json.Unmarshal(answer.Body, &p)
	}
	first, err := read(0)
	if err != nil {
		return err
	}
	whole := append(make([]byte, 0, first.Size), first.Content...)
	for int64(len(whole)) < first.Size {
		next, err := read(int64(len(whole)))
		if err != nil {
			return err
		}
		if len(next.Content) == 0 || next.Size != first.Size {
			return api.NewProblem(http.StatusNotFound, "FILE_NOT_FOUND", "The file changed while it was read. Please read it again.", "")
		}
		whole = append(whole, next.Content...)
	}
	contentType := "text/plain; charset=utf-8"
	if first.Binary {
		contentType = "application/octet-stream"
		c.Ctx.Set(fiber.HeaderContentDisposition, fmt.Sprintf("attachment; filename=%q", ascii(path.Base(first.Path))))
	}
	c.Ctx.Set(fiber.HeaderContentType, contentType)
	c.Ctx.Set(fiber.HeaderCacheControl, "no-store")
	c.Ctx.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	return c.Ctx.Status(http.StatusOK).Send(whole)
}

// ascii replaces what a quoted file name in a header cannot have.
func ascii(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, name)
}
