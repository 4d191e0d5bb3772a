// Package reflexes is what the edge does for reflexes in Go: it seals and opens webhook secrets, checks conditions and patterns before they
// are stored, receives deliveries of webhooks and events, and watches calls for those who asked for it. Rules of who and when are SQL
// functions of db/code/reflexes; patterns and conditions are judged by package worker/condition.
//
// A delivery costs two round trips: what is needed to judge it, and what follows from it. In between no connection is held. Genuine
// deliveries are counted in Postgres, for all processes. A flood is stopped in this process: who knows the secret has spent what the reflex
// takes, who does not has spent their own failures, and neither asks the database any more. Nothing that a sender without the secret can do
// counts for somebody else, and what is remembered of them is bounded.
//
// A Feature is safe for concurrent use. New starts one goroutine, which fires for watched calls; Close ends it and waits.
package reflexes
