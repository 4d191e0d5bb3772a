package auth

import (
	"errors"
	"fmt"
)

// ErrInvalidToken is wrapped by every refusal of a token; callers answer 401.
// The wrapped reasons are for logs and tests. They are never sent to a client.
var ErrInvalidToken = errors.New("invalid token")

// The reasons of a refusal.
var (
	ErrMalformed   = fmt.Errorf("%w: malformed", ErrInvalidToken)
	ErrIssuer      = fmt.Errorf("%w: unknown issuer", ErrInvalidToken)
	ErrAlgorithm   = fmt.Errorf("%w: algorithm not accepted from this issuer", ErrInvalidToken)
	ErrSignature   = fmt.Errorf("%w: no key of the issuer made this signature", ErrInvalidToken)
	ErrExpired     = fmt.Errorf("%w: expired", ErrInvalidToken)
	ErrNotYetValid = fmt.Errorf("%w: not valid yet", ErrInvalidToken)
	ErrAudience    = fmt.Errorf("%w: made for another audience", ErrInvalidToken)
	ErrTokenType   = fmt.Errorf("%w: not an access token", ErrInvalidToken)

	// ErrServiceKey marks a Supabase service-role key, which is never a user.
	// Realtime closes with its own code for it.
	ErrServiceKey = fmt.Errorf("%w: a service key is not a user", ErrInvalidToken)
)

// ErrUnavailable says that a token cannot be checked because the identity
// provider has not delivered any key yet; callers answer 503 AUTH_UNAVAILABLE.
var ErrUnavailable = errors.New("identity provider unavailable")

// ErrBusy says that too many passwords are waiting to be hashed; callers answer
// 503 with Retry-After, or 429.
var ErrBusy = errors.New("too many passwords are being checked")
