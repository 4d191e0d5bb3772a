package integrations

import (
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/server/picture"
	"kijko/worker/exactjson"
)

const (
	// maxIcon is the size limit of an uploaded picture, and iconSide the longest side of the stored one. That is some kilobytes, stored in
	// the connector's row as a data URL, so that a list needs no further requests and no public address.
	maxIcon  = 1 << 20
	iconSide = 96
)

func noPicture(message string) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", message, "file")
}

// setIcon answers POST /integrations/connectors/{id}/icon.
func (f *Feature) setIcon(c *api.Call) error {
	connector := strings.Clone(c.Path("connectorId"))
	// A caller without permission is refused before the picture is decoded.
	if err := f.ask(c, "check_connector", map[string]any{"connectorId": connector, "body": struct{}{}}, &plannedConnector{}); err != nil {
		return err
	}
	raw, err := readPicture(c)
	if err != nil {
		return err
	}
	drawn, err := picture.Read(c.Context(), raw, picture.Bounds{Types: []string{picture.PNG, picture.JPEG}, Bytes: maxIcon, Side: iconSide})
	switch {
	case errors.Is(err, picture.ErrType):
		return api.NewProblem(http.StatusBadRequest, "INVALID_FILE_TYPE", "An icon is a PNG or a JPEG.", "file")
	case errors.Is(err, picture.ErrBytes), errors.Is(err, picture.ErrSize):
		return api.NewProblem(http.StatusBadRequest, "FILE_TOO_LARGE", "An icon has at most 1 MB.", "file")
	case err != nil:
		return err
	}
	answer, err := f.store(c, "set_connector_icon", map[string]string{"connectorId": connector,
		"dataUrl": "data:" + drawn.Type + ";base64," + base64.StdEncoding.EncodeToString(drawn.Bytes)})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// readPicture reads the part `file` of a form, or {dataUrl}.
func readPicture(c *api.Call) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	if err != nil {
		return nil, noPicture("The content type must be multipart/form-data or application/json.")
	}
	raw, err := c.ReadAll()
	if err != nil {
		return nil, err
	}
	switch {
	case kind == "application/json":
		var body struct {
			DataURL string `json:"dataUrl"`
		}
		if err := exactjson.Unmarshal(raw, &body); err != nil {
			return nil, noPicture("The request body does not have the right form.")
		}
		_, text, found := strings.Cut(body.DataURL, ";base64,")
		if !found || !strings.HasPrefix(body.DataURL, "data:image/") {
			return nil, noPicture("dataUrl is a picture as a data URL.")
		}
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, noPicture("dataUrl is a picture as a data URL.")
		}
		return decoded, nil
	case kind == "multipart/form-data" && params["boundary"] != "":
		form := multipart.NewReader(strings.NewReader(string(raw)), params["boundary"])
		for {
			part, err := form.NextPart()
			if err != nil {
				return nil, noPicture("The form has no part named file.")
			}
			if part.FormName() == "file" || part.FormName() == "icon" {
				content, err := io.ReadAll(part)
				if err != nil {
					return nil, noPicture("The form breaks off.")
				}
				return content, nil
			}
		}
	}
	return nil, noPicture("The content type must be multipart/form-data or application/json.")
}
