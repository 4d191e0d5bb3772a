// Package reflexes tests reflexes.
package reflexes
