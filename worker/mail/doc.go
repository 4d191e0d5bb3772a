// Package mail hands finished messages to an SMTP server.
//
// # Rules
//
// One address, one message, one connection. An address or subject in which a second header or command could hide is refused before
// anything is sent. Certificates are checked, and a password never travels in the clear. A message that the server has accepted counts
// as sent whatever happens to the connection afterwards; whoever repeats a message uses its id again, and the recipient's side sees the
// same Message-ID and date.
//
// # Errors
//
// ErrRejected marks what another attempt cannot cure: a refusal of this message (5xx), or a message that must not be sent. Everything
// else (no connection, no login, 4xx) may be tried again. No error text contains the recipient's address.
//
// # Concurrency
//
// A Sender is safe for concurrent use and owns nothing that must be closed. Send ends when its context does.
package mail
