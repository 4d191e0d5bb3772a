package api

import (
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
)

const (
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-Match, Prefer, X-Request-ID, " +
		"Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID"
	corsExposed = "X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, Content-Disposition, " +
		"X-Total-Count, X-Has-More, Idempotency-Replayed, WWW-Authenticate"
)

// cors allows exactly the configured origins, with credentials and never with a wildcard.
func (a *App) cors(c *fiber.Ctx) error {
	origin := string(c.Request().Header.Peek(fiber.HeaderOrigin))
	if origin == "" {
		return c.Next()
	}
	allowed := a.admitOrigin(c, origin)
	if c.Method() != http.MethodOptions || len(c.Request().Header.Peek(fiber.HeaderAccessControlRequestMethod)) == 0 {
		return c.Next()
	}
	if allowed {
		c.Set(fiber.HeaderAccessControlAllowMethods, "GET, POST, PUT, PATCH, DELETE")
		c.Set(fiber.HeaderAccessControlAllowHeaders, corsHeaders)
		c.Set(fiber.HeaderAccessControlMaxAge, "600")
	}
	return c.SendStatus(http.StatusNoContent)
}

// admitOrigin lets pages of a configured origin read the answer.
func (a *App) admitOrigin(c *fiber.Ctx, origin string) bool {
	c.Vary(fiber.HeaderOrigin)
	if !a.deps.Origins.Allow(origin) {
		return false
	}
	c.Set(fiber.HeaderAccessControlAllowOrigin, origin)
	c.Set(fiber.HeaderAccessControlAllowCredentials, "true")
	c.Set(fiber.HeaderAccessControlExposeHeaders, corsExposed)
	return true
}

// clientIP is the peer's address, or the address that a trusted proxy reports.
func (a *App) clientIP(c *fiber.Ctx) string {
	peer := c.Context().RemoteIP().String()
	if a.deps.ClientIP == nil {
		return peer
	}
	var forwarded []string
	for _, h := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		forwarded = append(forwarded, strings.Split(string(h), ",")...)
	}
	return a.deps.ClientIP(peer, forwarded)
}

func constantEqual(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
