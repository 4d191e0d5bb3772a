package security

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/server/auth"
)

// answer replaces the body of Postgres's answer.
func answer(c *api.Call, a api.Answer, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	a.Body = raw
	return c.Reply(a)
}

// setUp answers POST /security/2fa/setup. A replayed answer (Idempotency-Key) holds the sealed secret of the first request.
func (f *Feature) setUp(c *api.Call) error {
	sealed, err := f.codes.NewSecret(c.Caller.UserID)
	if err != nil {
		return err
	}
	a, err := c.Query(c.Context(), "set_up_two_factor", map[string]any{"sealedSecret": sealed})
	if err != nil {
		return err
	}
	var made struct{ Email, Secret string }
	if err := json.Unmarshal(a.Body, &made); err != nil {
		return fmt.Errorf("set up a second factor: %w", err)
	}
	secret, err := f.codes.Secret(c.Caller.UserID, made.Secret)
	if err != nil {
		return err
	}
	qrCode, err := picture(address(made.Email, secret))
	if err != nil {
		return err
	}
	return answer(c, a, map[string]any{"secret": secret, "qrCodeUrl": qrCode, "manualEntryKey": grouped(secret)})
}

// Known is the data that the server needs to check a caller's code.
type Known struct {
	Secret       string `json:"secret"`
	PasswordHash string `json:"password_hash"`
	Attempt      int    `json:"attempt"`
}

// Begin authorizes the caller and reads the data for the check. The purpose is verify, for the first code of a new secret, or disable, for any
// other.
func Begin(c *api.Call, purpose string) (Known, error) {
	args := map[string]any{"user_id": c.Caller.UserID, "session_id": c.Caller.SessionID, "claims": c.Caller.Claims, "request_id": c.RequestID,
		"client_ip": c.ClientIP, "purpose": purpose}
	if c.Caller.OrgHint != "" {
		args["org_hint"] = c.Caller.OrgHint
	}
	a, err := c.Server(c.Context(), "begin_second_factor_call", args)
	if err != nil {
		return Known{}, err
	}
	var k Known
	return k, json.Unmarshal(a.Body, &k)
}

// verify answers POST /security/2fa/verify.
func (f *Feature) verify(c *api.Call) error {
	var body struct {
		Code string `json:"code"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	k, err := Begin(c, "verify")
	if err != nil {
		return err
	}
	args := map[string]any{}
	if k.Attempt > 0 {
		args["attempt"], args["checkedSecret"] = k.Attempt, k.Secret
		proof, err := f.codes.Verify(c.Caller.UserID, k.Secret, body.Code, time.Now())
		if err != nil {
			return err
		}
		proof.AddTo(args)
		if len(proof) > 0 {
			if err := f.codes.AddBackupCodes(c.Caller.UserID, args); err != nil {
				return err
			}
		}
	}
	a, err := c.Query(c.Context(), "verify_two_factor", args)
	if err != nil {
		return err
	}
	var made struct {
		Valid       bool            `json:"valid"`
		BackupCodes string          `json:"backupCodes"`
		Status      json.RawMessage `json:"status"`
		Problem     *struct {
			Status        int
			Code, Message string
			Details       struct{ RetryAfter int }
		} `json:"problem"`
	}
	if err := json.Unmarshal(a.Body, &made); err != nil {
		return fmt.Errorf("verify a second factor: %w", err)
	}
	if p := made.Problem; p != nil {
		refusal := api.NewProblem(p.Status, p.Code, p.Message, "")
		refusal.Header = map[string]string{fiber.HeaderRetryAfter: strconv.Itoa(p.Details.RetryAfter)}
		return refusal
	}
	if !made.Valid {
		return c.Reply(a)
	}
	codes, err := f.codes.BackupCodes(c.Caller.UserID, made.BackupCodes)
	if err != nil {
		return err
	}
	return answer(c, a, map[string]any{"valid": true, "backupCodes": codes, "status": made.Status})
}

// disable answers POST /security/2fa/disable.
func (f *Feature) disable(c *api.Call) error {
	var body struct {
		Password string `json:"password"`
		Code     string `json:"code"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	k, err := Begin(c, "disable")
	if err != nil {
		return err
	}
	args := map[string]any{}
	if k.PasswordHash != "" {
		right, _, err := f.hasher.Check(c.Context(), k.PasswordHash, body.Password)
		if errors.Is(err, auth.ErrBusy) {
			return api.Unavailable("AUTH_UNAVAILABLE", "Too many people are signing in at the moment. Please try again.", err)
		} else if err != nil {
			return err
		}
		args["isPasswordRight"], args["checkedHash"] = right, k.PasswordHash
	}
	if k.Secret != "" {
		proof, err := f.codes.Verify(c.Caller.UserID, k.Secret, body.Code, time.Now())
		if err != nil {
			return err
		}
		proof.AddTo(args)
	}
	a, err := c.Query(c.Context(), "disable_two_factor", args)
	if err != nil {
		return err
	}
	return c.Reply(a)
}

// regenerate answers POST /security/2fa/backup-codes/regenerate.
func (f *Feature) regenerate(c *api.Call) error {
	args := map[string]any{}
	if err := f.codes.AddBackupCodes(c.Caller.UserID, args); err != nil {
		return err
	}
	a, err := c.Query(c.Context(), "regenerate_backup_codes", args)
	if err != nil {
		return err
	}
	var sealed string
	if err := json.Unmarshal(a.Body, &sealed); err != nil {
		return fmt.Errorf("regenerate backup codes: %w", err)
	}
	codes, err := f.codes.BackupCodes(c.Caller.UserID, sealed)
	if err != nil {
		return err
	}
	return answer(c, a, codes)
}
