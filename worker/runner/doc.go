// Package runner works the queue. Three kinds of jobs go through it:
//
//   - A Type is a short piece of work. Its job keeps its row under a lease while it is done, and is deleted afterwards, together with the
//     others that ended meanwhile. It writes through its own connections and must be safe to do twice.
//   - A Lease is work of minutes or hours. Its job only takes a lease on a row and is then deleted. The work holds neither transaction
//     nor connection. A worker that finds the lease expired takes the work over. The runner does not renew leases; the caller does, with
//     package lease for instance.
//   - A Batch is the same for work that mostly waits for other systems, hundreds at a time: one round trip deletes many jobs and takes
//     their leases.
//
// # Wake-ups
//
// One dedicated connection LISTENs on kijko_jobs. A notification wakes every idle loop, which then works until its queue is empty. A
// lost notification or connection delays a job by at most one poll interval.
//
// # Shutdown
//
// When the context of Run ends no further job is taken. Short jobs get Config.Grace to finish. Then their context ends and they
// are handed back, due at once. The context of leased work ends at once, and the work has the same grace to give its lease back. Run
// returns when all work has returned.
package runner
