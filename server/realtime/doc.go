// Package realtime is the socket side of the event log. It reads the log once for all connections of this process and delivers to each
// connection the events that its user may see.
//
//	wake     after commit: numbers the committed events and notifies all processes (package wake)
//	feed     one listening connection: reads new rows of the log in one batch, in order; hears ephemeral events
//	hub      rooms and their members; handles removals at their position in the order
//	decide   what a batch's delivery depends on: queried once, for all connections
//	conn     one client connection, over any transport: sent events, expiry warnings, closing
//	join     the actions of a connection: Open (admit), Join, Leave, Authenticate, Resume
//	socket   a WebSocket that carries a connection's frames; envelope encodes them
//	roster   which user is in which context, reported for presence and for counts
//	store    the queries to Postgres
//
// LISTEN/NOTIFY is a hint, the log is the truth: with all notifications lost, events come within 3 s instead of milliseconds. Ephemeral
// events (private.publish) are the exception: they exist only as a notification.
//
// # Order and permission
//
// Ids of the log ascend in the order of commits and never appear late, so the highest dispatched id is the only state of the feed. The hub
// dispatches in one goroutine. A removal (access that ended) is a row of the log like any other. For each connection that a removal
// concerns, the hub checks access again under that user's own rights. It dispatches no later event before it has the answer. When no answer
// comes, the connection is closed rather than trusted.
//
// Access to a room is decided at the join and again at each removal. Between the two it cannot have changed, because every statement that
// takes access away writes a removal. Members of a room may differ in what they see (an event about a project in its organization's room,
// an entry of the activity log). Then one query per batch and class of users decides, and its answer is kept until the log says that it may
// have changed. So delivering an event to any number of sockets costs no database read, or one per batch.
//
// # How a connection and each of its rooms begin
//
// The connection is registered first and holds back arriving events. Then one statement reads permission, snapshot, missed events, the head
// of the log, and which events of the room are committed but not numbered yet. Held events that the snapshot contains are dropped.
//
// # Other transports
//
// A Conn does not depend on WebSockets. Another transport implements Sink and drives the connection:
//
//	c := server.NewConn(sink, ip)            // nil while the server is draining
//	c.Open(realtime.Opening{Kind: realtime.General, Token: token})
//	                                         // the sink gets the control frame "hello", or Close(code, reason) with a code of the contract
//	if c.Spend() { c.Join("project:"+id, nil, ref) }   // likewise Leave, Ping, Authenticate, Resume
//	c.End()                                  // once, when the transport has ended
//
// Actions run one at a time and may wait for the database. Each is answered by a control frame with the same ref: room_joined, room_left,
// pong, authenticated, resumed or resync_required, and error with {"code", "message"} when it was refused. Events arrive through Sink.Send
// as frames shared by all connections. Name and Data are sent to the client. ID is the cursor to resume from (Opening.Cursor with
// Opening.Rooms). Frame.Encoded keeps one encoding per transport for all connections that need it. Sink's methods are called under the
// connection's lock: they queue and return. Heartbeats are the responsibility of the transport.
//
// # Memory and slowness
//
// A WebSocket has one goroutine that reads, a second one only while frames are being written, one timer, and a queue that exists only while
// it is needed: at most 256 frames or 1 MiB. An event is encoded once for each kind of client and shared. A client that does not keep up is
// closed (4009); no connection waits for another.
//
// # Concurrency and shutdown
//
// Everything is safe for concurrent use. Lock order: hub, then connection, then roster. A connection never calls the hub under its own
// lock. Run owns the feed, the waker, the heartbeat and the reports, and returns when they have ended. Drain refuses new connections and
// closes the open ones with 1012, spread over time. Call it before the HTTP server is stopped, and end Run's context afterwards.
package realtime
