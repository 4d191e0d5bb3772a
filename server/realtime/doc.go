// Package realtime is the socket side of the event log: it reads the log once for all sockets of this process and hands each socket what
// its user may have.
//
//	wake   after commit: number what was committed, tell everybody (package wake)
//	feed   one listening connection: reads new rows of the log in one batch, in order
//	hub    rooms and their sockets; acts on removals in their place in the order
//	socket one client: what it was told, what waits for it, when it is pinged, warned, closed
//	store  the questions put to Postgres
//
// LISTEN/NOTIFY is a hint, the log is the truth: with all notifications lost, events come within 3 s instead of milliseconds.
//
// # Order and permission
//
// Ids of the log ascend in the order of commits and never turn up late, so the highest id dispatched is all the state the feed has. The
// hub dispatches in one goroutine. A removal (access that ended) is a row of the log like any other: the hub asks again, for each socket
// it concerns and under that person's own rights, and dispatches nothing behind it before it has the answer. Where no answer comes, the
// socket is closed rather than trusted.
//
// Who may watch is decided when a socket opens and again at each removal; between the two nothing can have changed, because whatever
// takes access away writes a removal. So delivering an event to any number of sockets costs no database read.
//
// # A socket's beginning
//
// It is registered first and holds back what arrives; then one statement reads permission, snapshot, missed events, the head of the log
// and which events of the room are committed but not numbered yet. Whatever the snapshot contains is dropped from what was held back.
//
// # Memory and slowness
//
// A socket has one goroutine that reads, a second one only while something is being written, one timer, and a queue that exists only
// while it is needed: at most 256 frames or 1 MiB. An event is encoded once and shared. Whoever does not keep up is closed (4009);
// nobody waits for anybody.
//
// # Concurrency and shutdown
//
// Everything is safe for concurrent use. Lock order: hub, then socket; a socket never calls the hub under its own lock. Run owns the
// feed, the waker and the heartbeat, and returns when they have ended. Drain refuses new sockets and closes the open ones with 1012,
// spread over time; call it before the HTTP server is stopped, and end Run's context afterwards.
package realtime
