// Package engine speaks Engine.IO 4: sessions that carry messages over HTTP long-polling or a WebSocket, and move from the first to the
// second without losing one. What the messages mean is the business of its user (package socketio).
//
//	packet   packets, and how several of them are one body
//	server   requests: which session, which transport, what is refused with which code
//	session  one client: what waits for it, its heartbeat, its end
//	polling  GET waits for packets, POST brings them
//	websocket  frames, and the upgrade with its probe
//
// # Bounds
//
// Sessions are counted, in all and per address. A body or frame has at most MaxPayload bytes. What waits for a client that does not read is
// bounded in packets and bytes, and then the client is cut off (4009): nobody waits for anybody. A long poll lasts no longer than a
// heartbeat, an unfinished upgrade ten seconds.
//
// # Concurrency and shutdown
//
// Everything is safe for concurrent use. A Receiver is called by one goroutine at a time, in the order of the messages, and may take its
// time: the client's next message waits, as does its POST. No lock of this package is held meanwhile. A session has one goroutine that
// reads its WebSocket, a second one only while something is being written, and one timer. Drain refuses new sessions, ends the open ones
// and returns when their goroutines have ended.
package engine
