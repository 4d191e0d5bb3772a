// Package identity answers the routes below /auth and tells the edge who is behind a token. It hashes passwords, makes and signs
// tokens, and sets the session cookie; every rule (lock-out, rotation, reuse, which organization, who an external account is) is a
// SQL function of db/code/identity, called once a request.
//
// Refusals after which something stays written (a counted failure, a revoked session) come back as results and not as errors, because
// an error would undo the write.
//
// Identity is safe for concurrent use. New starts nothing; Run writes last_active_at in the background until its context ends, and
// writes what is left before it returns. Close ends key fetches of the verifier.
package identity
