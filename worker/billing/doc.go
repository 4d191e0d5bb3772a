// Package billing does the work of billing that needs the outside world. It brings calls to Stripe to their end, asks VIES again about VAT numbers
// in use, and asks Stripe about a subscription whose events do not tell which of two is newer. Postgres plans a call as a row with its next
// request, decides what is asked, and reads every answer. No transaction is held while another system works. A call that another process had, or
// that was cut, goes on from its row.
package billing
