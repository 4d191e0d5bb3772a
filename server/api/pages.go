package api

import (
	"encoding/json"
	"maps"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// mountPages registers what operators and newcomers look at: the document, a page to try it, metrics, and a greeting.
func (a *App) mountPages() {
	a.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/json")
		return c.Send(a.deps.Document.JSON)
	})
	docs := adaptor.HTTPHandler(v5emb.NewHandlerWithConfig(swgui.Config{Title: "Kijko API", SwaggerJSON: "/openapi.json", BasePath: "/docs/",
		SettingsUI: map[string]string{"persistAuthorization": "true", "tryItOutEnabled": "true", "docExpansion": `"list"`}}))
	a.Get("/docs", docs)
	a.Get("/docs/*", docs)
	if a.deps.Registry != nil {
		a.Get("/metrics", adaptor.HTTPHandler(promhttp.HandlerFor(a.deps.Registry, promhttp.HandlerOpts{})))
	}
	a.Get("/", func(c *fiber.Ctx) error {
		greeting := map[string]any{"name": "Kijko API", "version": a.deps.Version, "docs": "/docs", "health": "/health"}
		maps.Copy(greeting, a.deps.Greeting)
		return c.JSON(greeting)
	})
}

// replyStatus answers with a status that is not the operation's usual one.
func (a *App) replyStatus(c *Call, status int, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return a.reply(c.Ctx, c.Op, Answer{Status: status, Body: raw})
}
