// Package llm calls model providers: Anthropic and Google through their own Go SDKs, and a local substitute that calls no real model
// (for development and tests). All three are a Provider: one request gives one Result or one *Error, whole or streamed.
//
// # Keys
//
// A request carries the key that pays for it; without one the installation's own key is used. Keys are sent in a header, never in an
// address, and appear in no message. An Error holds the provider's sentence without the key, and neither request nor headers.
//
// # Retries
//
// The SDKs' own retries are switched off. A caller that wants retries uses a Policy (contract 20, section 6.2). The Policy decides
// when another attempt may start, and repeats nothing once text was passed on. A bare Provider makes exactly one request.
//
// # Concurrency and shutdown
//
// A Set and its Providers are safe for concurrent use and start no goroutines that outlive a call. Cancelling the context aborts the
// request; the call then returns the context's error. No database connection is needed or held here.
package llm
