// Package identity tests sign-in, sessions and identity providers.
package identity
