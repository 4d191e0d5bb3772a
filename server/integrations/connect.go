package integrations

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/integrations"
	"kijko/worker/seal"
)

// way is the sealed data of a consent, from its start until the provider's callback.
type way struct {
	State    string `json:"state"`
	Verifier string `json:"verifier"`
}

// checked is the result of private.check_connection.
type checked struct {
	Provider       string   `json:"provider"`
	Auth           string   `json:"auth"`
	Scopes         []string `json:"scopes"`
	OrganizationID string   `json:"organizationId"`
}

// connect answers POST /integrations/{provider}/connect and /reconnect.
func (f *Feature) connect(again bool) api.Handler {
	function := "connect_integration"
	if again {
		function = "reconnect_integration"
	}
	return func(c *api.Call) error {
		var body struct {
			RedirectURI string `json:"redirectUri"`
			Credentials *struct {
				APIKey string `json:"apiKey"`
				Secret string `json:"secret"`
			} `json:"credentials"`
		}
		if len(c.Body) > 0 {
			if err := c.Decode(&body); err != nil {
				return err
			}
		}
		p, err := params(c)
		if err != nil {
			return err
		}
		if body.Credentials != nil {
			// The key itself is never part of a statement, because Postgres logs slow statements.
			written := members{}
			if err := exactjson.Unmarshal(c.Body, &written); err != nil {
				return err
			}
			written.set("credentials", map[string]string{"apiKey": "sealed"})
			p.set("body", written)
		}
		provider := strings.Clone(c.Path("provider"))
		p.set("isReconnect", again)
		p.set("isConfigured", f.Providers.IsConfigured(provider))
		p.set("isKeyed", c.Keyed())
		var what checked
		if err := f.ask(c, "check_connection", p, &what); err != nil {
			return err
		}
		if body.RedirectURI != "" && !f.isOurs(body.RedirectURI) {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "This installation does not lead to that address.", "redirectUri")
		}
		if err := f.needBox(); err != nil {
			return err
		}
		if what.Auth == string(integrations.ByConsent) {
			return f.consent(c, function, p, what)
		}
		tokens := integrations.Tokens{}
		if body.Credentials != nil {
			tokens.APIKey, tokens.Secret = body.Credentials.APIKey, body.Credentials.Secret
		} else if what.Auth == string(integrations.ByKey) {
			if tokens, err = f.storedKey(c, what); err != nil {
				return err
			}
		}
		return f.verify(c, function, p, what, tokens)
	}
}

