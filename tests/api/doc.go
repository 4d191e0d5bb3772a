// Package api tests what holds for every operation.
package api
