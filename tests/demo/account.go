package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pquerna/otp/totp"
)

// account switches a second factor on, signs in with it, and lets a program in with an API key. It gives a backup code that is left.
func (d *demo) account(ctx context.Context, email string) (code string, err error) {
	var setup struct{ Secret, ManualEntryKey string }
	if err := d.call(ctx, "POST", "/api/v1/security/2fa/setup", nil, &setup); err != nil {
		return "", err
	}
	code, err = totp.GenerateCode(setup.Secret, time.Now())
	if err != nil {
		return "", err
	}
	var on struct{ BackupCodes []struct{ Code string } }
	if err := d.call(ctx, "POST", "/api/v1/security/2fa/verify", map[string]any{"code": code}, &on); err != nil {
		return "", err
	}
	d.say("\nswitched on a second factor: the code %s of an authenticator app, and %d backup codes", code, len(on.BackupCodes))

	// The code was used; a backup code works without a wait for the next one.
	if err := d.signIn(ctx, email, on.BackupCodes[0].Code); err != nil {
		return "", err
	}
	d.say("signed in with password and backup code %s", on.BackupCodes[0].Code)

	var key struct{ Key, KeyPrefix string }
	if err := d.call(ctx, "POST", "/api/v1/security/api-keys", map[string]any{"name": "Demo", "expiration": "30", "scopes": []string{"read"}}, &key); err != nil {
		return "", err
	}
	program := &demo{base: d.base, out: d.out, token: key.Key}
	var projects struct{ Total int }
	if err := program.call(ctx, "GET", "/api/v1/projects", nil, &projects); err != nil {
		return "", err
	}
	d.say("made the API key %s... that may read, and listed %d project(s) with it", key.KeyPrefix, projects.Total)
	var refused *refusal
	if err := program.call(ctx, "POST", "/api/v1/projects", map[string]any{"name": "by a program"}, nil); !errors.As(err, &refused) {
		return "", fmt.Errorf("a key that may only read made a project (%w)", err)
	}
	d.say("writing with it is refused: %s", refused.Code)
	return on.BackupCodes[1].Code, nil
}

// signIn signs in with the password and a code of the second factor.
func (d *demo) signIn(ctx context.Context, email, code string) error {
	d.token = ""
	var demanded *refusal
	err := d.call(ctx, "POST", "/api/v1/auth/login", map[string]any{"email": email, "password": d.password}, nil)
	if !errors.As(err, &demanded) || demanded.Code != "TWO_FACTOR_REQUIRED" {
		return fmt.Errorf("no second factor was asked for: %w", err)
	}
	var details struct {
		Token string `json:"two_factor_token"`
	}
	if err := json.Unmarshal(demanded.Details, &details); err != nil {
		return err
	}
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := d.call(ctx, "POST", "/api/v1/auth/2fa", map[string]any{"two_factor_token": details.Token, "code": code}, &tokens); err != nil {
		return err
	}
	d.token = tokens.AccessToken
	return nil
}
