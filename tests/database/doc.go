// Package database tests how databases are set up, upgraded and logged.
package database
