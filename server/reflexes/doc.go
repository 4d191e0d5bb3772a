// Package reflexes is the Go part of reflexes in the edge. It seals and opens webhook secrets, and checks conditions and patterns before
// they are stored. It receives deliveries of webhooks and events, and watches API calls for reflexes that request it. The rules about
// permission and timing are SQL functions of db/code/reflexes; package worker/condition evaluates patterns and conditions.
//
// A delivery costs two round trips: one reads the data to check it, one applies its effects. In between no connection is held. Genuine
// deliveries are counted in Postgres, for all processes. A flood is stopped in this process: a sender with the secret uses up the reflex's
// limit, a sender without it uses up its own limit of failures, and further deliveries of both cause no query. A sender without the secret
// cannot use up the limit of another sender, and the memory about senders is bounded.
//
// A Feature is safe for concurrent use. New starts one goroutine, which fires for watched calls. Close ends it and waits.
package reflexes
