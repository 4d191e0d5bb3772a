package api

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
)

func newBytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

func isJSON(c *fiber.Ctx) bool {
	return strings.HasPrefix(strings.ToLower(string(c.Request().Header.ContentType())), "application/json")
}

// isJSONExactly reports whether the content type is application/json, with or without parameters.
func isJSONExactly(c *fiber.Ctx) bool {
	kind, _, _ := strings.Cut(string(c.Request().Header.ContentType()), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

// parseQuery parses with Go's rules, so that a broken escape is clearly refused and not silently guessed.
func parseQuery(c *fiber.Ctx) (url.Values, error) {
	raw := c.Request().URI().QueryString()
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) > 8<<10 {
		return nil, NewProblem(http.StatusRequestURITooLong, "URI_TOO_LONG", "The address is too long.", "")
	}
	values, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The query of the address is malformed.", "")
	}
	return values, nil
}

// requestID echoes a valid X-Request-ID and makes one otherwise.
func requestID(c *fiber.Ctx) string {
	given := c.Request().Header.Peek("X-Request-ID")
	if len(given) == 0 || len(given) > 64 {
		return uuid.NewString()
	}
	for _, b := range given {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '.', b == '_', b == '-':
		default:
			return uuid.NewString()
		}
	}
	return string(given)
}

func bearer(c *fiber.Ctx) (string, bool) {
	header := c.Request().Header.Peek(fiber.HeaderAuthorization)
	if len(header) == 0 {
		return "", false
	}
	scheme, token, ok := strings.Cut(string(header), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", true
	}
	return strings.TrimSpace(token), true
}
