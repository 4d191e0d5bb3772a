// Package llm speaks to model providers: Anthropic and Google through their own Go SDKs, and a local model that is none (development
// and tests). All three are a Provider: one request, one Result or one *Error, whole or as it is written.
//
// # Keys
//
// A request carries the key that pays for it; without one the installation's own key is used. Keys go into a header, never into an
// address, and into no message: an Error holds the provider's sentence, cleared of the key, and neither request nor headers.
//
// # Retries
//
// The SDKs' own retries are switched off. Who wants to try again uses a Policy (contract 20, section 6.2), which knows when another
// attempt may start, and that nothing is repeated once text was passed on. A bare Provider makes exactly one request.
//
// # Concurrency and shutdown
//
// A Set and its Providers are safe for concurrent use and start no goroutines that outlive a call. Cancelling the context aborts the
// request; the call then returns the context's error. No database connection is needed or held here.
package llm
