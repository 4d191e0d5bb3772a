package identity

import (
	"encoding/hex"

	"kijko/server/api"
	"kijko/server/auth"
)

// linkRequests is how many links may be requested for one address in 15 minutes (contract 40, 1.9).
const linkRequests = 3

// forgotPassword answers POST /auth/forgot-password.
func (i *Identity) forgotPassword(c *api.Call) error { return i.requestLink(c, "reset_password") }

// requestMagicLink answers POST /auth/magic-link.
func (i *Identity) requestMagicLink(c *api.Call) error { return i.requestLink(c, "magic_link") }

// requestLink gives the same answer whether or not an account has the address: a job looks for the account afterwards.
func (i *Identity) requestLink(c *api.Call, purpose string) error {
	var body struct {
		Email string `json:"email"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if _, err := i.server(c, "request_link", map[string]any{"purpose": purpose, "email": body.Email, "email_limit": i.linkLimit}); err != nil {
		return err
	}
	return c.JSON(map[string]string{"message": "If there is an account with this address, a mail with a link is on its way."})
}

// verifyMagicLink answers POST /auth/magic-link/verify.
func (i *Identity) verifyMagicLink(c *api.Call) error {
	hash, err := tokenOf(c)
	if err != nil {
		return err
	}
	return i.signIn(c, "finish_magic_link", map[string]any{"link_hash": hash})
}

// tokenOf returns the hash of the token in the body.
func tokenOf(c *api.Call) (string, error) {
	var body struct {
		Token string `json:"token"`
	}
	if err := c.Decode(&body); err != nil {
		return "", err
	}
	return hex.EncodeToString(auth.HashSecret(body.Token)), nil
}

// resetPassword answers POST /auth/reset-password. A refused password does not use up the link.
func (i *Identity) resetPassword(c *api.Call) error {
	var body struct {
		Token    string `json:"token"`
		Password string `json:"password"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	hash := hex.EncodeToString(auth.HashSecret(body.Token))
	account, err := i.server(c, "begin_reset", map[string]any{"reset_hash": hash})
	if err != nil {
		return err
	}
	meets, err := i.CheckNewPassword(c.Context(), account.UserID, body.Password)
	if err != nil {
		return err
	}
	fresh, err := i.hasher.Hash(c.Context(), body.Password)
	if err != nil {
		return busy(err)
	}
	if _, err := i.server(c, "finish_reset", map[string]any{"reset_hash": hash, "new_hash": fresh, "meets_policy": meets}); err != nil {
		return err
	}
	return c.Reply(api.Answer{})
}
