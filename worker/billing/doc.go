// Package billing does the background work of billing that needs the outside world: it asks VIES again about VAT numbers in use, and Stripe
// about a subscription whose events do not tell which of two is newer. Postgres decides what is asked and what an answer means.
package billing
