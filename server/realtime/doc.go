// Package realtime is the socket side of the event log: it reads the log once for all connections of this process and hands each what its
// user may have.
//
//	wake     after commit: number what was committed, tell everybody (package wake)
//	feed     one listening connection: reads new rows of the log in one batch, in order; hears ephemeral events
//	hub      rooms and their members; acts on removals in their place in the order
//	decide   what a batch's delivery depends on: asked once, for all
//	conn     one client, whatever carries its frames: what it was told, when it is warned, closed
//	join     its actions: Open (admit), Join, Leave, Authenticate, Resume
//	socket   a WebSocket that carries a connection's frames; envelope says how they look there
//	roster   who is where, reported for presence and for counts
//	store    the questions put to Postgres
//
// LISTEN/NOTIFY is a hint, the log is the truth: with all notifications lost, events come within 3 s instead of milliseconds. Ephemeral
// events (private.publish) are the exception: they are nothing but a notification.
//
// # Order and permission
//
// Ids of the log ascend in the order of commits and never turn up late, so the highest id dispatched is all the state the feed has. The
// hub dispatches in one goroutine. A removal (access that ended) is a row of the log like any other: the hub asks again, for each
// connection it concerns and under that person's own rights, and dispatches nothing behind it before it has the answer. Where no answer
// comes, the connection is closed rather than trusted.
//
// Who may be in a room is decided when somebody joins and again at each removal; between the two nothing can have changed, because
// whatever takes access away writes a removal. Where members of a room differ (an event about a project in its organization's room, an
// entry of the activity log) the question is put once a batch and class of people, and the answer is kept until the log says that it may
// have changed. So delivering an event to any number of sockets costs no database read, or one a batch.
//
// # A connection's beginning, and that of each room
//
// It is registered first and holds back what arrives; then one statement reads permission, snapshot, missed events, the head of the log
// and which events of the room are committed but not numbered yet. Whatever the snapshot contains is dropped from what was held back.
//
// # Other transports
//
// A Conn knows nothing of WebSockets. Whoever carries frames another way implements Sink, and drives the connection:
//
//	c := server.NewConn(sink, ip)            // nil while the server is draining
//	c.Open(realtime.Opening{Kind: realtime.General, Token: token})
//	                                         // the sink gets the control frame "hello", or Close(code, reason) with a code of the contract
//	if c.Spend() { c.Join("project:"+id, nil, ref) }   // likewise Leave, Ping, Authenticate, Resume
//	c.End()                                  // once, when nothing goes over the transport any more
//
// Actions run one at a time and may wait for the database; each is answered by a control frame with the same ref: room_joined, room_left,
// pong, authenticated, resumed or resync_required, and error with {"code", "message"} when it was refused. Events arrive through
// Sink.Send as frames shared by all connections: Name and Data are what a client is told, ID is the cursor to resume from
// (Opening.Cursor with Opening.Rooms), and Frame.Encoded keeps an encoding of one's own for all who need the same. Sink's methods are
// called under the connection's lock: they queue and return. Heartbeats are the transport's own business.
//
// # Memory and slowness
//
// A WebSocket has one goroutine that reads, a second one only while something is being written, one timer, and a queue that exists only
// while it is needed: at most 256 frames or 1 MiB. An event is encoded once a kind of client and shared. Whoever does not keep up is
// closed (4009); nobody waits for anybody.
//
// # Concurrency and shutdown
//
// Everything is safe for concurrent use. Lock order: hub, then connection, then roster; a connection never calls the hub under its own
// lock. Run owns the feed, the waker, the heartbeat and the reports, and returns when they have ended. Drain refuses new connections and
// closes the open ones with 1012, spread over time; call it before the HTTP server is stopped, and end Run's context afterwards.
package realtime
