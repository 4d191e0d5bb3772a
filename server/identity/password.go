package identity

import (
	"maps"

	"kijko/server/api"
)

// changePassword answers POST /profile/password. All other sessions of the user end.
func (i *Identity) changePassword(c *api.Call) error {
	var body struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	caller := map[string]any{"user_id": c.Caller.UserID, "session_id": c.Caller.SessionID, "org_hint": orNull(c.Caller.OrgHint),
		"claims": c.Caller.Claims, "request_id": c.RequestID, "client_ip": c.ClientIP}
	account, err := i.server(c, "begin_password_change", caller)
	if err != nil {
		return err
	}
	correct, _, err := i.hasher.Check(c.Context(), account.PasswordHash, body.Current)
	if err != nil {
		return busy(err)
	}
	if !correct {
		return api.NewProblem(400, "INVALID_PASSWORD", "The current password is not correct.", "currentPassword")
	}
	meets, err := i.CheckNewPassword(c.Context(), c.Caller.UserID, body.New)
	if err != nil {
		return ofNewPassword(err)
	}
	fresh, err := i.hasher.Hash(c.Context(), body.New)
	if err != nil {
		return busy(err)
	}
	p := maps.Clone(caller)
	p["checked_hash"], p["new_hash"], p["meets_policy"] = account.PasswordHash, fresh, meets
	if _, err := i.server(c, "finish_password_change", p); err != nil {
		return err
	}
	return c.Reply(api.Answer{})
}

// ofNewPassword sets the field of a refusal to that of the new password.
func ofNewPassword(err error) error {
	if p, ok := err.(*api.Problem); ok && p.Field == "password" {
		p.Field = "newPassword"
	}
	return err
}
