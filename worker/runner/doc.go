// Package runner works the queue. Three kinds of jobs go through it:
//
//   - A Type is a short piece of work, done while gue holds the job's transaction open. It writes through its own connections and must
//     be safe to do twice.
//   - A Lease is work of minutes or hours. Its job only takes a lease on a row and is gone; the work holds neither transaction nor
//     connection, and whoever finds the lease expired takes over (package lease of the caller's choosing does heartbeats).
//   - A Batch is the same for work that mostly waits for others, hundreds at a time: one round trip deletes many jobs and takes their
//     leases.
//
// # Wake-ups
//
// One connection of its own LISTENs on kijko_jobs; a notification wakes every idle loop, which then works until its queue is empty. A
// lost notification or connection costs at most one poll interval.
//
// # Shutdown
//
// When the context of Run ends no further job is taken. Short jobs get Config.Grace to finish, then their context ends and they are
// handed back, due at once. Leased work sees its context end at once and has the same grace to give its lease back. Run returns when
// all have returned.
package runner
