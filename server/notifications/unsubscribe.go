// Package notifications serves the page that unsubscribe links in mails lead to. It asks for confirmation and then makes the call that
// stops such mails. Opening the link alone changes nothing, because mail scanners open every link.
package notifications

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"

	"kijko/server/pages"
)

var (
	//go:embed page.html
	document string
	//go:embed page.js
	script string

	page = pages.New(document, "", script, pages.Calls)
)

// Path is the address of the page, with the token in query parameter token.
const Path = "/unsubscribe"

// Routes registers the page.
func Routes(app *fiber.App) { app.Get(Path, page.Send) }
