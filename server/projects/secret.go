package projects

import (
	"bytes"

	"kijko/server/api"
	"kijko/worker/seal"
)

// secretSize is how many random bytes a webhook secret has.
const secretSize = 32

// withSecret passes the request on unchanged, unless it may set a webhook address: then it adds a fresh sealed secret. If the address was
// new, the answer contains the sealed secret, which is replaced by the plain one. It is never shown again.
func (f *Feature) withSecret(function string) api.Handler {
	return func(c *api.Call) error {
		params := c.Params
		made := bytes.Contains(c.Body, []byte("webhookUrl"))
		if made {
			if f.box == nil {
				return api.NoEncryptionKey("webhook secrets", "webhookUrl")
			}
			_, sealed, err := f.box.NewSecret(seal.ProjectWebhook, secretSize)
			if err != nil {
				return err
			}
			if params, err = api.AddMember(params, "sealedWebhookSecret", sealed); err != nil {
				return err
			}
		}
		answer, err := c.Query(c.Context(), function, params)
		if err != nil {
			return err
		}
		if made {
			answer.Body = f.box.Reveal(answer.Body, "webhookSecret", seal.ProjectWebhook)
		}
		return c.Reply(answer)
	}
}
