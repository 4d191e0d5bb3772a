// Package gdpr answers the operation that erases a person. The erasure itself is private.erase_person; here are the second factor, which only
// the server can check, and the time that a large account needs.
package gdpr

import (
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/security"
)

// Limit is the longest time of an erasure in the database. One with a million rows takes a fraction of it (go run ./tests/bench gdpr).
const Limit = 5 * time.Minute

// Feature erases people. Without Codes second factors cannot be checked, and people who have one get 503.
type Feature struct {
	Codes *security.Codes
	// InsecureCookies is true in development, without TLS.
	InsecureCookies bool
}

// Handlers returns the operation by its operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"eraseAccount": f.erase}
}

// Close has nothing to release.
func (f *Feature) Close() error { return nil }

func (f *Feature) erase(c *api.Call) error {
	var body struct {
		Confirm string `json:"confirm"`
		Code    string `json:"code"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	args := map[string]any{"body": map[string]any{"confirm": body.Confirm}}
	if body.Code != "" {
		known, err := security.Begin(c, "disable")
		if err != nil {
			return err
		}
		if known.Secret != "" {
			if f.Codes == nil {
				return security.NotConfigured()
			}
			proof, err := f.Codes.Verify(c.Caller.UserID, known.Secret, body.Code, time.Now())
			if err != nil {
				return err
			}
			proof.AddTo(args)
		}
	}
	a, err := c.QueryWithin(c.Context(), Limit, "erase_account", args)
	if err != nil {
		return err
	}
	cookie := http.Cookie{Name: api.SessionCookie, Path: "/api", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: !f.InsecureCookies}
	c.Ctx.Set(fiber.HeaderSetCookie, cookie.String())
	return c.Reply(a)
}
