// Package reflex is what the edge does for reflexes in Go: it seals and opens webhook secrets, checks conditions and patterns before they
// are stored, receives deliveries of webhooks and events, and watches calls for those who asked for it. Rules of who and when are SQL
// functions of db/code/reflexes; patterns and conditions are judged by package worker/condition.
//
// A delivery costs two round trips: what is needed to judge it, and what follows from it. In between no connection is held. A flood of
// one sender is stopped in this process before it costs anything: what passes the first limit is counted in Postgres, for all processes.
//
// A Feature is safe for concurrent use. New starts one goroutine, which fires for watched calls; Close ends it and waits.
package reflex
