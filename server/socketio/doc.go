// Package socketio lets clients of Socket.IO (JavaScript 3 and 4, python-socketio 5) watch what plain WebSockets watch: the same rooms,
// the same rights, the same events, on the connections of package realtime. Only the framing and the sessions are its own.
//
// It is our own because the libraries do not fit. googollee/go-socket.io 1.7 speaks the protocol of the 1.4 client. zishang520/socket.io 3.0, a
// faithful port of the Node server, serves net/http, keeps what a client has not fetched in an unbounded list, keeps sent packets in memory
// where we have a log, and encodes an event once a client.
//
//	engine     (package of its own) Engine.IO 4: transports, heartbeat, upgrade
//	packet     Socket.IO 5 packets and the names of namespaces
//	server     what all clients share: who may come back where
//	client     one Engine.IO session: its namespaces, and what it may ask of them
//	place      one client in one namespace: a connection of realtime, told in Socket.IO's words
//
// # What is mapped on what
//
// Namespace "/" is the general socket, or with `contextId` (in the credential or the query) that of a context; `projectId` there adds a
// project's room. "/api/projects/{id}", with or without /v1, /ws, /progress, is the ingestion socket of a project. The credential is
// `token` of CONNECT. Events have the event's data as first argument and, where the event is in the log, its id as last one: the offset
// of connection state recovery. `recovery: false` in the credential declines both.
//
// join, leave, resume, authenticate and ping are events of those names; with an acknowledgement they are answered {"ok": true, ...} or
// {"ok": false, "code", "message"}, without one by the events that plain sockets get.
//
// # Ends
//
// What a client must not repeat ends with a DISCONNECT of the namespace (revoked, forbidden, gone, done, too many), because no client
// returns after that by itself. What it should repeat ends with the transport (token expired, slow consumer, restart, outage). Both are
// announced by the event `closing` with the code and reason that a plain socket would be closed with.
//
// # Recovery
//
// A client that lost its transport comes back with its private id and the last offset; within two minutes it gets its name, its rooms and
// what it missed, after being judged anew. The memory of that is in this process. Where it is lost (restart, another node) the client
// gets a new name, and what it missed in the rooms of its beginning all the same, because the offset is a place in the log.
//
// # Concurrency
//
// What a client says is acted upon by one goroutine at a time. What it is told is told under the lock of its realtime connection; the lock
// of a place is taken inside that one and never the other way round.
package socketio
