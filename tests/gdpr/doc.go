// Package gdpr tests the erasure of a person: what it finds, what it leaves, what it ends, and what happens beside it.
package gdpr
