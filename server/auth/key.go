package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// Keys are the P-256 keys of the built-in issuer: the first private one signs,
// all verify.
type Keys struct {
	signing  *ecdsa.PrivateKey
	kid      string // of signing
	public   []publicKey
	privates []*ecdsa.PrivateKey
}

type publicKey struct {
	kid string
	key *ecdsa.PublicKey
}

// KeyStore keeps the generated key of a development installation; Postgres
// implements it.
type KeyStore interface {
	// SigningKey returns the PEM that the installation keeps. If it keeps none,
	// it stores the offered one. Atomic: servers that start together get the same
	// answer.
	SigningKey(ctx context.Context, offered string) (kept string, err error)
}

// GenerateKey returns a new P-256 private key as PKCS #8 PEM.
func GenerateKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode the signing key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// StoredKeys returns the keys of a development installation, made at first use.
func StoredKeys(ctx context.Context, store KeyStore) (*Keys, error) {
	offered, err := GenerateKey()
	if err != nil {
		return nil, err
	}
	kept, err := store.SigningKey(ctx, offered)
	if err != nil {
		return nil, fmt.Errorf("load the signing key: %w", err)
	}
	return ParseKeys(kept)
}

// ParseKeys reads the PEM blocks of JWT_PRIVATE_KEY: PRIVATE KEY, EC PRIVATE KEY
// and, for retired keys, PUBLIC KEY. The first private key signs. Line breaks may
// be written as \n, as environment files do.
func ParseKeys(text string) (*Keys, error) {
	const want = "want P-256 keys, as made by: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
	rest := []byte(strings.ReplaceAll(text, `\n`, "\n"))
	keys := &Keys{}
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		private, public, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("signing keys, PEM block %d: %w; %s", n, err, want)
		}
		if public == nil {
			continue
		}
		kid, err := thumbprint(public)
		if err != nil {
			return nil, fmt.Errorf("signing keys, PEM block %d: %w", n, err)
		}
		if private != nil {
			keys.privates = append(keys.privates, private)
			if keys.signing == nil {
				keys.signing, keys.kid = private, kid
			}
		}
		if _, err := keys.find(kid); err != nil {
			keys.public = append(keys.public, publicKey{kid, public})
		}
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("signing keys: text that is no PEM block; " + want)
	}
	if keys.signing == nil {
		return nil, errors.New("signing keys: no private key; " + want)
	}
	return keys, nil
}

// parseBlock returns nothing for the parameter block that openssl ecparam writes.
func parseBlock(block *pem.Block) (*ecdsa.PrivateKey, *ecdsa.PublicKey, error) {
	var parsed any
	var err error
	switch block.Type {
	case "EC PARAMETERS":
		return nil, nil, nil
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		err = fmt.Errorf("type %q", block.Type)
	}
	if err != nil {
		return nil, nil, err
	}
	private, _ := parsed.(*ecdsa.PrivateKey)
	public, _ := parsed.(*ecdsa.PublicKey)
	if private != nil {
		public = &private.PublicKey
	}
	if public == nil || public.Curve != elliptic.P256() {
		return nil, nil, errors.New("another kind of key")
	}
	return private, public, nil
}

// thumbprint names a key by its content (RFC 7638), so that equal keys have equal
// names on every replica.
func thumbprint(key *ecdsa.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: key}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// find returns the key named kid. A token of this server always names one.
func (k *Keys) find(kid string) ([]any, error) {
	for _, p := range k.public {
		if p.kid == kid {
			return []any{p.key}, nil
		}
	}
	return nil, fmt.Errorf("%w: kid %q", ErrSignature, tidy(kid, 64))
}

// Secrets derives a 32-byte secret for one purpose from each private key, that of
// the signing key first. It provides the server key of NewCookies and others
// without another setting. A rotation of the private keys rotates the secrets
// too.
func (k *Keys) Secrets(purpose string) ([][]byte, error) {
	var secrets [][]byte
	for _, private := range k.privates {
		scalar, err := private.Bytes()
		if err != nil {
			return nil, fmt.Errorf("derive the secret for %s: %w", purpose, err)
		}
		secret, err := hkdf.Key(sha256.New, scalar, nil, "kijko "+purpose, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive the secret for %s: %w", purpose, err)
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}
