package models

import (
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/worker/seal"
)

// setProviderKey answers PUT /ai/provider-keys/{provider}. It encrypts the key for this organization and provider. Only then it passes the
// key to the database, which authorizes the caller.
func (f *Feature) setProviderKey(c *api.Call) error {
	if f.Box == nil {
		return api.NoEncryptionKey("keys", "key")
	}
	var body struct {
		Key string `json:"key"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	key := strings.TrimSpace(body.Key)
	for _, r := range key {
		if r <= ' ' || r > '~' {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A key has letters, digits and signs only.", "key")
		}
	}
	if len(key) < 16 {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A key has at least 16 characters.", "key")
	}
	provider := strings.Clone(c.Path("provider"))
	org, err := f.organization(c)
	if err != nil {
		return err
	}
	sealed, err := f.Box.Seal(seal.ProviderKey(org, provider), []byte(key))
	if err != nil {
		return err
	}
	answer, err := c.Query(c.Context(), "set_provider_key", map[string]string{"provider": provider, "sealed": sealed, "lastFour": key[len(key)-4:]})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// organization asks the database for the caller's organization and whether the caller manages its keys. A key is not bound to an
// organization by a mere hint of the request.
func (f *Feature) organization(c *api.Call) (string, error) {
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, ReadOnly: true, SQL: api.ProcedureSQL("assert_provider_keys_admin()::text"),
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return "", err
	}
	return string(answer.Body), nil
}
