// Package seal encrypts secrets that are stored in the database: AES-256-GCM, with the name of the key beside the text, so that keys
// can be rotated. The first key seals, and every key opens.
//
// A Box is safe for concurrent use. A text that was sealed for one purpose cannot be opened for another: a text copied from one column
// into another is worthless there.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

const version = "v1"

// ErrOpen means that a text is damaged, was sealed for another purpose, or was sealed under a key that has been removed.
var ErrOpen = errors.New("seal: the text cannot be opened")

// Box seals and opens texts.
type Box struct {
	first string
	keys  map[string]cipher.AEAD
	raw   [][]byte // for digests, in order
}

// New takes keys of 32 bytes; the first one seals.
func New(keys ...[]byte) (*Box, error) {
	if len(keys) == 0 {
		return nil, errors.New("seal: a key is needed")
	}
	b := &Box{keys: make(map[string]cipher.AEAD, len(keys))}
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("seal: key %d has %d bytes instead of %d", i+1, len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("seal: key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("seal: key %d: %w", i+1, err)
		}
		name := keyName(key)
		if i == 0 {
			b.first = name
		}
		b.keys[name] = aead
		b.raw = append(b.raw, slices.Clone(key))
	}
	return b, nil
}

// keyName identifies a key without revealing it: 32 bits of a digest.
func keyName(key []byte) string {
	sum := sha256.Sum256(append([]byte("kijko seal key name:"), key...))
	return hex.EncodeToString(sum[:4])
}

// Seal returns "v1.<key>.<base64url of nonce and ciphertext>". purpose is bound to the text and not stored.
func (b *Box) Seal(purpose string, plain []byte) (string, error) {
	aead := b.keys[b.first]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("seal: draw a nonce: %w", err)
	}
	text := aead.Seal(nonce, nonce, plain, []byte(purpose))
	return version + "." + b.first + "." + base64.RawURLEncoding.EncodeToString(text), nil
}

// Open reverses Seal. The error is ErrOpen for every fault.
func (b *Box) Open(purpose, sealed string) ([]byte, error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != version {
		return nil, ErrOpen
	}
	aead := b.keys[parts[1]]
	if aead == nil {
		return nil, ErrOpen
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(text) < aead.NonceSize() {
		return nil, ErrOpen
	}
	plain, err := aead.Open(nil, text[:aead.NonceSize()], text[aead.NonceSize():], []byte(purpose))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// IsCurrent reports whether a text was sealed under the first key; other texts should be sealed again.
func (b *Box) IsCurrent(sealed string) bool {
	return strings.HasPrefix(sealed, version+"."+b.first+".")
}
