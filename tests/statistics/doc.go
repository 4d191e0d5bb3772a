// Package statistics tests statistics.
package statistics
