package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"

	"kijko/server/api"
)

// maxConfig bounds a text field of a form of ReceiveForm.
const maxConfig = 64 << 10

// Content is what a request of another feature brought into the store, until a function has registered it.
type Content struct {
	f *Feature
	// Stored describes the content for the registering function: {files: [...]} or {text: {...}}.
	Stored map[string]any
	keys   []string
}

// ReceiveForm stores the files of a form. field gets the other fields, in their order among the files. A file that an upload would refuse is
// left out; when none is left, the request fails.
func (f *Feature) ReceiveForm(c *api.Call, boundary string, field func(name, text string) error) (*Content, error) {
	b := f.newBatch()
	form := multipart.NewReader(&capped{r: c.Stream(), n: maxRequest}, boundary)
	paths, err := f.readFiles(c.Context(), b, form, field)
	if err == nil && len(b.files) == 0 {
		err = api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The request carries no files.", "files")
	}
	if err != nil {
		f.discard(c, keysOf(b.files))
		return nil, f.readingProblem(c, err)
	}
	b.place(paths)
	good := []*file{}
	var bad []string
	for _, one := range b.files {
		switch {
		case one.reason == "":
			good = append(good, one)
		case one.Key != "":
			bad = append(bad, one.Key)
		}
	}
	f.discard(c, bad)
	if len(good) == 0 {
		first := b.files[0]
		if first.Size == 0 && strings.Contains(first.reason, "larger than") {
			return nil, tooLarge(maxFile)
		}
		return nil, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", first.reason, "files")
	}
	c.SetFingerprint(b.digest.Sum(nil))
	return &Content{f: f, Stored: map[string]any{"files": good}, keys: keysOf(good)}, nil
}

func (f *Feature) readFiles(ctx context.Context, b *batch, form *multipart.Reader, field func(name, text string) error) (paths []string, err error) {
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return paths, nil
		}
		if err != nil {
			return nil, err
		}
		switch part.FormName() {
		case "files", "file", "files[]":
			place := partPath(part)
			paths = append(paths, place)
			err = b.add(ctx, path.Base(place), part.Header.Get("Content-Type"), part)
		default:
			raw, readErr := io.ReadAll(io.LimitReader(part, maxConfig+1))
			if err = readErr; err == nil && len(raw) > maxConfig {
				err = tooLarge(maxConfig)
			}
			if err == nil {
				fmt.Fprintf(b.digest, "%q %q\n", part.FormName(), raw)
				err = field(part.FormName(), string(raw))
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// partPath returns the sent name with its folders. Part.FileName would drop them.
func partPath(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return part.FileName()
	}
	return strings.ReplaceAll(params["filename"], `\`, "/")
}

// ReceiveText stores a text.
func (f *Feature) ReceiveText(c *api.Call, title, content string) (*Content, error) {
	o, err := f.store.Put(c.Context(), strings.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, fmt.Errorf("store the text: %w", err)
	}
	return &Content{f: f, keys: []string{o.Key}, Stored: map[string]any{"text": map[string]any{"title": title, "size": o.Size, "checksum": o.SHA256,
		"storageKey": o.Key, "storageProvider": f.store.Provider()}}}, nil
}

// Register calls a function that registers the content, and deletes what it did not. The function's answer may have a member `refused`, the
// keys of content that no row names; it is taken out of the answer.
func (n *Content) Register(c *api.Call, function string, p map[string]any) (api.Answer, error) {
	p["stored"] = n.Stored
	answer, err := n.f.call(c, function, p, n.keys)
	if err != nil {
		return answer, err
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(answer.Body, &members); err != nil {
		return answer, fmt.Errorf("%s: %w", function, err)
	}
	if members["refused"] != nil {
		var refused []string
		if err := json.Unmarshal(members["refused"], &refused); err != nil {
			return answer, fmt.Errorf("%s: %w", function, err)
		}
		if answer.Headers["Idempotency-Replayed"] == "" {
			n.f.discard(c, refused)
		}
		delete(members, "refused")
		if answer.Body, err = json.Marshal(members); err != nil {
			return answer, err
		}
	}
	return answer, nil
}
