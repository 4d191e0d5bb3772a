// Package registry adds MCP servers (contract 60, section 17.2): it checks their addresses and seals their headers before anything is stored.
// A job connects them, so a request never calls out.
package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/integrations"
	"kijko/worker/registry"
	"kijko/worker/seal"
)

// timeout bounds the look-up of a name and each call of the database.
const timeout = 15 * time.Second

// Feature is safe for concurrent use.
type Feature struct {
	Exec api.Runner
	// Box seals headers; nil: servers have none.
	Box   *seal.Box
	Guard *integrations.Guard
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"createMcpServer": f.create}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

// create answers POST /mcp/servers.
func (f *Feature) create(c *api.Call) error {
	var body map[string]json.RawMessage
	if err := c.Decode(&body); err != nil {
		return err
	}
	headers := map[string]string{}
	if raw := body["headers"]; len(raw) > 0 {
		if err := exactjson.Unmarshal(raw, &headers); err != nil {
			return err
		}
		// The values are never part of a statement, because Postgres logs slow statements.
		delete(body, "headers")
	}
	if err := check(headers); err != nil {
		return err
	}
	p := map[string]any{"body": body}
	address, err := f.address(c, p)
	if err != nil {
		return err
	}
	resolving, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	if err := f.Guard.Check(resolving, address); err != nil {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "This address is not one that may be contacted.", "url").Because(err)
	}
	id := uuid.NewString()
	p["id"] = id
	if len(headers) > 0 {
		if f.Box == nil {
			return api.NoEncryptionKey("headers", "headers")
		}
		sealed, err := registry.Seal(f.Box, id, headers)
		if err != nil {
			return err
		}
		p["sealed"] = sealed
	}
	storing, done := context.WithTimeout(c.Context(), timeout)
	defer done()
	answer, err := c.Query(storing, "create_mcp_server", p)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// maxHeaders bounds the headers of a server.
const maxHeaders = 20

func check(headers map[string]string) error {
	fault := ""
	if len(headers) > maxHeaders {
		fault = "There are at most 20 headers."
	}
	seen := map[string]bool{}
	for name, value := range headers {
		folded := textproto.CanonicalMIMEHeaderKey(name)
		if seen[folded] {
			fault = fmt.Sprintf("The header %s stands there twice.", folded)
		}
		seen[folded] = true
		if f := integrations.HeaderFault(name, value); f != "" {
			fault = f
		}
	}
	if fault == "" {
		return nil
	}
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", fault, "headers")
}

// address has the database check the request, and returns where the server would be.
func (f *Feature) address(c *api.Call, p map[string]any) (string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := f.Exec.Run(ctx, &api.Request{Caller: c.Caller, Needs: c.Op.Scope, SQL: api.ProcedureSQL("check_mcp_server($1)"), Args: []any{raw}, RequestID: c.RequestID,
		ClientIP: c.ClientIP})
	if err != nil {
		return "", err
	}
	var checked struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(answer.Body, &checked); err != nil {
		return "", fmt.Errorf("check_mcp_server: %w", err)
	}
	return checked.URL, nil
}
