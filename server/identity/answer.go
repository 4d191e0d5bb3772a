package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/auth"
)

// result is the answer of identity's SQL functions: a session, a hash to check a password against, or a refusal.
type result struct {
	Problem *problem `json:"problem"`

	UserID        string `json:"user_id"`
	SessionID     string `json:"session_id"`
	OrgID         string `json:"org_id"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	FirstName     string `json:"first_name"`
	LastName      string `json:"last_name"`
	// MaxAge is the remaining time of the session in seconds, at most 30 days.
	MaxAge int `json:"max_age"`

	PasswordHash string `json:"password_hash"`

	// For a second factor: the sealed secret, the number of this attempt, and whether the device is remembered.
	Secret       string `json:"secret"`
	Attempt      int    `json:"attempt"`
	IsRemembered bool   `json:"is_remembered"`

	// Ended holds Keycloak's names of the sessions that signing out has ended.
	Ended []endedSession `json:"ended"`

	// For a request with an Idempotency-Key.
	Replayed bool   `json:"replayed"`
	Nonce    string `json:"nonce"`
	Sealed   []byte `json:"sealed"`
}

type endedSession struct {
	Issuer string `json:"issuer"`
	Key    string `json:"session_key"`
}

type problem struct {
	Status  int             `json:"status"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Field   string          `json:"field"`
	Details json.RawMessage `json:"details"`
}

// asError repeats the numbers of a 429 as headers.
func (p *problem) asError() *api.Problem {
	e := api.NewProblem(p.Status, p.Code, p.Message, p.Field)
	e.Details = p.Details
	var d struct {
		Limit, Remaining, ResetUnix, RetryAfter int64
	}
	if p.Status == http.StatusTooManyRequests && json.Unmarshal(p.Details, &d) == nil {
		e.Header = map[string]string{fiber.HeaderRetryAfter: strconv.FormatInt(d.RetryAfter, 10)}
		if d.Limit > 0 {
			e.Header["X-RateLimit-Limit"] = strconv.FormatInt(d.Limit, 10)
			e.Header["X-RateLimit-Remaining"] = strconv.FormatInt(d.Remaining, 10)
			e.Header["X-RateLimit-Reset"] = strconv.FormatInt(d.ResetUnix, 10)
		}
	}
	return e
}

// server runs a function of schema private in the server's role. A refusal in the result is returned as an error.
func (i *Identity) server(c *api.Call, function string, p map[string]any) (result, error) {
	return i.run(c.Context(), api.Request{RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device}, function, p)
}

func (i *Identity) run(ctx context.Context, r api.Request, function string, p map[string]any) (result, error) {
	answer, err := api.Serve(ctx, i.exec, r, function, p)
	if err != nil {
		return result{}, err
	}
	var found result
	if answer.Body == nil {
		return found, nil
	}
	if err := json.Unmarshal(answer.Body, &found); err != nil {
		return result{}, fmt.Errorf("private.%s: %w", function, err)
	}
	if found.Problem != nil {
		return result{}, found.Problem.asError()
	}
	return found, nil
}

// tokenResponse is TokenResponse of the contract.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	DeviceToken  string `json:"device_token,omitempty"`
}

// tokens makes the answer for a session. device is the token of a remembered device, or "".
func (i *Identity) tokens(session result, refresh, device string) ([]byte, error) {
	token, err := i.issuer.Mint(auth.Access{UserID: session.UserID, SessionID: session.SessionID, OrgID: session.OrgID, Email: session.Email,
		EmailVerified: session.EmailVerified, FirstName: session.FirstName, LastName: session.LastName})
	if err != nil {
		return nil, err
	}
	answer := tokenResponse{AccessToken: token.Raw, RefreshToken: refresh, TokenType: "Bearer", ExpiresIn: token.ExpiresIn}
	if session.IsRemembered {
		answer.DeviceToken = device
	}
	return json.Marshal(answer)
}

func (i *Identity) setCookie(c *api.Call, session result) {
	i.writeCookie(c, &http.Cookie{Value: i.cookies.Sign(session.SessionID), MaxAge: max(1, session.MaxAge)})
}

func (i *Identity) clearCookie(c *api.Call) { i.writeCookie(c, &http.Cookie{MaxAge: -1}) }

func (i *Identity) writeCookie(c *api.Call, cookie *http.Cookie) {
	cookie.Name, cookie.Path, cookie.HttpOnly, cookie.SameSite = api.SessionCookie, "/api", true, http.SameSiteLaxMode
	cookie.Secure = !i.insecureCookies
	c.Ctx.Set(fiber.HeaderSetCookie, cookie.String())
}

// userAgent returns the header without characters that Postgres could not store.
func userAgent(c *api.Call) string { return storable(string(c.Ctx.Request().Header.UserAgent())) }

func storable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
