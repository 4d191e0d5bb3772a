package identity

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"kijko/server/api"
	"kijko/server/auth"
)

// signUp answers POST /auth/signup.
func (i *Identity) signUp(c *api.Call) error {
	var body struct {
		Email           string `json:"email"`
		Password        string `json:"password"`
		FirstName       string `json:"first_name"`
		LastName        string `json:"last_name"`
		InvitationToken string `json:"invitation_token"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if err := weak(auth.SignUpPolicy().Missing(body.Password), "The password must have 8 to 128 characters."); err != nil {
		return err
	}
	if strings.EqualFold(visible(body.Email), visible(body.Password)) {
		return weak([]string{}, "The password must not be the e-mail address.")
	}
	if body.InvitationToken != "" {
		if err := i.checkInvited(c.Context(), body.InvitationToken, body.Password); err != nil {
			return err
		}
	}
	hash, err := i.hasher.Hash(c.Context(), body.Password)
	if err != nil {
		return busy(err)
	}
	return i.signIn(c, "sign_up", map[string]any{"email": body.Email, "first_name": body.FirstName, "last_name": body.LastName,
		"password_hash": hash, "meets_policy": len(auth.DefaultPolicy().Missing(body.Password)) == 0, "invitation_token": body.InvitationToken})
}

// visible removes characters that are invisible or look like a blank.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
}

// weak refuses a password that does not meet all demands; nil accepts it.
func weak(missing []string, message string) error {
	if missing == nil {
		return nil
	}
	details, err := json.Marshal(map[string][]string{"missing": missing})
	if err != nil {
		return err
	}
	p := api.NewProblem(http.StatusBadRequest, "WEAK_PASSWORD", message, "password")
	p.Details = details
	return p
}

// busy returns the answer for a full queue of password hashes. Other errors are passed on.
func busy(err error) error {
	if errors.Is(err, auth.ErrBusy) {
		return api.Unavailable("AUTH_UNAVAILABLE", "Too many people are signing in at the moment. Please try again.", err)
	}
	return err
}

// logIn answers POST /auth/login. The password for an unknown address is checked against a decoy, which takes as long.
func (i *Identity) logIn(c *api.Call) error {
	var body struct {
		Email       string `json:"email"`
		Password    string `json:"password"`
		TOTPCode    string `json:"totp_code"`
		DeviceToken string `json:"device_token"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	account, err := i.server(c, "begin_login", map[string]any{"email": body.Email})
	if err != nil {
		return err
	}
	correct, stale, err := i.hasher.Check(c.Context(), account.PasswordHash, body.Password)
	if err != nil {
		return busy(err)
	}
	args := map[string]any{"email": account.Email, "user_id": orNull(account.UserID), "checked_hash": account.PasswordHash, "is_correct": correct}
	if stale {
		if args["new_hash"], err = i.hasher.Hash(c.Context(), body.Password); err != nil {
			return busy(err)
		}
	}
	if body.DeviceToken != "" {
		args["device_hash"] = hex.EncodeToString(auth.HashSecret(body.DeviceToken))
	}
	err = i.signIn(c, "finish_login", args)
	if challenge := challengeOf(err); challenge != "" && body.TOTPCode != "" {
		return i.secondFactor(c, challenge, body.TOTPCode, false)
	}
	return err
}
