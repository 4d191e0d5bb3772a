// Package integrations speaks to what an organization has connected (contract 40, section 8): providers by OAuth or by key, MCP servers, and
// the receivers of outgoing webhooks. The server and the worker share it.
//
// What it says about a failure is meant for people and names no token, no key and no address with one in it: errors of the libraries below
// hold the addresses of requests, and some providers want a token there.
//
// # Concurrency
//
// Everything here is safe for concurrent use. An Engine holds no connection to the database while it waits for another system.
package integrations
