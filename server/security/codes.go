package security

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"rsc.io/qr"

	"kijko/worker/seal"
)

const (
	period      = 30 // seconds of a time step
	secretBytes = 20 // 160 bits, 32 characters
	backupCodes = 10
)

// Codes makes and checks second factors.
type Codes struct{ box *seal.Box }

// NewCodes needs the box that seals secrets.
func NewCodes(box *seal.Box) *Codes { return &Codes{box: box} }

var base32Plain = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret draws the secret of an authenticator app for a user. It is sealed for this user only.
func (c *Codes) NewSecret(userID string) (sealed string, err error) {
	raw := make([]byte, secretBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("draw a secret: %w", err)
	}
	return c.box.Seal(seal.SecondFactor(userID), []byte(base32Plain.EncodeToString(raw)))
}

// Secret opens a secret of NewSecret.
func (c *Codes) Secret(userID, sealed string) (string, error) {
	plain, err := c.box.Open(seal.SecondFactor(userID), sealed)
	if err != nil {
		return "", err
	}
	// The library finds codes for an empty secret, too.
	if len(plain) != base32Plain.EncodedLen(secretBytes) {
		return "", errors.New("security: a stored secret has the wrong length")
	}
	return string(plain), nil
}

var (
	appCode    = regexp.MustCompile(`^[0-9]{6}$`)
	backupCode = regexp.MustCompile(`^[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}$`)
)

// Proof is the result of a valid code, in the members that private.use_second_factor takes: the time step of an app's code with the secret
// that it was checked against, or the digests of a backup code. Empty: the code is wrong.
type Proof map[string]any

// AddTo adds the proof to the arguments of a function.
func (p Proof) AddTo(args map[string]any) {
	for name, value := range p {
		args[name] = value
	}
}

// Verify checks a code against a sealed secret. It tries the three time steps around now one by one, because the database stores the used
// step, and the library does not return it.
func (c *Codes) Verify(userID, sealed, code string, now time.Time) (Proof, error) {
	code = strings.ToUpper(strings.TrimSpace(code))
	if backupCode.MatchString(code) {
		sums, err := c.backupDigests(userID, code)
		return Proof{"backupHashes": sums}, err
	}
	if !appCode.MatchString(code) {
		return nil, nil
	}
	secret, err := c.Secret(userID, sealed)
	if err != nil {
		return nil, err
	}
	for _, step := range []int64{1, 0, -1} {
		at := now.Add(time.Duration(step) * period * time.Second)
		right, err := totp.ValidateCustom(code, secret, at, totp.ValidateOpts{Period: period, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return nil, fmt.Errorf("security: check a code: %w", err)
		}
		if right {
			return Proof{"step": at.Unix() / period, "checkedSecret": sealed}, nil
		}
	}
	return nil, nil
}

func (c *Codes) backupDigests(userID, code string) ([]string, error) {
	sums, err := c.box.Digests(seal.SecondFactorCodes(userID), []byte(code))
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(sums))
	for i, sum := range sums {
		texts[i] = hex.EncodeToString(sum)
	}
	return texts, nil
}

// AddBackupCodes draws ten backup codes and adds them to the arguments of a function: the digests to store, and the codes sealed for the
// answer.
func (c *Codes) AddBackupCodes(userID string, args map[string]any) error {
	codes, hashes := make([]string, backupCodes), make([]string, backupCodes)
	for i := range codes {
		raw := make([]byte, 6)
		if _, err := rand.Read(raw); err != nil {
			return fmt.Errorf("draw a backup code: %w", err)
		}
		text := strings.ToUpper(hex.EncodeToString(raw))
		codes[i] = text[:4] + "-" + text[4:8] + "-" + text[8:]
		sums, err := c.backupDigests(userID, codes[i])
		if err != nil {
			return err
		}
		hashes[i] = sums[0]
	}
	plain, err := json.Marshal(codes)
	if err != nil {
		return err
	}
	args["codeHashes"] = hashes
	args["sealedCodes"], err = c.box.Seal(seal.SecondFactorCodes(userID), plain)
	return err
}

// BackupCode of the contract.
type BackupCode struct {
	Code   string `json:"code"`
	IsUsed bool   `json:"isUsed"`
}

// BackupCodes opens the codes that AddBackupCodes sealed.
func (c *Codes) BackupCodes(userID, sealed string) ([]BackupCode, error) {
	plain, err := c.box.Open(seal.SecondFactorCodes(userID), sealed)
	if err != nil {
		return nil, err
	}
	var codes []string
	if err := json.Unmarshal(plain, &codes); err != nil {
		return nil, fmt.Errorf("security: stored codes: %w", err)
	}
	shown := make([]BackupCode, len(codes))
	for i, code := range codes {
		shown[i].Code = code
	}
	return shown, nil
}

// address returns the content of the QR code. The library's own address leaves +, @, & and : in the label unescaped, and some apps end the
// label there.
func address(email, secret string) string {
	label := strings.ReplaceAll(url.QueryEscape(email), "+", "%20")
	return "otpauth://totp/Kijko:" + label + "?secret=" + secret + "&issuer=Kijko&algorithm=SHA1&digits=6&period=30"
}

// picture is a QR code as a data URL: 8 pixels a module with the quiet zone that readers need.
func picture(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("security: draw a QR code: %w", err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(code.PNG()), nil
}

// grouped returns a secret in groups, for typing.
func grouped(secret string) string {
	var b strings.Builder
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
