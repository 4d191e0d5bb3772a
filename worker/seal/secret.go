package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// NewSecret draws the secret of a webhook, "whsec_" and random bytes in hex, plain and sealed.
func (b *Box) NewSecret(purpose string, size int) (plain, sealed string, err error) {
	raw := make([]byte, size)
	if _, err := rand.Read(raw); err != nil {
		return "", "", fmt.Errorf("draw a webhook secret: %w", err)
	}
	plain = "whsec_" + hex.EncodeToString(raw)
	sealed, err = b.Seal(purpose, []byte(plain))
	return plain, sealed, err
}

// Reveal replaces the sealed secrets of an answer by plain ones: they are members of that name, as Postgres writes them. Reading a secret
// thus costs no second round trip, and an answer that is replayed under its Idempotency-Key shows the secret of the first request. Inside a
// text the quotes would be escaped, so user text cannot look like a member. A member of that name in user data does not open, and stays
// unchanged.
func (b *Box) Reveal(body []byte, member, purpose string) []byte {
	mark := []byte(`"` + member + `": "` + version + `.`)
	at := bytes.Index(body, mark)
	if at < 0 || b == nil {
		return body
	}
	out := make([]byte, 0, len(body))
	for at >= 0 {
		begin := at + len(mark) - len(version) - 2 // at the quote
		size := bytes.IndexByte(body[begin+1:], '"') + 2
		shown := body[begin : begin+size]
		if plain, err := b.Open(purpose, string(shown[1:size-1])); err == nil {
			if text, err := json.Marshal(string(plain)); err == nil {
				shown = text
			}
		}
		out = append(append(out, body[:begin]...), shown...)
		body = body[begin+size:]
		at = bytes.Index(body, mark)
	}
	return append(out, body...)
}

// ReadSignature reads the HMAC-SHA256 that a sender gives in hex, with or without "sha256=" in front; nil if it is missing or malformed.
func ReadSignature(header string) []byte {
	given, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(header), "sha256="))
	if err != nil || len(given) != sha256.Size {
		return nil
	}
	return given
}

// IsSigned checks a signature by HMAC-SHA256, in constant time.
func IsSigned(secret, signature, signed []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	return hmac.Equal(signature, mac.Sum(nil))
}
