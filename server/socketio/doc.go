// Package socketio serves clients of Socket.IO (JavaScript 3 and 4, python-socketio 5). They get the same rooms, the same rights and the
// same events as plain WebSockets, on the connections of package realtime. Only the framing and the sessions are specific to Socket.IO.
//
// It is written for this server because the libraries do not fit. googollee/go-socket.io 1.7 speaks the protocol of the 1.4 client.
// zishang520/socket.io 3.0, a faithful port of the Node server, serves net/http, keeps unfetched packets in an unbounded list, keeps sent
// packets in memory although this server has a log, and encodes an event once per client.
//
//	engine     (separate package) Engine.IO 4: transports, heartbeat, upgrade
//	packet     Socket.IO 5 packets and the names of namespaces
//	server     the state that all clients share: which client may resume which connection
//	client     one Engine.IO session: its namespaces and its actions
//	agents     the events of programs that report in a project's namespace
//	place      a namespace connection: one client in one namespace, as a connection of realtime in Socket.IO's encoding
//
// # Mapping
//
// Namespace "/" is the general socket, or with `contextId` (in the credential or the query) that of a context; `projectId` there adds a
// project's room. "/api/projects/{id}", with or without /v1, /ws, /progress, is the ingestion socket of a project. The credential is
// `token` of CONNECT. Events have the event's data as first argument. If the event is in the log, its id is the last argument: the offset
// of connection state recovery. `recovery: false` in the credential turns off both the offset and recovery.
//
// join, leave, resume, authenticate and ping are events of those names. With an acknowledgement they are answered {"ok": true, ...} or
// {"ok": false, "code", "message"}. Without one they are answered by the events that plain sockets get.
//
// # Agents
//
// A program reports in its project's namespace: agent:status {name, state, load} and agent:log {agent, level, msg}; agent:list asks who is
// online. The namespace also gets the project's agent:status and agent:log, and stays open after a completed run. An agent is offline ten
// seconds after its connection has ended.
//
// # How connections end
//
// If the client must not reconnect, its connection ends with a DISCONNECT of the namespace (revoked, forbidden, gone, done, too many),
// because client libraries do not reconnect automatically after that. If the client should reconnect, the transport ends (token expired,
// slow consumer, restart, outage). Both are announced by the event `closing` with the close code and reason of a plain socket.
//
// # Recovery
//
// A client that lost its transport reconnects with its private id and the last offset. Within two minutes it gets its sid, its rooms and
// the missed events, after it is authorized again. The memory for this is in this process. When it is lost (restart, another node), the
// client gets a new sid. It still gets the events that it missed in its initial rooms, because the offset is a position in the log.
//
// # Concurrency
//
// One goroutine at a time handles a client's packets. Frames to the client are sent under the lock of its realtime connection. The lock of
// a place is taken inside that lock and never the other way round.
package socketio
