package reflexes

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"kijko/server/api"
	"kijko/worker/seal"
)

// newSecret returns "whsec_" and 16 random bytes in hex, plain and sealed.
func (f *Feature) newSecret() (plain, sealed string, err error) {
	if f.box == nil {
		p := api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED",
			"This installation has no encryption key, so it cannot keep webhook secrets.", "")
		p.Details = json.RawMessage(`{"provider":"encryption"}`)
		return "", "", p
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", "", fmt.Errorf("draw a webhook secret: %w", err)
	}
	plain = "whsec_" + hex.EncodeToString(raw)
	sealed, err = f.box.Seal(seal.ReflexWebhook, []byte(plain))
	return plain, sealed, err
}

// sealedMember is how Postgres writes a member that holds a sealed text. Inside a text its quotes would be escaped, so user text cannot
// look like it. A member of that name in user data does not open, and stays unchanged.
var sealedMember = []byte(`"secret": "v1.`)

// reveal replaces sealed secrets by plain ones: the sealed ones are part of the answer, so that reading them costs no second round trip.
func (f *Feature) reveal(body []byte) []byte {
	at := bytes.Index(body, sealedMember)
	if at < 0 || f.box == nil {
		return body
	}
	out := make([]byte, 0, len(body))
	for at >= 0 {
		begin := at + len(sealedMember) - len("v1.")
		size := bytes.IndexByte(body[begin:], '"')
		plain, err := f.box.Open(seal.ReflexWebhook, string(body[begin:begin+size]))
		if err != nil {
			plain = body[begin : begin+size]
		}
		out = append(append(out, body[:begin]...), plain...)
		body = body[begin+size:]
		at = bytes.Index(body, sealedMember)
	}
	return append(out, body...)
}

// open answers an operation whose result contains reflexes.
func (f *Feature) open(c *api.Call) error { return f.answer(c, c.Params) }

func (f *Feature) answer(c *api.Call, params []byte) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := c.Query(ctx, c.Op.Function, params)
	if err != nil {
		return err
	}
	answer.Body = f.reveal(answer.Body)
	return c.Reply(answer)
}

// regenerate makes a new secret. A replayed answer (Idempotency-Key) repeats the sealed secret of the first request.
func (f *Feature) regenerate(c *api.Call) error {
	_, sealed, err := f.newSecret()
	if err != nil {
		return err
	}
	params, err := addMember(c.Params, "sealedSecret", sealed)
	if err != nil {
		return err
	}
	return f.answer(c, params)
}

// addMember inserts a member at the beginning of a JSON object.
func addMember(object []byte, name string, value any) ([]byte, error) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(object), []byte("{"))
	if !ok {
		return nil, fmt.Errorf("parameters are no object")
	}
	member, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, member[:len(member)-1]...)
	if !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")) {
		out = append(out, ',')
	}
	return append(out, rest...), nil
}
