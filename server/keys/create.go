package keys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/seal"
)

const createTime = 15 * time.Second

// Handlers returns the operations of API keys that are answered in Go, by operationId.
func (k *Keys) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"createApiKey": k.create}
}

// Close does nothing; Run writes the remaining entries.
func (k *Keys) Close() error { return nil }

// create lets Postgres draw the key. A request with an Idempotency-Key is different, because its answer is stored for a replay: then the
// key is drawn here, and its stored form is sealed.
func (k *Keys) create(c *api.Call) error {
	ctx, cancel := context.WithTimeout(c.Context(), createTime)
	defer cancel()
	if !c.Keyed() {
		answer, err := c.Query(ctx, "create_api_key", c.Params)
		if err != nil {
			return err
		}
		return c.Reply(answer)
	}
	if k.box == nil {
		return api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED",
			"This installation has no ENCRYPTION_KEY, so a key cannot be made under an Idempotency-Key. Send the request without one.", "")
	}
	var body struct {
		Environment string `json:"environment"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	key, err := draw(body.Environment)
	if err != nil {
		return err
	}
	sealed, err := k.box.Seal(seal.APIKey, []byte(key))
	if err != nil {
		return err
	}
	params := map[string]json.RawMessage{}
	if err := exactjson.Unmarshal(c.Params, &params); err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(key))
	for name, value := range map[string]string{"keyHash": hex.EncodeToString(hash[:]), "keyPrefix": key[:20], "sealedKey": sealed} {
		if params[name], err = json.Marshal(value); err != nil {
			return err
		}
	}
	answer, err := c.Query(ctx, "create_api_key", params)
	if err != nil {
		return err
	}
	if answer.Body, err = k.open(answer.Body); err != nil {
		return err
	}
	return c.Reply(answer)
}

// open replaces the sealed key by the plain one.
func (k *Keys) open(stored []byte) ([]byte, error) {
	members := map[string]json.RawMessage{}
	var sealed string
	if err := json.Unmarshal(stored, &members); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(members["sealedKey"], &sealed); err != nil {
		return nil, fmt.Errorf("the sealed key: %w", err)
	}
	plain, err := k.box.Open(seal.APIKey, sealed)
	if err != nil {
		return nil, err
	}
	delete(members, "sealedKey")
	if members["key"], err = json.Marshal(string(plain)); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

func draw(environment string) (string, error) {
	if environment != "test" {
		environment = "live" // Postgres refuses any other value
	}
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	return "kijko_" + environment + "_" + hex.EncodeToString(random), nil
}
