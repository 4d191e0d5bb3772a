// Package realtime tests WebSockets, Socket.IO and the order of events.
package realtime
