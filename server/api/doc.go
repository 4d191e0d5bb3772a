// Package api is the HTTP edge: it turns a request into one call of one SQL function as the caller, in one database round trip, and
// streams the JSON that Postgres made to the client without decoding it.
//
//	match the operation -> verify the credential -> rate -> validate path, query and body
//	-> one pgx batch, one Sync, one implicit transaction: private.enter(...), role; api.<function>(p); status, headers
//	-> wake the listeners, if the transaction left events or jobs
//
// There is no business rule here. Handlers written in Go exist for operations that access the outside world; they are registered under
// their operationId and call SQL functions through Call.Query, as the router does.
//
// New returns the same app to the program and to the tests. Nothing here starts a goroutine.
package api
