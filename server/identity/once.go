package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"

	"kijko/server/api"
	"kijko/server/auth"
)

// signIn runs a function that begins or continues a session and answers with its tokens. Under an Idempotency-Key it has its effect once,
// and the first answer is repeated for 24 hours.
func (i *Identity) signIn(c *api.Call, function string, args map[string]any) error {
	args["user_agent"] = userAgent(c)
	challenge, err := addChallenge(args)
	if err != nil {
		return err
	}
	key := string(c.Ctx.Request().Header.Peek("Idempotency-Key"))
	if key != "" {
		return withChallenge(i.signInOnce(c, function, key, args), challenge)
	}
	refresh, hash, err := auth.NewSecret()
	if err != nil {
		return err
	}
	device, deviceHash, err := auth.NewSecret()
	if err != nil {
		return err
	}
	args["token_hash"], args["remembered_hash"] = hex.EncodeToString(hash), hex.EncodeToString(deviceHash)
	session, err := i.server(c, function, args)
	if err != nil {
		return withChallenge(err, challenge)
	}
	body, err := i.tokens(session, refresh, device)
	if err != nil {
		return err
	}
	i.setCookie(c, session)
	return c.Reply(api.Answer{Body: body})
}

// signInOnce is signIn under a key. The refresh token is derived instead of drawn. If a process dies between commit and answer, the retry
// therefore derives the same token, and nothing is lost.
func (i *Identity) signInOnce(c *api.Call, function, key string, args map[string]any) error {
	if len(key) > 255 {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The Idempotency-Key must have 1 to 255 characters.", "Idempotency-Key")
	}
	seal := i.sealerOf(c, key)
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	refresh, err := seal.refreshToken(nonce)
	if err != nil {
		return err
	}
	device, err := seal.deviceToken(nonce)
	if err != nil {
		return err
	}
	name := seal.name()
	args["remembered_hash"] = hex.EncodeToString(auth.HashSecret(device))
	args["token_hash"] = hex.EncodeToString(auth.HashSecret(refresh))
	args["function"], args["key"], args["nonce"] = function, name, hex.EncodeToString(nonce)
	args["request"] = hex.EncodeToString(seal.digest("request", c.Body))
	session, err := i.server(c, "sign_in_once", args)
	if err != nil {
		return err
	}
	answer := api.Answer{}
	if session.Replayed {
		answer.Headers = map[string]string{"Idempotency-Replayed": "true"}
		if nonce, err = hex.DecodeString(session.Nonce); err != nil {
			return fmt.Errorf("stored nonce: %w", err)
		}
		if refresh, err = seal.refreshToken(nonce); err != nil {
			return err
		}
		if device, err = seal.deviceToken(nonce); err != nil {
			return err
		}
	}
	if session.Sealed == nil {
		if session.Sealed, err = i.keepAnswer(c, seal, name, session, refresh, device); err != nil {
			return err
		}
	}
	if answer.Body, err = seal.open(session.Sealed); err != nil {
		return err
	}
	i.setCookie(c, session)
	return c.Reply(answer)
}

// keepAnswer makes the answer and stores it sealed. If several processes do, the first stored answer counts for all.
func (i *Identity) keepAnswer(c *api.Call, seal sealer, name string, session result, refresh, device string) ([]byte, error) {
	body, err := i.tokens(session, refresh, device)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.seal(body)
	if err != nil {
		return nil, err
	}
	kept, err := i.server(c, "seal_answer", map[string]any{"key": name, "sealed": base64.StdEncoding.EncodeToString(sealed)})
	if err != nil {
		return nil, err
	}
	return kept.Sealed, nil
}

// sealer protects the answer of one request. Its keys need the server's key, the Idempotency-Key and the request, which holds the password
// or the old token. A stolen database thus opens no answer, and reveals nothing about passwords.
type sealer struct {
	master []byte
	// scope is the operation and, for a signed-in user, their session: keys of two users never collide.
	scope, key string
	body       []byte
}

func (i *Identity) sealerOf(c *api.Call, key string) sealer {
	s := sealer{master: i.sealKey, scope: c.Op.ID, key: key, body: c.Body}
	if c.Caller != nil {
		s.scope += " " + c.Caller.SessionID
	}
	return s
}

// name returns the key's name in the database.
func (s sealer) name() string { return hex.EncodeToString(s.digest("key", nil)) }

// digest names the key or the request. It is keyed, because a plain hash of a request would be a fast hash of a password.
func (s sealer) digest(purpose string, content []byte) []byte {
	h := hmac.New(sha256.New, s.master)
	_, _ = fmt.Fprintf(h, "%s|%s|%d|%s|", purpose, s.scope, len(s.key), s.key)
	_, _ = h.Write(content)
	return h.Sum(nil)
}

func (s sealer) derive(purpose string, nonce []byte) ([]byte, error) {
	derived, err := hkdf.Key(sha256.New, s.digest("secret", s.body), nonce, "kijko "+purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the %s: %w", purpose, err)
	}
	return derived, nil
}

func (s sealer) refreshToken(nonce []byte) (string, error) {
	raw, err := s.derive("refresh token", nonce)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

func (s sealer) deviceToken(nonce []byte) (string, error) {
	raw, err := s.derive("device token", nonce)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

func (s sealer) aead() (cipher.AEAD, error) {
	key, err := s.derive("sealed answer", nil)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s sealer) seal(plain []byte) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, fmt.Errorf("seal an answer: %w", err)
	}
	return aead.Seal(nil, nil, plain, nil), nil
}

func (s sealer) open(sealed []byte) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, fmt.Errorf("open an answer: %w", err)
	}
	plain, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("open an answer: %w", err)
	}
	return plain, nil
}
