// Package auth answers one question: which identity does a credential prove? It
// handles tokens, keys, passwords, secrets and client addresses, and uses no
// database. Postgres decides on each request about membership, role, plan and
// whether a session is still active; a claim is only a hint.
//
// # Verifying
//
// A Verifier accepts three issuers, each optional:
//
//	built-in   ES256 with this server's own keys   aud is exactly kijko-backend
//	Keycloak   RS256, keys found by discovery      aud or azp contains the client id
//	Supabase   HS256 with the project's secret     aud contains authenticated
//	           ES256 and RS256 with its JWKS
//
// The unverified iss selects the issuer from the configured list, and the issuer
// fixes the algorithms. Nothing is negotiated. The algorithm none is refused. A
// public key is never tried as an HMAC secret, because each algorithm has its
// own keys. exp is exact, without leeway; nbf and iat may lie 30 seconds ahead
// of the server's clock.
//
// Each error is either ErrInvalidToken (answer 401) or ErrUnavailable (answer
// 503: the provider has never delivered a key). The server starts even when a
// provider is down: keys are fetched at first use, kept for an hour, and used
// beyond that for as long as the provider is down.
//
// A verified token is cached until it expires, five minutes at most. The whole
// cache is dropped when a provider withdraws a key. The cache is bounded in
// bytes and keyed by SHA-256, so it holds no usable token. Refusals are not
// cached: a wrong issuer, algorithm, date or audience is refused before any
// cryptography, in about 10 µs.
//
// # Issuing
//
// Issuer signs access tokens (Mint) and the short connection tokens of realtime
// (MintConnection). The two differ in audience and are verified by different
// methods; neither method accepts the other's tokens. The Issuer's URL serves
// two documents without login, Issuer.Discovery and Issuer.JWKS, at
// DiscoveryPath and JWKSPath.
//
// Rotating JWT_PRIVATE_KEY takes two rollouts: add the new key as the second
// PEM block (all blocks verify), then move it to the front (the first private
// one signs). An old key can shrink to its PUBLIC KEY block, and be removed
// when its last token has expired.
//
// # Concurrency and shutdown
//
// All types are safe for concurrent use. An Identity is shared between requests
// and must not be changed. A Verifier starts a goroutine only while it fetches
// keys; Close cancels and awaits it.
package auth
