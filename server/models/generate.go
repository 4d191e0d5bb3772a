package models

import (
	"bytes"
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
	"time"
	"unicode/utf8"

	"kijko/server/api"
	"kijko/worker/llm"
)

// The limits of a form, and the model of a request that names none.
const (
	maxFiles      = 10
	maxFile       = 10 << 20
	maxForm       = maxFiles*maxFile + 2<<20
	generateModel = "gemini-3-flash-preview"
	// waitForRoom is how long a form waits while other forms hold the memory.
	waitForRoom = 5 * time.Second
)

// images are the image types that all providers accept.
var images = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true}

// generation is the content of a request of /ai/generate, from JSON or from a form.
type generation struct {
	Prompt string `json:"prompt"`
	Model  string `json:"model"`
	images []llm.Part
	texts  strings.Builder
	files  int
}

// generateContent answers POST /ai/generate.
func (f *Feature) generateContent(c *api.Call) error {
	var g generation
	if c.Body != nil {
		if err := c.Decode(&g); err != nil {
			return err
		}
	} else {
		room, err := f.room(c)
		if err != nil {
			return err
		}
		defer f.attached.Release(room)
		if err := g.read(c); err != nil {
			return reading(c, err)
		}
	}
	if strings.TrimSpace(g.Prompt) == "" && g.files == 0 {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The prompt must not be blank.", "prompt")
	}
	if len(g.Prompt) > maxText {
		return tooLarge("The prompt is larger than 1 MB.", "prompt", maxText)
	}
	if g.Model == "" {
		g.Model = generateModel
	}
	r := llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: g.parts()}}}
	q, err := f.admit(c, g.Model, r)
	if err != nil {
		return err
	}
	return f.Answer(c, q, false, func(_ context.Context, r llm.Result) (any, error) { return r.Text, nil })
}

// parts returns the images, then the prompt with the texts of the files.
func (g *generation) parts() []llm.Part {
	text := strings.TrimSpace(g.Prompt + g.texts.String())
	if text == "" {
		return g.images
	}
	return append(g.images, llm.Part{Text: text})
}

// room waits until the process may hold another form.
func (f *Feature) room(c *api.Call) (int64, error) {
	size := int64(c.Ctx.Request().Header.ContentLength())
	if size < 0 || size > maxForm {
		size = maxForm
	}
	ctx, cancel := context.WithTimeout(c.Context(), waitForRoom)
	defer cancel()
	if err := f.attached.Acquire(ctx, size); err != nil {
		return 0, checked(api.Unavailable("SERVICE_UNAVAILABLE", "Too many files are being sent at the moment. Please try again.", err), true)
	}
	return size, nil
}

func tooLarge(message, field string, limit int) error {
	p := api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", message, field)
	p.Details, _ = json.Marshal(map[string]int{"maxBytes": limit})
	return checked(p, false)
}

// read reads a form; its parts may come in any order.
func (g *generation) read(c *api.Call) error {
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The content type must be application/json or multipart/form-data.", "")
	}
	form := multipart.NewReader(io.LimitReader(c.Stream(), maxForm), params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch part.FormName() {
		case "prompt":
			g.Prompt, err = field(part, "prompt", maxText)
		case "model":
			g.Model, err = field(part, "model", 100)
		case "files", "files[]", "file":
			err = g.add(part)
		}
		if err != nil {
			return err
		}
	}
}

func field(part io.Reader, name string, limit int) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(part, int64(limit)+1))
	switch {
	case err != nil:
		return "", err
	case len(raw) > limit:
		return "", tooLarge("The "+name+" is too long.", name, limit)
	case !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0:
		return "", api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The "+name+" is not valid text.", name)
	}
	return string(raw), nil
}

// add adds a file: an image is passed on, text is appended to the prompt. The file's content determines its type.
func (g *generation) add(part *multipart.Part) error {
	name := fmt.Sprintf("files[%d]", g.files)
	if g.files++; g.files > maxFiles {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A request carries at most 10 files.", "files")
	}
	raw, err := io.ReadAll(io.LimitReader(part, maxFile+1))
	if err != nil {
		return err
	}
	if len(raw) > maxFile {
		return tooLarge("A file is larger than 10 MB.", name, maxFile)
	}
	kind, isImage, err := KindOf(raw, name)
	switch {
	case err != nil:
		return err
	case isImage:
		g.images = append(g.images, llm.Part{Image: &llm.Image{MediaType: kind, Data: raw}})
	default:
		fmt.Fprintf(&g.texts, "\n\n--- %s ---\n%s", Title(part.FileName()), raw)
	}
	return nil
}

// KindOf returns the media type of a file for a model: an image, or text. The file's content determines it; field names the file in a refusal.
func KindOf(raw []byte, field string) (kind string, isImage bool, err error) {
	kind = http.DetectContentType(raw)
	switch {
	case len(raw) == 0:
		return "", false, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The file is empty.", field)
	case images[kind]:
		return kind, true, nil
	case utf8.Valid(raw) && bytes.IndexByte(raw, 0) < 0:
		return "text/plain", false, nil
	}
	return "", false, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A model reads text, PNG, JPEG, GIF and WebP.", field)
}

// Title returns a file's name on one line.
func Title(name string) string {
	name = path.Base(strings.ReplaceAll(strings.ToValidUTF8(name, ""), `\`, "/"))
	name = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)), " ")
	if name == "" || name == "." || name == "/" {
		return "file"
	}
	return name
}

// reading distinguishes a client's error from a failure of the server.
func reading(c *api.Call, err error) error {
	var p *api.Problem
	if errors.As(err, &p) {
		// The rest of the form is not read.
		c.Ctx.Context().SetConnectionClose()
		return err
	}
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The form ended too early or is malformed.", "").Because(err)
}
