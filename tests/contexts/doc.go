// Package contexts holds the black-box tests of contexts: entries, versions, diff, rollback, waiting requests, events and roles.
package contexts
