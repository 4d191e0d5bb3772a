// Package profile stores and serves the pictures of users, and answers the operations of profile and settings that are more than one SQL
// function.
package profile

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/picture"
	"kijko/worker/exactjson"
)

// avatar holds the bounds of a user's picture. The longest side on any screen is far below the stored one.
var avatar = picture.Bounds{Types: []string{picture.JPEG, picture.PNG, picture.GIF}, Bytes: 2 << 20, Side: 256}

// pictureKey is the setting that holds the picture.
const pictureKey = "profile.avatarUrl"

// Handlers returns the operations that are answered in Go, by operationId.
func Handlers() map[string]api.Handler {
	return map[string]api.Handler{"setAvatar": setAvatar, "getPicture": getPicture, "setSetting": setSetting, "setSettingPatch": setSetting,
		"setSettings": setSettings, "setSettingsPatch": setSettings}
}

// setAvatar answers POST /profile/avatar: a form with a part "file", or {dataUrl}.
func setAvatar(c *api.Call) error {
	raw, err := readFile(c)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	c.SetFingerprint(sum[:])
	drawn, err := draw(c.Context(), raw, "file")
	if err != nil {
		return err
	}
	answer, err := c.Query(c.Context(), "set_avatar", map[string]any{"picture": drawn})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

func readFile(c *api.Call) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(c.Ctx.Get(fiber.HeaderContentType))
	body, readErr := c.ReadAll()
	if readErr != nil {
		return nil, readErr
	}
	switch {
	case err == nil && kind == "multipart/form-data" && params["boundary"] != "":
		return partOf(body, params["boundary"])
	case err == nil && kind == "application/json":
		var sent struct {
			DataURL *string `json:"dataUrl"`
		}
		if err := exactjson.Unmarshal(body, &sent); err != nil || sent.DataURL == nil {
			return nil, invalid("dataUrl", "The request body must be {dataUrl}, or a form with a part named file.")
		}
		return fromDataURL(*sent.DataURL, "file")
	}
	return nil, invalid("file", "The content type must be multipart/form-data or application/json.")
}

func partOf(body []byte, boundary string) ([]byte, error) {
	form := multipart.NewReader(strings.NewReader(string(body)), boundary)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, invalid("file", "The form has no part named file.")
		}
		if err != nil {
			return nil, invalid("file", "The form ended too early or is malformed.")
		}
		if part.FormName() == "file" {
			raw, err := io.ReadAll(part)
			if err != nil {
				return nil, invalid("file", "The form ended too early or is malformed.")
			}
			return raw, nil
		}
	}
}

// fromDataURL reads data:image/png;base64,...; the declared type is ignored.
func fromDataURL(text, field string) ([]byte, error) {
	head, data, found := strings.Cut(text, ",")
	if !found || !strings.HasPrefix(head, "data:") || !strings.HasSuffix(head, ";base64") {
		return nil, wrongType(field)
	}
	if base64.StdEncoding.DecodedLen(len(data)) > avatar.Bytes+2 {
		return nil, tooLarge(field)
	}
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, wrongType(field)
	}
	return raw, nil
}

// drawn is a picture in the form that private.keep_picture takes.
type drawn struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Content []byte `json:"content"`
}

func draw(ctx context.Context, raw []byte, field string) (*drawn, error) {
	p, err := picture.Read(ctx, raw, avatar)
	switch {
	case errors.Is(err, picture.ErrBytes), errors.Is(err, picture.ErrSize):
		return nil, tooLarge(field)
	case errors.Is(err, picture.ErrType):
		return nil, wrongType(field)
	case err != nil:
		return nil, err
	}
	name := make([]byte, 32)
	if _, err := rand.Read(name); err != nil {
		return nil, err
	}
	return &drawn{Name: hex.EncodeToString(name), Type: p.Type, Content: p.Bytes}, nil
}

func invalid(field, message string) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", message, field)
}

func wrongType(field string) error {
	return api.NewProblem(http.StatusBadRequest, "INVALID_FILE_TYPE", "The picture must be a JPEG, PNG or GIF.", field)
}

func tooLarge(field string) error {
	p := api.NewProblem(http.StatusBadRequest, "FILE_TOO_LARGE", "The picture must have at most 2 MB and 16 megapixels.", field)
	p.Details = []byte(`{"maxBytes":2097152,"maxPixels":16777216}`)
	return p
}

// getPicture answers GET /pictures/{name}. A picture never changes under its name.
func getPicture(c *api.Call) error {
	answer, err := c.Server(c.Context(), "read_picture", map[string]string{"name": c.Path("name")})
	if err != nil {
		return err
	}
	if answer.Body == nil {
		return api.NewProblem(http.StatusNotFound, "NOT_FOUND", "There is no such picture.", "")
	}
	var found drawn
	// Postgres splits base64 into lines.
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(answer.Body), `\n`, "")), &found); err != nil {
		return err
	}
	c.Ctx.Set(fiber.HeaderContentType, found.Type)
	c.Ctx.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	c.Ctx.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'")
	return c.Ctx.Send(found.Content)
}

// setSetting answers PUT /settings/{key}.
func setSetting(c *api.Call) error {
	var body struct {
		Value json.RawMessage `json:"value"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	p := map[string]any{"key": c.Path("key"), "body": json.RawMessage(c.Body)}
	if c.Path("key") == pictureKey {
		short, drawn, err := upload(c.Context(), body.Value)
		if err != nil {
			return err
		}
		if drawn != nil {
			p["body"], p["picture"] = map[string]string{"value": short}, drawn
		}
	}
	return answer(c, "set_setting", p)
}

// setSettings answers PUT /settings.
func setSettings(c *api.Call) error {
	p := map[string]any{"body": json.RawMessage(c.Body)}
	var values map[string]json.RawMessage
	if err := c.Decode(&values); err != nil {
		return err
	}
	if value, given := values[pictureKey]; given {
		short, drawn, err := upload(c.Context(), value)
		if err != nil {
			return err
		}
		if drawn != nil {
			if values[pictureKey], err = json.Marshal(short); err != nil {
				return err
			}
			p["body"], p["picture"] = values, drawn
		}
	}
	return answer(c, "set_settings", p)
}

// upload re-encodes the picture in a data: URL; any other value is left to Postgres. short is the value to store instead.
func upload(ctx context.Context, value json.RawMessage) (short string, d *drawn, err error) {
	var text string
	if exactjson.Unmarshal(value, &text) != nil || !strings.HasPrefix(text, "data:") {
		return "", nil, nil
	}
	raw, err := fromDataURL(text, pictureKey)
	if err != nil {
		return "", nil, err
	}
	d, err = draw(ctx, raw, pictureKey)
	return "data:", d, err
}

func answer(c *api.Call, function string, p any) error {
	a, err := c.Query(c.Context(), function, p)
	if err != nil {
		return err
	}
	return c.Reply(a)
}
