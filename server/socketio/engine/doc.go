// Package engine speaks Engine.IO 4: sessions that carry messages over HTTP long-polling or a WebSocket, and move from the first to the
// second without losing a message. The importing package (socketio) interprets the messages.
//
//	packet   packets, and how several of them form one body
//	server   requests: their session, their transport, the refusals and their codes
//	session  one client: its queue, its heartbeat, its end
//	polling  GET waits for packets, POST brings them
//	websocket  frames, and the upgrade with its probe
//
// # Bounds
//
// The number of sessions is limited, in all and per address. A body or frame has at most MaxPayload bytes. The queue of a client that does
// not read is bounded in packets and bytes; when it is full, the client is disconnected (4009). No sender waits for a client. A long poll
// lasts no longer than a heartbeat, an unfinished upgrade ten seconds.
//
// # Concurrency and shutdown
//
// Everything is safe for concurrent use. A Receiver is called by one goroutine at a time, in the order of the messages, and may block: the
// client's next message waits, as does its POST. No lock of this package is held meanwhile. A session has one goroutine that reads its
// WebSocket, a second one only while packets are being written, and one timer. Drain refuses new sessions, ends the open ones and returns
// when their goroutines have ended.
package engine
