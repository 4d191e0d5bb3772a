// Package integrations talks to the systems that an organization has connected (contract 40, section 8): providers by OAuth or by key, MCP
// servers, and the receivers of outgoing webhooks. The server and the worker share it.
//
// Its failure messages are meant for people. They contain no token, no key and no address with a token or key in it: the errors of the
// libraries below contain request addresses, and some providers expect a token in the address.
//
// # Concurrency
//
// Everything here is safe for concurrent use. An Engine holds no connection to the database while it waits for another system.
package integrations
