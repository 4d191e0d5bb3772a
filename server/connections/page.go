package connections

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"kijko/server/api"
	"kijko/server/pages"
)

var (
	//go:embed page.html
	pageDocument string
	//go:embed page.js
	pageScript string

	page         = pages.New(pageDocument, "", pageScript, pages.Nothing)
	pageTemplate = template.Must(template.New("page").Parse(page.Text))
)

// comeBack answers GET /oauth/callback/{provider}, to which the provider sends the browser. No login is needed here: the state identifies
// the user of the consent, and only the page that began the consent is notified how it ended.
func (f *Feature) comeBack(c *api.Call) error {
	provider := strings.Clone(c.Path("provider"))
	origin, err := f.finish(c, provider)
	if err != nil {
		p := api.ProblemOf(err)
		if !slices.Contains([]string{"github", "gitlab", "bitbucket", "azure", "okta", "azure_ad"}, provider) && p.Status == http.StatusBadRequest {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "This provider is not known.", "provider")
		}
		if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusInternalServerError {
			return err
		}
		f.Log.Info("a consent did not end well", "provider", provider, "code", p.Code)
	}
	var text bytes.Buffer
	if err := pageTemplate.Execute(&text, map[string]any{"Provider": provider, "Success": err == nil, "Origin": origin}); err != nil {
		return err
	}
	page.Headers(c.Ctx)
	c.Ctx.Set("Cross-Origin-Opener-Policy", "unsafe-none") // else the page that opened this one could not be notified
	return c.Ctx.Send(text.Bytes())
}

// finish does the work of complete, as the user of the state. origin is the page to notify, once the state is known.
func (f *Feature) finish(c *api.Call, provider string) (origin string, err error) {
	query := c.Ctx.Context().QueryArgs()
	done := finished{Provider: provider, StateHash: digest(string(query.Peek("state")))}
	code := string(query.Peek("code"))
	// The browser's session, if it has one, must not be another user's. A browser that sends a false cookie only blocks itself.
	session, _, _ := strings.Cut(c.Ctx.Cookies("kijko_session"), ".")
	server := func(function string) (api.Answer, error) {
		raw, err := json.Marshal(struct {
			finished
			SessionID string `json:"sessionId"`
		}{done, strings.Clone(session)})
		if err != nil {
			return api.Answer{}, err
		}
		// The request is a GET, but it writes.
		return f.Exec.Run(c.Context(), &api.Request{AsServer: true, SQL: api.ServerSQL(function), Args: []any{raw}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	}
	answer, err := server("take_state")
	if err != nil {
		return "", err
	}
	var t taken
	if err := json.Unmarshal(answer.Body, &t); err != nil {
		return "", err
	}
	if code == "" { // the user declined, or the provider did
		return t.Origin, invalidState(nil)
	}
	token, err := f.exchange(c.Context(), answer.Body, code, &done)
	if err != nil {
		return t.Origin, err
	}
	if _, err := server("finish_connection"); err != nil {
		f.giveBack(c.Context(), provider, token)
		return t.Origin, err
	}
	return t.Origin, nil
}
