package contexts

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/server/projects"
	"kijko/worker/exactjson"
)

const (
	// maxBody is the largest JSON body: a text of 500,000 characters, each escaped.
	maxBody = 4 << 20
	// maxText is the longest text, in characters (contract 60, 3.3).
	maxText = 500_000
)

// Uploads stores what requests bring (*projects.Feature does).
type Uploads interface {
	ReceiveForm(c *api.Call, boundary string, field func(name, text string) error) (*projects.Content, error)
	ReceiveText(c *api.Call, title, content string) (*projects.Content, error)
	ReceiveSources(c *api.Call, boundary string, extensions []string) (*projects.Content, []string, error)
}

// entrance is an operation that ingests: plain answers a request without content, registers one whose content is stored.
type entrance struct {
	plain, registers string
	// needsConfig: content comes with a configuration.
	needsConfig bool
}

var (
	intoContext = entrance{plain: "create_ingestion", registers: "register_ingestion", needsConfig: true}
	newContext  = entrance{plain: "create_context", registers: "register_context", needsConfig: true}
	intoEntry   = entrance{plain: "attach_ingestion_content", registers: "register_ingestion_content"}
)

// ingest returns the handler of an operation that ingests, and then waits for the run where the operation has an x-wait.
func (f *Feature) ingest(e entrance) api.Handler {
	return func(c *api.Call) error {
		answer, err := f.accept(c, e)
		if err != nil {
			return err
		}
		return f.Finish(c, answer)
	}
}

func (f *Feature) accept(c *api.Call, e entrance) (api.Answer, error) {
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	switch {
	case err == nil && kind == "application/json":
		return f.acceptJSON(c, e)
	case err == nil && kind == "multipart/form-data" && params["boundary"] != "":
		return f.acceptForm(c, e, params["boundary"])
	}
	return api.Answer{}, refuse("", "The content type must be multipart/form-data or application/json.")
}

func refuse(field, message string) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", message, field)
}

// parameters are those of the path.
func parameters(c *api.Call) map[string]any {
	p := map[string]any{}
	for _, param := range c.Op.Params {
		if param.In == "path" {
			p[param.Name] = strings.Clone(c.Path(param.Name))
		}
	}
	return p
}

// admit refuses before content is read. It only saves time: registering checks again.
func (f *Feature) admit(c *api.Call, p map[string]any) error {
	if p["contextId"] == nil || c.Keyed() {
		return nil
	}
	_, err := c.Query(c.Context(), "admit_ingestion", p)
	return err
}

func (f *Feature) acceptForm(c *api.Call, e entrance, boundary string) (api.Answer, error) {
	p := parameters(c)
	if err := f.admit(c, p); err != nil {
		return api.Answer{}, err
	}
	var config json.RawMessage
	content, err := f.s.Uploads.ReceiveForm(c, boundary, func(name, text string) error {
		if name != "config" {
			return nil
		}
		var err error
		config, err = readObject([]byte(text), "config")
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	body := map[string]any{}
	if config != nil {
		body["config"] = config
	} else if e.needsConfig {
		body["config"] = nil // the function refuses it, and the content is deleted
	}
	p["body"] = body
	return content.Register(c, e.registers, p)
}

func (f *Feature) acceptJSON(c *api.Call, e entrance) (api.Answer, error) {
	raw, err := io.ReadAll(io.LimitReader(c.Stream(), maxBody+1))
	if err != nil {
		return api.Answer{}, api.NewProblem(http.StatusBadRequest, "BAD_REQUEST", "The request body could not be read.", "").Because(err)
	}
	if len(raw) > maxBody {
		c.Ctx.Context().SetConnectionClose()
		return api.Answer{}, api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The request body is larger than 4 MiB. Send files as a form.", "")
	}
	if raw, err = readObject(raw, ""); err != nil {
		return api.Answer{}, err
	}
	sum := sha256.Sum256(raw)
	c.SetFingerprint(sum[:])
	var body struct {
		Config     json.RawMessage `json:"config"`
		SourceType json.RawMessage `json:"sourceType"`
		Title      json.RawMessage `json:"title"`
		Content    json.RawMessage `json:"content"`
	}
	if err := exactjson.Unmarshal(raw, &body); err != nil {
		return api.Answer{}, refuse("", "The request body is not valid JSON.")
	}
	p := parameters(c)
	if string(body.SourceType) != `"text"` || e.needsConfig && body.Config == nil {
		p["body"] = json.RawMessage(raw)
		return c.Query(c.Context(), e.plain, p)
	}
	text, title, err := readText(body.Content, body.Title)
	if err != nil {
		return api.Answer{}, err
	}
	if err := f.admit(c, p); err != nil {
		return api.Answer{}, err
	}
	content, err := f.s.Uploads.ReceiveText(c, title, text)
	if err != nil {
		return api.Answer{}, err
	}
	rest := map[string]any{"sourceType": "text"}
	if body.Config != nil {
		rest["config"] = body.Config
	}
	p["body"] = rest
	return content.Register(c, e.registers, p)
}

// readText returns content and title of form (b).
func readText(content, title json.RawMessage) (text, name string, err error) {
	if exactjson.Unmarshal(content, &text) != nil || strings.TrimSpace(text) == "" {
		return "", "", refuse("content", "The text must not be blank.")
	}
	if utf8.RuneCountInString(text) > maxText {
		return "", "", refuse("content", "The text has at most 500,000 characters.")
	}
	if title != nil && (exactjson.Unmarshal(title, &name) != nil || utf8.RuneCountInString(name) > 255) {
		return "", "", refuse("title", "The title is a text of at most 255 characters.")
	}
	return text, name, nil
}

// readObject checks that JSON is an object which Postgres can store, and drops members that a later one of the same name replaces.
func readObject(raw []byte, field string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := openapi.CheckText(raw); err != nil {
		var fault *openapi.Fault
		if errors.As(err, &fault) {
			return nil, refuse(field, fault.Message)
		}
		return nil, err
	}
	if err := exactjson.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, refuse(field, "A JSON object is needed here.")
	}
	unique, err := exactjson.Unique(raw)
	if err != nil {
		return nil, refuse(field, "A JSON object is needed here.")
	}
	return unique, nil
}
