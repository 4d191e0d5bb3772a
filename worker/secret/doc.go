// Package secret replaces the secrets in a text by [REDACTED:<kind>].
//
// What a secret is, is decided by the rules of gitleaks (its default configuration: patterns, keywords, entropy and
// allowlists), with two rules added for passwords in connection strings. Its own detector runs each pattern over the
// whole text as soon as a keyword occurs anywhere in it, which is far too slow for source code, where "key" and "api" occur
// everywhere. Here one automaton finds all keywords in one pass; a pattern runs only on the lines around its keyword, and
// only where the text could hold what the pattern demands (prefilter.go).
//
// In one point the rules are stricter than gitleaks': its rule for any assignment to a name like key or token must see a
// quoted value, or one that looks random (random in redact.go).
//
// Only the secret itself is replaced, never the text around it. A secret of several lines keeps its line ends after the
// marker, so every line after it keeps its number. Redact is idempotent: markers are not secrets. A comment such as
// gitleaks:allow does not exempt a line: storing a false alarm's marker costs less than storing a secret.
//
// A Redactor is immutable after New and may be used by any number of goroutines.
package secret
