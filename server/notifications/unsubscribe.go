// Package notifications serves the page that unsubscribe links in mails lead to. It asks for confirmation and then makes the call that
// stops such mails. Opening the link alone changes nothing, because mail scanners open every link.
package notifications

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"strings"

	"github.com/gofiber/fiber/v2"
)

//go:embed page.html
var page []byte

// Path is the address of the page, with the token in query parameter token.
const Path = "/unsubscribe"

// Routes registers the page.
func Routes(app *fiber.App) {
	policy := contentPolicy(string(page))
	app.Get(Path, func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
		c.Set(fiber.HeaderContentSecurityPolicy, policy)
		// The address contains the token.
		c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.Send(page)
	})
}

// contentPolicy allows only the page's own script and style, and calls to this server.
func contentPolicy(html string) string {
	return "default-src 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; script-src " +
		digest(html, "script") + "; style-src " + digest(html, "style")
}

func digest(html, element string) string {
	_, rest, _ := strings.Cut(html, "<"+element+">")
	content, _, _ := strings.Cut(rest, "</"+element+">")
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
