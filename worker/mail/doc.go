// Package mail hands finished messages to an SMTP server.
//
// # Rules
//
// One address, one message, one connection. An address or subject in which a second header or command could hide is refused before
// anything is sent. Certificates are checked, and a password is never sent unencrypted. A message that the server has accepted counts
// as sent, also if the connection fails afterwards. A caller that repeats a message uses its id again, so the recipient's side sees the
// same Message-ID and date.
//
// # Errors
//
// ErrRejected marks a failure that another attempt cannot cure: a refusal of this message (5xx), or a message that must not be sent.
// After any other failure (no connection, no login, 4xx) the caller may try again. No error text contains the recipient's address.
//
// # Concurrency
//
// A Sender is safe for concurrent use and needs no closing. Send ends when its context does.
package mail
