package reflexes

import (
	"context"

	"kijko/server/api"
	"kijko/worker/seal"
)

// secretSize is how many random bytes a webhook secret has.
const secretSize = 16

// withSecret adds a fresh sealed secret to the parameters.
func (f *Feature) withSecret(params []byte) ([]byte, error) {
	if f.box == nil {
		return nil, api.NoEncryptionKey("webhook secrets", "")
	}
	_, sealed, err := f.box.NewSecret(seal.ReflexWebhook, secretSize)
	if err != nil {
		return nil, err
	}
	return api.AddMember(params, "sealedSecret", sealed)
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
	answer.Body = f.box.Reveal(answer.Body, "secret", seal.ReflexWebhook)
	return c.Reply(answer)
}

// regenerate makes a new secret. A replayed answer (Idempotency-Key) repeats the sealed secret of the first request.
func (f *Feature) regenerate(c *api.Call) error {
	params, err := f.withSecret(c.Params)
	if err != nil {
		return err
	}
	return f.answer(c, params)
}
