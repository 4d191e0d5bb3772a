package projects

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"kijko/server/api"
	"kijko/worker/seal"
)

// withSecret passes the request on unchanged, unless it may set a webhook address: then it adds a fresh sealed secret. If the address was
// new, the answer contains the sealed secret, which is replaced by the plain one. It is never shown again.
func (f *Feature) withSecret(function string) api.Handler {
	return func(c *api.Call) error {
		params := c.Params
		var plain, sealed string
		if bytes.Contains(c.Body, []byte("webhookUrl")) {
			if f.box == nil {
				return api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED",
					"This installation has no encryption key, so it cannot keep webhook secrets.", "webhookUrl")
			}
			var err error
			if plain, sealed, err = f.newSecret(); err != nil {
				return err
			}
			if params, err = addMember(params, "sealedWebhookSecret", sealed); err != nil {
				return err
			}
		}
		answer, err := c.Query(c.Context(), function, params)
		if err != nil {
			return err
		}
		if sealed != "" {
			if answer.Body, err = f.reveal(answer.Body, sealed, plain); err != nil {
				return err
			}
		}
		return c.Reply(answer)
	}
}

// newSecret returns "whsec_" and 32 random bytes in hex, plain and sealed.
func (f *Feature) newSecret() (plain, sealed string, err error) {
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", "", fmt.Errorf("draw a webhook secret: %w", err)
	}
	plain = "whsec_" + hex.EncodeToString(raw)
	sealed, err = f.box.Seal(seal.ProjectWebhook, []byte(plain))
	return plain, sealed, err
}

// reveal replaces the sealed secret by the plain one. A replayed answer (Idempotency-Key) repeats the sealed secret of the first request,
// which opens to the same plain text.
func (f *Feature) reveal(body []byte, sealed, plain string) ([]byte, error) {
	var answer struct {
		Secret string `json:"webhookSecret"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	switch answer.Secret {
	case "":
		return body, nil
	case sealed:
	default:
		opened, err := f.box.Open(seal.ProjectWebhook, answer.Secret)
		if err != nil {
			return nil, fmt.Errorf("open the stored webhook secret: %w", err)
		}
		plain = string(opened)
	}
	return bytes.Replace(body, []byte(`"`+answer.Secret+`"`), []byte(`"`+plain+`"`), 1), nil
}

// addMember inserts a member at the beginning of a JSON object.
func addMember(object []byte, name, value string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(object), []byte("{"))
	if !ok {
		return nil, fmt.Errorf("parameters are no object")
	}
	member, err := json.Marshal(map[string]string{name: value})
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, member[:len(member)-1]...)
	if !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")) {
		out = append(out, ',')
	}
	return append(out, rest...), nil
}
