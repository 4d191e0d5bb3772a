// Package api tests the rules that hold for every operation.
package api
