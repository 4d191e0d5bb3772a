package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// secretBytes makes guessing infeasible: 256 bits, so a plain SHA-256 is enough
// to store it.
const secretBytes = 32

// NewSecret returns a random secret for refresh tokens and links: 43 characters
// of base64url, and the SHA-256 under which it is stored.
func NewSecret() (plain string, hash []byte, err error) {
	b := make([]byte, secretBytes)
	if _, err := rand.Read(b); err != nil {
		return "", nil, fmt.Errorf("draw a secret: %w", err)
	}
	plain = base64.RawURLEncoding.EncodeToString(b)
	return plain, HashSecret(plain), nil
}

// HashSecret returns the SHA-256 under which a secret is stored and looked up.
func HashSecret(plain string) []byte {
	sum := sha256.Sum256([]byte(plain))
	return sum[:]
}

// Cookies signs the value of the session cookie. Nothing is stored for it: the
// cookie names a session and is valid as long as the session.
type Cookies struct{ keys [][]byte }

// NewCookies takes the server keys, 32 bytes or more each: the first signs, all
// verify.
func NewCookies(keys ...[]byte) (*Cookies, error) {
	if len(keys) == 0 {
		return nil, errors.New("the session cookie has no key")
	}
	for _, key := range keys {
		if len(key) < minSecret {
			return nil, fmt.Errorf("the key of the session cookie has %d bytes, it needs %d", len(key), minSecret)
		}
	}
	return &Cookies{keys}, nil
}

// Sign returns the cookie value for a session: its id, a dot, and the HMAC.
func (c *Cookies) Sign(sessionID string) string {
	return sessionID + "." + base64.RawURLEncoding.EncodeToString(mac(c.keys[0], sessionID))
}

// Verify returns the session id of a cookie value; ok is false if the signature
// is not from these keys.
func (c *Cookies) Verify(value string) (sessionID string, ok bool) {
	id, signature, found := strings.Cut(value, ".")
	if !found {
		return "", false
	}
	if _, err := canonicalUUID(id); err != nil {
		return "", false
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil {
		return "", false
	}
	for _, key := range c.keys {
		if hmac.Equal(got, mac(key, id)) {
			return id, true
		}
	}
	return "", false
}

// mac includes its purpose, so that the key may serve other purposes, too.
func mac(key []byte, sessionID string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("kijko_session\x00" + sessionID))
	return h.Sum(nil)
}
