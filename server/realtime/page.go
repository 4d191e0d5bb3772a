package realtime

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"

	"kijko/server/pages"
)

var (
	//go:embed page/index.html
	pageDocument string
	//go:embed page/realtime.js
	pageScript string
	//go:embed page/realtime.css
	pageStyle string

	docsPage = pages.New(pageDocument, pageStyle, pageScript, pages.CallsAndPictures)
)

// mountPage registers the page that shows frames, next to the page that tries operations. It comes before /docs/*.
func mountPage(app *fiber.App) {
	app.Get("/docs/realtime", docsPage.Send)
}