// consent prepares the consent: 202 with the address of the provider.
func (f *Feature) consent(c *api.Call, function string, p members, what checked) error {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return fmt.Errorf("draw a state: %w", err)
	}
	w := way{State: base64.RawURLEncoding.EncodeToString(raw[:]), Verifier: oauth2.GenerateVerifier()}
	plain, err := json.Marshal(w)
	if err != nil {
		return err
	}
	sealed, err := f.Box.Seal(seal.IntegrationState, plain)
	if err != nil {
		return err
	}
	p.set("stateHash", hashOf(w.State))
	p.set("sealed", sealed)
	delete(p, "isKeyed")
	answer, err := f.store(c, function, p)
	if err != nil {
		return err
	}
	// A replayed answer (Idempotency-Key) repeats the state of the first request.
	var said struct {
		Sealed string   `json:"sealed"`
		Scopes []string `json:"scopes"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil {
		return fmt.Errorf("what %s says: %w", function, err)
	}
	if plain, err = f.Box.Open(seal.IntegrationState, said.Sealed); err == nil {
		err = json.Unmarshal(plain, &w)
	}
	if err != nil {
		return fmt.Errorf("open a state: %w", err)
	}
	answer.Body, err = json.Marshal(map[string]string{"state": w.State,
		"authorizationUrl": f.Providers.AuthorizationURL(what.Provider, f.Callback, w.State, w.Verifier, said.Scopes)})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

func hashOf(state string) string {
	sum := sha256.Sum256([]byte(state))
	return hex.EncodeToString(sum[:])
}

// storedKey opens the stored key of an integration that is reconnected without a new one.
func (f *Feature) storedKey(c *api.Call, what checked) (integrations.Tokens, error) {
	var sealed string
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("sealed_integration_key($1)"), Args: []any{what.Provider},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return integrations.Tokens{}, err
	}
	if err := json.Unmarshal(answer.Body, &sealed); err != nil {
		return integrations.Tokens{}, fmt.Errorf("a stored key: %w", err)
	}
	tokens, err := integrations.Open(f.Box, what.OrganizationID, what.Provider, sealed)
	if err != nil {
		return tokens, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The stored key cannot be opened any more. Please enter it again.", "credentials")
	}
	return tokens, nil
}

// verify makes one call with a key, and stores the key if the provider accepts it.
func (f *Feature) verify(c *api.Call, function string, p members, what checked, tokens integrations.Tokens) error {
	calls := []integrations.Call{}
	if err := f.Providers.Identify(c.Context(), what.Provider, tokens, &calls); err != nil {
		if failure := failureOf(err); failure != nil && failure.Why == integrations.Refused {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The provider does not accept these credentials.", "credentials")
		}
		return api.Unavailable("PROVIDER_UNAVAILABLE", "The provider could not verify the credentials at the moment. Please try again.", err)
	}
	sealed, err := integrations.Seal(f.Box, what.OrganizationID, what.Provider, tokens)
	if err != nil {
		return err
	}
	p.set("sealed", sealed)
	p.set("calls", calls)
	delete(p, "isKeyed")
	answer, err := f.store(c, function, p)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// isOurs reports whether users may be redirected to an address after a consent: the client's own site, or one that may call the API.
func (f *Feature) isOurs(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || len(address) > 2048 {
		return false
	}
	origin := strings.ToLower(u.Scheme + "://" + u.Host)
	own, err := url.Parse(f.Client)
	return f.Origins.Allow(origin) || err == nil && origin == strings.ToLower(own.Scheme+"://"+own.Host)
}

// taken is the result of private.take_integration_state.
type taken struct {
	Outcome        string          `json:"outcome"`
	Provider       string          `json:"provider"`
	RedirectURI    string          `json:"redirectUri"`
	OrganizationID string          `json:"organizationId"`
	UserID         string          `json:"userId"`
	Sealed         string          `json:"sealed"`
	What           json.RawMessage `json:"what"`
}

// callback answers GET /integrations/oauth/callback. Whatever the outcome, users are redirected to the client. On a failure, `code` gives
// programs the reason. The state is used up before the call to the provider, so that it is valid for one try.
func (f *Feature) callback(c *api.Call) error {
	query := c.Ctx.Context().QueryArgs()
	state, code, refused := string(query.Peek("state")), string(query.Peek("code")), string(query.Peek("error"))
	var t taken
	if err := f.server(c, "take_integration_state", map[string]string{"stateHash": hashOf(state)}, &t); err != nil {
		return err
	}
	outcome := ""
	switch {
	case t.Outcome != "ok":
		outcome = "INVALID_STATE"
	case refused != "":
		outcome = "PROVIDER_REFUSED"
	default:
		var err error
		if outcome, err = f.finish(c, t, code); err != nil {
			return err
		}
	}
	to, err := url.Parse(cmp.Or(t.RedirectURI, strings.TrimRight(f.Client, "/")+"/?tab=integrations"))
	if err != nil {
		return err
	}
	values := to.Query()
	if t.Provider != "" {
		values.Set("integration", t.Provider)
	}
	values.Set("status", "connected")
	if outcome != "" {
		values.Set("status", "error")
		values.Set("code", outcome)
	}
	to.RawQuery = values.Encode()
	c.Ctx.Set("Location", to.String())
	c.Ctx.Set("Cache-Control", "no-store")
	return c.Ctx.SendStatus(http.StatusFound)
}

// finish exchanges the code for tokens and stores them. The outcome is empty, or the code of the failure.
func (f *Feature) finish(c *api.Call, t taken, code string) (outcome string, err error) {
	var w way
	if f.Box == nil {
		return "PROVIDER_NOT_CONFIGURED", nil
	}
	plain, err := f.Box.Open(seal.IntegrationState, t.Sealed)
	if err == nil {
		err = json.Unmarshal(plain, &w)
	}
	if err != nil || code == "" {
		return "INVALID_STATE", nil
	}
	calls := []integrations.Call{}
	tokens, err := f.Providers.Exchange(c.Context(), t.Provider, f.Callback, code, w.Verifier, &calls)
	if failure := failureOf(err); failure != nil {
		switch failure.Why {
		case integrations.Refused:
			return "PROVIDER_REFUSED", nil
		case integrations.Misconfigured:
			return "PROVIDER_NOT_CONFIGURED", nil
		}
		return "PROVIDER_UNAVAILABLE", nil
	} else if err != nil {
		return "", err
	}
	sealed, err := integrations.Seal(f.Box, t.OrganizationID, t.Provider, tokens)
	if err != nil {
		return "", err
	}
	err = f.server(c, "finish_integration", map[string]any{"organizationId": t.OrganizationID, "userId": t.UserID, "what": t.What, "sealed": sealed,
		"calls": calls, "session": hashOf(w.State)}, nil)
	if err == nil {
		return "", nil
	}
	// These tokens are not stored, so the provider may revoke them at once.
	_ = f.Providers.Revoke(c.Context(), t.Provider, tokens)
	if p := api.ProblemOf(err); p.Status < http.StatusInternalServerError {
		return p.Code, nil
	}
	return "", err
}
