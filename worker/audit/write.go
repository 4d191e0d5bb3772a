// Package audit writes exports of the audit log, as CSV, JSON or PDF, from the pages that SQL returns. The server writes them to a client,
// the worker to storage; the package depends on neither. It holds one page at a time. A PDF has to be complete before its first byte is
// written, so PDFs are made one after the other.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Page is a piece of an export: lines of CSV, elements of a JSON list, or rows of cells as JSON.
type Page struct {
	Content string          `json:"content"`
	After   json.RawMessage `json:"after"`
}

// Pages returns the page after a position; nil is the beginning.
type Pages func(ctx context.Context, after json.RawMessage) (Page, error)

// ContentType returns the media type of a format.
func ContentType(format string) string {
	switch format {
	case "csv":
		return "text/csv; charset=utf-8"
	case "pdf":
		return "application/pdf"
	}
	return "application/json"
}

// Write writes the file.
func Write(ctx context.Context, w io.Writer, format string, pages Pages) error {
	switch format {
	case "csv":
		return each(ctx, pages, func(content string) error {
			_, err := io.WriteString(w, content)
			return err
		})
	case "json":
		return writeJSON(ctx, w, pages)
	case "pdf":
		return writePDF(ctx, w, pages)
	}
	return fmt.Errorf("audit: format %q is unknown", format)
}

func each(ctx context.Context, pages Pages, take func(content string) error) error {
	var after json.RawMessage
	for {
		page, err := pages(ctx, after)
		if err != nil {
			return err
		}
		if err := take(page.Content); err != nil {
			return err
		}
		if after = page.After; after == nil {
			return nil
		}
	}
}

func writeJSON(ctx context.Context, w io.Writer, pages Pages) error {
	before, end := "[\n", "[]\n"
	err := each(ctx, pages, func(content string) error {
		if content == "" {
			return nil
		}
		_, err := io.WriteString(w, before+content)
		before, end = ",\n", "\n]\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, end)
	return err
}
