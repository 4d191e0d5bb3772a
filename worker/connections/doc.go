// Package connections speaks with Git providers and directories for people who connected an account there: the consent (OAuth 2), who the account
// is, which repositories it reads, what a repository is like, the people of a directory's groups, and giving a token back.
//
// Each provider is a small type over the REST shapes that the provider documents. What they share is one call with bounds: of time, of the bytes
// of an answer, of pages. An error is a *Refusal, which says what the provider meant and never what it was asked with.
//
// # Tokens
//
// Tokens lie in the database, sealed for their row. Keeper opens one for a call, and renews it where it is about to end or the provider refuses
// it. Of all processes one renews at a time, by a lease in the row: providers that turn refresh tokens over end a connection of which one
// is used twice. No transaction and no connection to the database is held meanwhile.
//
// A Providers and a Keeper are safe for concurrent use and start no goroutine.
package connections
