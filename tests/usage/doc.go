// Package usage tests quotas and idempotency.
package usage
