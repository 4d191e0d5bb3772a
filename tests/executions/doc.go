// Package executions tests runs of skills.
package executions
