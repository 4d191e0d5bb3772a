package projects

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path"
	"strings"

	"kijko/db"
	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/storage"
)

// errRequestTooLarge ends the reading of a request beyond its limit.
var errRequestTooLarge = errors.New("the request is larger than 250 MiB")

// capped reads at most n bytes and then fails. io.LimitReader would report the end of the body instead.
type capped struct {
	r io.Reader
	n int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.n <= 0 {
		// The limit is exceeded only if there is another byte.
		var one [1]byte
		if n, err := c.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errRequestTooLarge
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

func tooLarge(limit int64) error {
	p := api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The request body is too large.", "")
	p.Details, _ = json.Marshal(map[string]int64{"maxBytes": limit})
	return p
}

func unreadable(message string) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", message, "")
}

// uploadFiles answers POST /files/upload.
func (f *Feature) uploadFiles(c *api.Call) error {
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	if err != nil {
		return unreadable("The content type must be multipart/form-data or application/json.")
	}
	b := f.newBatch()
	var projectID string
	switch {
	case kind == "application/json":
		projectID, err = f.readJSON(c, b)
	case kind == "multipart/form-data" && params["boundary"] != "":
		projectID, err = f.readParts(c, b, params["boundary"])
	default:
		return unreadable("The content type must be multipart/form-data or application/json.")
	}
	if err == nil && len(b.files) == 0 {
		err = api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The request carries no files.", "files")
	}
	if err != nil {
		f.discard(c, keysOf(b.files))
		return f.readingProblem(c, err)
	}
	return f.register(c, b, projectID)
}

// readingProblem distinguishes a client's error from a failure of the server.
func (f *Feature) readingProblem(c *api.Call, err error) error {
	var p *api.Problem
	var header textproto.ProtocolError
	switch {
	case errors.As(err, &p), errors.Is(err, storage.ErrUnavailable):
		return err
	case errors.As(err, &header):
		return unreadable("A part of the form has a malformed header.")
	case errors.Is(err, errRequestTooLarge):
		c.Ctx.Context().SetConnectionClose()
		return tooLarge(maxRequest)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, multipart.ErrMessageTooLarge),
		strings.HasPrefix(err.Error(), "multipart:"):
		return unreadable("The request body ended too early or is malformed.")
	}
	return fmt.Errorf("store uploads: %w", err)
}

// readParts streams a form. The fields may come in any order: paths are matched to files by their index.
func (f *Feature) readParts(c *api.Call, b *batch, boundary string) (projectID string, err error) {
	form := multipart.NewReader(&capped{r: c.Stream(), n: maxRequest}, boundary)
	var paths []string
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			b.place(paths)
			return projectID, nil
		}
		if err != nil {
			return "", err
		}
		switch part.FormName() {
		case "files", "file", "files[]":
			err = b.add(c.Context(), fileName(part), part.Header.Get("Content-Type"), part)
		case "paths", "paths[]":
			if len(paths) == maxFiles {
				return "", api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A request carries at most 1,000 paths.", "paths")
			}
			var text string
			text, err = field(part)
			paths = append(paths, text)
		case "projectId":
			projectID, err = field(part)
			// A value that is not valid text is not an id either, and is refused as such.
			if projectID = db.Text(projectID); err == nil {
				err = f.admit(c, projectID)
			}
		default:
			_, err = io.Copy(io.Discard, part)
		}
		if err != nil {
			return "", err
		}
	}
}

// admit checks whether the caller may upload there, before more content is read. This only saves time: registering checks again. It is
// skipped under an Idempotency-Key, since a key belongs to one call.
func (f *Feature) admit(c *api.Call, projectID string) error {
	if projectID == "" || len(c.Ctx.Request().Header.Peek("Idempotency-Key")) > 0 {
		return nil
	}
	_, err := c.Query(c.Context(), "admit_upload", map[string]string{"projectId": projectID})
	return err
}

// fileName returns the sent name without folders. Part.FileName would drop names that are legal here.
func fileName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return part.FileName()
	}
	name := strings.ReplaceAll(params["filename"], `\`, "/")
	if strings.HasSuffix(name, "/") || name == "" {
		return name
	}
	return path.Base(name)
}

// isStorable reports whether Postgres can store the text.
func isStorable(s string) bool { return db.Text(s) == s }

func field(part *multipart.Part) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(part, maxField))
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, part)
	return strings.TrimSpace(string(raw)), err
}

// readJSON reads contents as text, for clients that cannot send forms. The body is at most 10 MiB and is held in memory.
func (f *Feature) readJSON(c *api.Call, b *batch) (projectID string, err error) {
	raw, err := io.ReadAll(io.LimitReader(c.Stream(), maxJSON+1))
	if err != nil {
		return "", err
	}
	if len(raw) > maxJSON {
		c.Ctx.Context().SetConnectionClose()
		return "", tooLarge(maxJSON)
	}
	var body struct {
		ProjectID *string `json:"projectId"`
		Files     []struct {
			Name    *string `json:"name"`
			Path    string  `json:"path"`
			Type    string  `json:"type"`
			Content string  `json:"content"`
		} `json:"files"`
	}
	if err := exactjson.Unmarshal(raw, &body); err == nil && !exactjson.IsText(raw) {
		return "", unreadable("Text must be UTF-8 and must not contain half a surrogate pair. Files that are no text are sent as a form.")
	} else if err != nil {
		return "", unreadable("The request body must be {projectId?, files: [{name, path?, type?, content}]}.")
	}
	if body.ProjectID != nil {
		projectID = db.Text(*body.ProjectID)
	}
	if err := f.admit(c, projectID); err != nil {
		return "", err
	}
	paths := make([]string, 0, len(body.Files))
	for i, one := range body.Files {
		if one.Name == nil {
			return "", api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "Each file needs a name.", fmt.Sprintf("files[%d].name", i))
		}
		if err := b.add(c.Context(), *one.Name, one.Type, strings.NewReader(one.Content)); err != nil {
			return "", err
		}
		paths = append(paths, one.Path)
	}
	b.place(paths)
	return projectID, nil
}

// createTextSource answers POST /projects/{projectId}/text-sources.
func (f *Feature) createTextSource(c *api.Call) error {
	var body struct {
		Title   string `json:"title"`
		Content string `json:"content"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if strings.TrimSpace(body.Content) == "" {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The text must not be blank.", "content")
	}
	projectID := c.Path("projectId")
	if err := f.admit(c, projectID); err != nil {
		return err
	}
	o, err := f.store.Put(c.Context(), strings.NewReader(body.Content), int64(len(body.Content)))
	if err != nil {
		return fmt.Errorf("store the text: %w", err)
	}
	answer, err := f.call(c, "register_text_source", map[string]any{"projectId": projectID, "title": body.Title, "size": o.Size,
		"checksum": o.SHA256, "storageKey": o.Key, "storageProvider": f.store.Provider()}, []string{o.Key})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}
