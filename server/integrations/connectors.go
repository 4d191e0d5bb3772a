package integrations

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/integrations"
	"kijko/worker/seal"
)

// mask is shown in place of a header's value. When a client sends it, the stored value is kept.
const mask = "••••"

const (
	// defaultTimeout is for a connector without its own timeout; testCap is the longest time of a test.
	defaultTimeout = 30 * time.Second
	testCap        = 15 * time.Second
)

// writtenConnector holds the members of a body that are checked here.
type writtenConnector struct {
	Config *struct {
		CustomHeaders map[string]string `json:"customHeaders"`
	} `json:"config"`
	Credentials json.RawMessage `json:"credentials"`
}

// plannedConnector is the result of private.check_connector: the connector after the write, and the sealed secrets of the one before.
type plannedConnector struct {
	ID       string `json:"id"`
	URL      string `json:"url"`
	AuthType string `json:"authType"`
	Config   *struct {
		Timeout       int64             `json:"timeout"`
		CustomHeaders map[string]string `json:"customHeaders"`
	} `json:"config"`
	Stored *struct {
		ID     string `json:"id"`
		Sealed string `json:"sealed"`
	} `json:"stored"`
}

func badHeaders(format string, args ...any) error {
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf(format, args...), "config.customHeaders")
}

// readConnector checks headers and credentials, and returns the body without them: secrets are sealed here and never part of a statement.
func readConnector(c *api.Call, p members) (w writtenConnector, err error) {
	if len(c.Body) == 0 {
		p["body"] = json.RawMessage("{}")
		return w, nil
	}
	if err := c.Decode(&w); err != nil {
		return w, err
	}
	body := members{}
	if err := exactjson.Unmarshal(c.Body, &body); err != nil {
		return w, err
	}
	delete(body, "credentials")
	if w.Config != nil && w.Config.CustomHeaders != nil {
		masked, seen := map[string]string{}, map[string]bool{}
		for name, value := range w.Config.CustomHeaders {
			folded, sent := textproto.CanonicalMIMEHeaderKey(name), value
			if value == mask {
				sent = ""
			}
			if fault := integrations.HeaderFault(name, sent); fault != "" {
				return w, badHeaders("%s", fault)
			}
			if seen[folded] {
				return w, badHeaders("The header %s stands there twice.", folded)
			}
			seen[folded], masked[name] = true, mask
		}
		config := members{}
		if err := exactjson.Unmarshal(body["config"], &config); err != nil {
			return w, err
		}
		config.set("customHeaders", masked)
		body.set("config", config)
	}
	p.set("body", body)
	return w, nil
}

// secrets returns the secrets of the connector after the write: new ones, and kept ones when the client sent the mask or nothing.
func (f *Feature) secrets(w writtenConnector, plan plannedConnector) (s integrations.Secrets, err error) {
	var stored integrations.Secrets
	if plan.Stored != nil && plan.Stored.Sealed != "" {
		if f.Box != nil {
			if plain, err := f.Box.Open(seal.Connector(plan.Stored.ID), plan.Stored.Sealed); err == nil {
				if err := json.Unmarshal(plain, &stored); err != nil {
					return s, fmt.Errorf("sealed headers: %w", err)
				}
			}
		}
	}
	if plan.Config != nil {
		for name := range plan.Config.CustomHeaders {
			value, given := "", false
			if w.Config != nil {
				value, given = w.Config.CustomHeaders[name]
			}
			if !given || value == mask {
				kept, ok := stored.Headers[name]
				if !ok {
					return s, badHeaders("The header %s has no stored value to keep. Please enter it.", name)
				}
				value = kept
			}
			if s.Headers == nil {
				s.Headers = map[string]string{}
			}
			s.Headers[name] = value
		}
	}
	switch {
	case plan.AuthType == "none":
	case len(w.Credentials) > 0:
		if err := exactjson.Unmarshal(w.Credentials, &s.Credentials); err != nil {
			return s, err
		}
	default:
		s.Credentials = stored.Credentials
	}
	if c := s.Credentials; c != nil {
		if c.HeaderName != "" && integrations.HeaderFault(c.HeaderName, "") != "" {
			return s, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "This is no name of a header that may be set.", "credentials.headerName")
		}
		if !httpguts.ValidHeaderFieldValue(c.APIKey) {
			return s, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The key cannot be sent in a header.", "credentials.apiKey")
		}
	}
	return s, nil
}

// handshake tests a planned connector, within the connector's timeout and that of a test.
func (f *Feature) handshake(c *api.Call, plan plannedConnector, s integrations.Secrets) (integrations.Handshake, error) {
	release, err := f.place(c)
	if err != nil {
		return integrations.Handshake{}, err
	}
	defer release()
	limit := defaultTimeout
	if plan.Config != nil && plan.Config.Timeout > 0 {
		limit = time.Duration(plan.Config.Timeout) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(c.Context(), testCap)
	defer cancel()
	return f.Guard.Test(ctx, integrations.Server{URL: plan.URL, Auth: plan.AuthType, Secrets: s, Timeout: min(limit, testCap)}), nil
}

// planConnector reads a request and has it checked by a function of schema private: the connector after the write, with its secrets.
func (f *Feature) planConnector(c *api.Call, check string) (p members, plan plannedConnector, s integrations.Secrets, err error) {
	if p, err = params(c); err != nil {
		return nil, plan, s, err
	}
	w, err := readConnector(c, p)
	if err != nil {
		return nil, plan, s, err
	}
	if err := f.ask(c, check, p, &plan); err != nil {
		return nil, plan, s, err
	}
	s, err = f.secrets(w, plan)
	return p, plan, s, err
}

// saveConnector answers POST and PATCH of connectors: it makes one test, then stores the connector as active or as error.
func (f *Feature) saveConnector(c *api.Call) error {
	p, plan, secrets, err := f.planConnector(c, "check_connector")
	if err != nil {
		return err
	}
	if !secrets.IsEmpty() {
		if err := f.needBox(); err != nil {
			return err
		}
	}
	h, err := f.handshake(c, plan, secrets)
	if err != nil {
		return err
	}
	if h.Forbidden {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", h.Message, "remoteMcpServerUrl")
	}
	function := "update_connector"
	if plan.ID == "" {
		plan.ID, function = uuid.NewString(), "create_connector"
		p.set("id", plan.ID)
	}
	if !secrets.IsEmpty() {
		plain, err := json.Marshal(secrets)
		if err != nil {
			return err
		}
		sealed, err := f.Box.Seal(seal.Connector(plan.ID), plain)
		if err != nil {
			return err
		}
		p.set("sealed", sealed)
	}
	p.set("status", map[bool]string{true: "active", false: "error"}[h.OK])
	p.set("calls", h.Calls)
	message := h.Message
	if h.OK {
		message = fmt.Sprintf("Connected by MCP %s; %d tools.", h.Protocol, h.Tools)
	}
	p.set("message", message)
	answer, err := f.store(c, function, p)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// testConnector answers POST /integrations/connectors/test. A failed test is a normal answer.
func (f *Feature) testConnector(c *api.Call) error {
	_, plan, secrets, err := f.planConnector(c, "check_connector_test")
	if err != nil {
		return err
	}
	h, err := f.handshake(c, plan, secrets)
	if err != nil {
		return err
	}
	if !h.OK {
		return c.JSON(map[string]any{"success": false, "latencyMs": h.Latency.Milliseconds(), "error": h.Message})
	}
	return c.JSON(map[string]any{"success": true, "latencyMs": h.Latency.Milliseconds(), "toolCount": h.Tools})
}
