package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// Digests are HMAC-SHA256 of a text under each key, the first key's first. A text too short for a plain hash is stored as the first
// digest and recognized by any of them. A digest for one purpose reveals nothing about a digest for another purpose.
func (b *Box) Digests(purpose string, text []byte) ([][]byte, error) {
	sums := make([][]byte, 0, len(b.raw))
	for _, raw := range b.raw {
		key, err := hkdf.Key(sha256.New, raw, nil, "kijko digest "+purpose, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("seal: derive a key: %w", err)
		}
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write(text)
		sums = append(sums, mac.Sum(nil))
	}
	return sums, nil
}
