// Package connections talks to Git providers and directories for people who connected an account there. It handles the consent (OAuth 2),
// reads the account, its repositories, the facts of one repository and the people of a directory's groups, and gives tokens back.
//
// Each provider is a small type over the REST API that the provider documents. All of them share one call with bounds on time, on the bytes
// of an answer, and on pages. An error is a *Refusal: it says what the provider meant, and never contains the request.
//
// # Tokens
//
// Tokens are stored in the database, sealed for their row. Keeper opens a token for a call, and renews it when it is about to end or when
// the provider refuses it. Only one process renews a token at a time, under a lease in the row: providers that rotate refresh tokens end a
// connection when a refresh token is used twice. No transaction and no database connection is held meanwhile.
//
// A Providers and a Keeper are safe for concurrent use and start no goroutine.
package connections
