package realtime

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"
)

//go:embed page/index.html
var pageHTML []byte

//go:embed page/realtime.js
var pageScript []byte

//go:embed page/realtime.css
var pageStyle []byte

// mountPage registers the page that shows frames, next to the page that tries operations. It comes before /docs/*.
func mountPage(app *fiber.App) {
	serve := func(address, kind string, body []byte) {
		app.Get(address, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentType, kind+"; charset=utf-8")
			// Only this server's own files and sockets are allowed: a frame contains untrusted text.
			c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'")
			c.Set(fiber.HeaderCacheControl, "no-cache")
			return c.Send(body)
		})
	}
	serve("/docs/realtime", "text/html", pageHTML)
	serve("/docs/realtime.js", "text/javascript", pageScript)
	serve("/docs/realtime.css", "text/css", pageStyle)
}
