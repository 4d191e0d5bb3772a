package mcp

import (
	"encoding/json"
	"net/http"

	"github.com/gofiber/fiber/v2"
)

// metadataPath is where clients find which authorization server signs people in (RFC 9728). The path of the resource follows it.
const metadataPath = "/.well-known/oauth-protected-resource"

// addresses are the paths of the one operation.
var addresses = []string{"/mcp", "/api/mcp", "/api/v1/mcp"}

// Routes mounts the documents of discovery, where an authorization server is configured: a client without a credential gets 401 with the
// address of the metadata, reads from it which server signs people in, and comes back with its token.
func (f *Feature) Routes(app *fiber.App) {
	if f.s.Issuer == "" {
		return
	}
	for _, address := range addresses {
		app.Use(address, func(c *fiber.Ctx) error {
			err := c.Next()
			if c.Response().StatusCode() == http.StatusUnauthorized {
				c.Set(fiber.HeaderWWWAuthenticate, `Bearer resource_metadata="`+f.s.Origin+metadataPath+address+`"`)
			}
			return err
		})
		app.Get(metadataPath+address, func(c *fiber.Ctx) error { return f.metadata(c, address) })
	}
	app.Get(metadataPath, func(c *fiber.Ctx) error { return f.metadata(c, addresses[0]) })
}

func (f *Feature) metadata(c *fiber.Ctx, address string) error {
	raw, err := json.Marshal(map[string]any{
		"resource": f.s.Origin + address, "authorization_servers": []string{f.s.Issuer}, "bearer_methods_supported": []string{"header"},
		"scopes_supported": []string{"openid", "profile", "email"}, "resource_name": "Kijko",
	})
	if err != nil {
		return err
	}
	// Any page may read which server signs people in: browser clients do.
	c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	return c.Send(raw)
}
