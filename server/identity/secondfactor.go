package identity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/security"
)

// addChallenge adds the hash of a token for proving a second factor, in case the database demands one.
func addChallenge(args map[string]any) (token string, err error) {
	if args["challenge_hash"] != nil {
		return "", nil
	}
	token, hash, err := auth.NewSecret()
	args["challenge_hash"] = hex.EncodeToString(hash)
	return token, err
}

// withChallenge puts the token into the refusal that demands a second factor.
func withChallenge(err error, token string) error {
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != "TWO_FACTOR_REQUIRED" {
		return err
	}
	details := map[string]any{}
	if err := json.Unmarshal(p.Details, &details); err != nil {
		return err
	}
	details["two_factor_token"] = token
	p.Details, err = json.Marshal(details)
	if err != nil {
		return err
	}
	return p
}

// challengeOf returns the token in such a refusal, or "".
func challengeOf(err error) string {
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != "TWO_FACTOR_REQUIRED" {
		return ""
	}
	var details struct {
		Token string `json:"two_factor_token"`
	}
	_ = json.Unmarshal(p.Details, &details)
	return details.Token
}

// proveSecondFactor answers POST /auth/2fa.
func (i *Identity) proveSecondFactor(c *api.Call) error {
	var body struct {
		Token    string `json:"two_factor_token"`
		Code     string `json:"code"`
		Remember bool   `json:"remember_device"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	return i.secondFactor(c, body.Token, body.Code, body.Remember)
}

// secondFactor checks a code; the database checks everything else. An expired token is treated like a wrong code. The answer under an
// Idempotency-Key can thus be found, and the two cases look the same.
func (i *Identity) secondFactor(c *api.Call, token, code string, remember bool) error {
	if i.codes == nil {
		return security.NotConfigured()
	}
	hash := hex.EncodeToString(auth.HashSecret(token))
	found, err := i.server(c, "begin_second_factor", map[string]any{"challenge_hash": hash})
	if err != nil {
		return err
	}
	args := map[string]any{"challenge_hash": hash, "remember": remember}
	if found.Attempt > 0 {
		args["attempt"] = found.Attempt
		proof, err := i.codes.Verify(found.UserID, found.Secret, code, time.Now())
		if err != nil {
			return err
		}
		proof.AddTo(args)
	}
	return i.signIn(c, "finish_second_factor", args)
}

// Rules are the rules for a new password: the policies of the user's organizations, or the default policy.
type Rules struct {
	MinLength    int      `json:"minLength"`
	Upper        bool     `json:"upper"`
	Lower        bool     `json:"lower"`
	Number       bool     `json:"number"`
	Symbol       bool     `json:"symbol"`
	IsPolicy     bool     `json:"isPolicy"`
	FormerHashes []string `json:"formerHashes"`
}

// CheckNewPassword refuses a new password (400 WEAK_PASSWORD) that the rules of the user's organizations do not allow, or that the user had
// before. meets says whether the password meets the default policy.
func (i *Identity) CheckNewPassword(ctx context.Context, userID, password string) (meets bool, err error) {
	return i.checkPassword(ctx, map[string]any{"user_id": userID}, password)
}

// checkInvited checks the password of a user who signs up with an invitation against the policy of the inviting organization, if it has
// one.
func (i *Identity) checkInvited(ctx context.Context, token, password string) error {
	_, err := i.checkPassword(ctx, map[string]any{"invitation_hash": hex.EncodeToString(auth.HashSecret(token))}, password)
	return err
}

func (i *Identity) checkPassword(ctx context.Context, p map[string]any, password string) (meets bool, err error) {
	answer, err := api.Serve(ctx, i.exec, api.Request{}, "password_rules", p)
	if err != nil {
		return false, err
	}
	var rules Rules
	if err := json.Unmarshal(answer.Body, &rules); err != nil {
		return false, err
	}
	if p["user_id"] == nil && !rules.IsPolicy {
		return false, nil
	}
	policy := auth.PasswordPolicy{MinLength: rules.MinLength, Upper: rules.Upper, Lower: rules.Lower, Number: rules.Number, Symbol: rules.Symbol}
	if missing := policy.Missing(password); missing != nil {
		return false, weak(missing, "The password does not have what is asked of it.")
	}
	for _, former := range rules.FormerHashes {
		same, _, err := i.hasher.Check(ctx, former, password)
		if err != nil {
			return false, busy(err)
		}
		if same {
			return false, weak([]string{"reused"}, "The password was used before. Please choose another one.")
		}
	}
	return len(auth.DefaultPolicy().Missing(password)) == 0, nil
}
