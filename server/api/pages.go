package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"kijko/server/pages"
)

// mountPages registers the pages for operators and newcomers: the document, a page to try it, metrics, and a greeting.
func (a *App) mountPages() {
	a.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/json")
		return c.Send(a.deps.Document.JSON)
	})
	a.Get("/docs/graph", pages.Graph.Send)
	a.mountDocs()
	if a.deps.Registry != nil && a.deps.MetricsToken != "" {
		metrics := adaptor.HTTPHandler(promhttp.HandlerFor(a.deps.Registry, promhttp.HandlerOpts{}))
		a.Get("/metrics", func(c *fiber.Ctx) error {
			if token, _ := bearer(c); !constantEqual(token, a.deps.MetricsToken) {
				return c.Next() // as if the page did not exist
			}
			return metrics(c)
		})
	}
	a.Get("/", func(c *fiber.Ctx) error {
		c.Vary(fiber.HeaderAccept)
		if wantsPage(c) {
			return pages.Home.Send(c)
		}
		return c.JSON(a.greeting())
	})
}

// greeting says what runs here.
func (a *App) greeting() map[string]any {
	greeting := map[string]any{"name": "Kijko API", "version": a.deps.Version, "docs": "/docs", "health": "/health"}
	maps.Copy(greeting, a.deps.Greeting)
	return greeting
}

// wantsPage reports whether the client would rather look than read JSON, as browsers do.
func wantsPage(c *fiber.Ctx) bool {
	header := joined(c, fiber.HeaderAccept)
	page, _ := weight(header, "text", "html")
	data, _ := weight(header, "application", "json")
	return page > data
}

// mountDocs registers the page that tries operations. It shows untrusted text and holds a credential, so only this server's own scripts run
// on it, and no other site may frame it. A typed token is kept across reloads in development only.
func (a *App) mountDocs() {
	ui := v5emb.NewHandlerWithConfig(swgui.Config{Title: "Kijko API", SwaggerJSON: "/openapi.json", BasePath: "/docs/",
		SettingsUI: map[string]string{"persistAuthorization": strconv.FormatBool(a.deps.Development), "tryItOutEnabled": "true", "docExpansion": `"list"`}})
	first := httptest.NewRecorder()
	ui.ServeHTTP(first, httptest.NewRequest(http.MethodGet, "/docs/", nil))
	page := first.Body.Bytes()
	policy := "default-src 'none'; connect-src 'self'; img-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; script-src 'self'" +
		inlineDigests(page, "script") + "; style-src 'self'" + inlineDigests(page, "style")
	files := adaptor.HTTPHandler(ui)
	serve := func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentSecurityPolicy, policy)
		c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
		if path := c.Path(); path != "/docs" && path != "/docs/" {
			return files(c)
		}
		c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
		c.Set(fiber.HeaderCacheControl, "no-cache")
		return c.Send(page)
	}
	a.Get("/docs", serve)
	a.Get("/docs/*", serve)
}

// inlineDigests returns the digests of the page's own inline scripts or styles for its content security policy.
func inlineDigests(page []byte, element string) string {
	var b strings.Builder
	for _, found := range regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(found[1])
		b.WriteString(" 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'")
	}
	return b.String()
}

// guard sets the security headers of every answer. Browsers must use the declared content type. If clients reach this server by https,
// browsers never try http. It runs last, because an answer may have been replaced on the way.
func (a *App) guard(c *fiber.Ctx) error {
	err := c.Next()
	a.protect(c)
	return err
}

func (a *App) protect(c *fiber.Ctx) {
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	if a.deps.HTTPS {
		c.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
}

// replyStatus answers with a status other than the operation's usual one.
func (a *App) replyStatus(c *Call, status int, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return a.reply(c.Ctx, c.Op, Answer{Status: status, Body: raw})
}
