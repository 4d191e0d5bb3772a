// Package secret replaces the secrets in a text by [REDACTED:<kind>].
//
// Tokens of a known form are found by the rules of gitleaks (its default configuration: patterns, keywords, entropy and
// allowlists). Its own detector runs each pattern over the whole text as soon as a keyword occurs anywhere in it, which is far
// too slow for source code, where "key" and "api" occur everywhere. Here one automaton finds all keywords in one pass; a
// pattern runs only on the lines around its keyword, and only where the text could hold what the pattern demands
// (prefilter.go).
//
// For all other secrets gitleaks has one pattern, an entropy bound that lies inside the range of random hex, and a list of 1,500
// words. A key that contains one of these words by chance is exempted. This package replaces that rule. name.go classifies a name
// by its words. assign.go walks from the name to its value through the ways in which languages and configurations assign. chance.go
// checks the value by its alphabet, its length and the number of tokens that it takes: words and names have some four characters
// per token, random values fewer than two and a half, in every alphabet. place.go handles the places without a name: URLs,
// manifests, files of passwords.
//
// No path is exempt. Hashes that only prove integrity, public keys and certificates are no secrets.
//
// Only the secret itself is replaced, never the text around it. A secret of several lines keeps its line ends after the marker, so
// every later line keeps its number. Redact is idempotent: markers are not secrets. A comment such as gitleaks:allow does not
// exempt a line: a marker for a false alarm costs less than a stored secret.
//
// A Redactor is immutable after New and may be used by any number of goroutines.
package secret
