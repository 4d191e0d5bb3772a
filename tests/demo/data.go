package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// data asks for a file of all of the person's data, waits for it, and lists what is in it.
func (d *demo) data(ctx context.Context) error {
	var export struct {
		ID, Status, FileURL string
		FileSize            int
	}
	if err := d.call(ctx, "POST", "/api/v1/data/export", map[string]any{"type": "full"}, &export); err != nil {
		return err
	}
	for export.Status != "ready" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := d.call(ctx, "GET", "/api/v1/data/exports/"+export.ID, nil, &export); err != nil {
			return err
		}
		if export.Status == "failed" {
			return fmt.Errorf("the export of the data failed")
		}
	}
	// The link authorizes itself. Its origin is that of the installation, which need not be reachable from here.
	_, path, _ := strings.Cut(export.FileURL, "/api/v1/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	file, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return fmt.Errorf("the export of the data: %w", err)
	}
	in, err := archive.Open("manifest.json")
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	var manifest struct {
		Files []struct {
			Name    string
			Records int
		}
	}
	if err := json.NewDecoder(in).Decode(&manifest); err != nil {
		return err
	}
	kept, err := os.CreateTemp("", "kijko-demo-*.zip")
	if err != nil {
		return err
	}
	if _, err := kept.Write(file); err != nil {
		return errors.Join(err, kept.Close())
	}
	if err := kept.Close(); err != nil {
		return err
	}
	d.say("\ndownloaded all data of the account: %s, %s bytes", kept.Name(), thousands(len(file)))
	for _, f := range manifest.Files {
		d.say("  %-20s %s records", f.Name, thousands(f.Records))
	}
	return nil
}
