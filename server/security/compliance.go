package security

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/seal"
)

// linkLife is how long a link to a document is valid.
const linkLife = 15 * time.Minute

// signed returns the token of a link to a document that works without signing in: the document's id and the end of validity, under this
// server's digest.
func (f *Feature) signed(id string, until time.Time) (string, error) {
	if f.box == nil {
		return "", NotConfigured()
	}
	expires := strconv.FormatInt(until.Unix(), 10)
	sums, err := f.box.Digests(seal.ComplianceLink, []byte(id+" "+expires))
	if err != nil {
		return "", err
	}
	token := expires + "." + base64.RawURLEncoding.EncodeToString(sums[0])
	return f.origin + openapi.Prefix + "/security/compliance/documents/" + url.PathEscape(id) + "/download?token=" + token, nil
}

// isSigned reports whether this server signed the token for this document, and the token is still valid.
func (f *Feature) isSigned(id, token string, now time.Time) bool {
	if f.box == nil {
		return false
	}
	expires, signature, found := strings.Cut(token, ".")
	until, err := strconv.ParseInt(expires, 10, 64)
	given, bad := base64.RawURLEncoding.Strict().DecodeString(signature)
	if !found || err != nil || bad != nil || now.Unix() >= until {
		return false
	}
	sums, err := f.box.Digests(seal.ComplianceLink, []byte(id+" "+expires))
	if err != nil {
		return false
	}
	for _, sum := range sums {
		if hmac.Equal(sum, given) {
			return true
		}
	}
	return false
}

// compliance answers GET /security/compliance. It signs the links to documents, if the plan includes them.
func (f *Feature) compliance(c *api.Call) error {
	a, err := c.Query(c.Context(), "get_compliance", c.Params)
	if err != nil {
		return err
	}
	var board map[string]json.RawMessage
	var frameworks []map[string]json.RawMessage
	if err := json.Unmarshal(a.Body, &board); err != nil {
		return fmt.Errorf("compliance: %w", err)
	}
	open := string(board["isOpen"]) == "true"
	delete(board, "isOpen")
	if err := json.Unmarshal(board["frameworks"], &frameworks); err != nil {
		return fmt.Errorf("compliance: %w", err)
	}
	for _, framework := range frameworks {
		var documents []map[string]any
		if err := json.Unmarshal(framework["documents"], &documents); err != nil {
			return fmt.Errorf("compliance: %w", err)
		}
		if !open || len(documents) == 0 || f.box == nil {
			continue
		}
		for _, document := range documents {
			id, _ := document["id"].(string)
			if document["fileUrl"], err = f.signed(id, time.Now().Add(linkLife)); err != nil {
				return err
			}
		}
		if framework["documents"], err = json.Marshal(documents); err != nil {
			return err
		}
	}
	if board["frameworks"], err = json.Marshal(frameworks); err != nil {
		return err
	}
	return answer(c, a, board)
}

// download answers GET /security/compliance/documents/{documentId}/download: a signed link for members, the file for requests with such a
// link.
func (f *Feature) download(c *api.Call) error {
	if token := c.Ctx.Query("token"); token != "" {
		return f.file(c, strings.Clone(token))
	}
	scheme, token, _ := strings.Cut(string(c.Ctx.Request().Header.Peek("Authorization")), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "bearer") || token == "" {
		return api.NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
	}
	caller, err := f.auth.Authenticate(c.Context(), token)
	if err != nil {
		return err
	}
	c.Caller = caller
	a, err := c.Query(c.Context(), "download_compliance_document", c.Params)
	if err != nil {
		return err
	}
	var found struct{ ID string }
	if err := json.Unmarshal(a.Body, &found); err != nil {
		return fmt.Errorf("compliance document: %w", err)
	}
	until := time.Now().Add(linkLife).Truncate(time.Second)
	link, err := f.signed(found.ID, until)
	if err != nil {
		return err
	}
	return answer(c, a, map[string]any{"url": link, "expiresAt": until.UTC().Format("2006-01-02T15:04:05.000Z")})
}

func (f *Feature) file(c *api.Call, token string) error {
	id := c.Path("documentId")
	if !f.isSigned(id, token, time.Now()) {
		return api.NewProblem(http.StatusNotFound, "NOT_FOUND", "This link is not valid, or its time is over. Please ask for another one.", "token")
	}
	a, err := c.Server(c.Context(), "compliance_file", map[string]any{"documentId": id})
	if err != nil {
		return err
	}
	if a.Body == nil {
		return api.NewProblem(http.StatusNotFound, "NOT_FOUND", "There is no such document.", "")
	}
	var found struct {
		Name    string
		Content []byte
	}
	if err := json.Unmarshal(a.Body, &found); err != nil {
		return fmt.Errorf("compliance document: %w", err)
	}
	kind := mime.TypeByExtension(path.Ext(found.Name))
	if kind == "" {
		kind = fiber.MIMEOctetStream
	}
	c.Ctx.Set(fiber.HeaderContentType, kind)
	c.Ctx.Set(fiber.HeaderContentDisposition, mime.FormatMediaType("attachment", map[string]string{"filename": found.Name}))
	c.Ctx.Set(fiber.HeaderCacheControl, "private, no-store")
	return c.Ctx.Send(found.Content)
}
