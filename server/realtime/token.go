package realtime

import (
	"encoding/json"
	"fmt"
	"net/http"

	"kijko/server/api"
	"kijko/server/auth"
)

// Handlers answer the operations of realtime that are not SQL functions, by operationId.
func (s *Server) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"createRealtimeToken": s.createToken,
		"listEvents":          s.listEvents,
		// Routes mounts the sockets themselves. These handlers answer requests that are not upgrades.
		"watchProject": func(*api.Call) error { return api.UpgradeRequired() },
		"openSocket":   func(*api.Call) error { return api.UpgradeRequired() },
	}
}

// createToken answers POST /realtime/token: {"token", "expiresAt", "expiresIn"}. Postgres identifies the caller and checks that they see
// the project. The token becomes invalid when the requesting session ends.
func (s *Server) createToken(call *api.Call) error {
	if s.deps.Issuer == nil {
		return api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This installation issues no connection tokens.", "")
	}
	answer, err := call.Query(call.Context(), "authorize_socket", call.Params)
	if err != nil {
		return err
	}
	var who struct {
		UserID, SessionID, OrganizationID, ProjectID string
	}
	if err := json.Unmarshal(answer.Body, &who); err != nil {
		return fmt.Errorf("reading who asks for a connection token: %w", err)
	}
	token, err := s.deps.Issuer.MintConnection(auth.Connection{
		UserID: who.UserID, SessionID: who.SessionID, OrgID: who.OrganizationID, ProjectID: who.ProjectID,
	})
	if err != nil {
		return err
	}
	return call.JSON(map[string]any{
		"token": token.Raw, "expiresAt": timestamp(token.ExpiresAt), "expiresIn": token.ExpiresIn,
	})
}
