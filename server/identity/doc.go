// Package identity answers the routes below /auth and finds the user of a token for the edge. It hashes passwords, makes and signs tokens,
// and sets the session cookie. Every rule (lock-out, rotation, reuse, the choice of the organization, the account of an external identity)
// is a SQL function of db/code/identity, called once per request.
//
// Some refusals must leave rows behind (a counted failure, a revoked session). They come back as results and not as errors, because an
// error would undo the write.
//
// Identity is safe for concurrent use. New starts nothing. Run writes last_active_at in the background until its context ends, and writes
// the remaining entries before it returns. Close ends key fetches of the verifier.
package identity
