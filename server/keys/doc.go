// Package keys serves API keys (contract 40, 6.3). A key is known by its SHA-256, whose it is never changes and is remembered; whether it lives, and
// what it may, is judged by private.enter_key in the transaction of each call.
//
// A request with a key writes nothing. What it leaves behind (its number, the last use, the login history) is collected here and written each
// half second, and the units of api_calls that it costs are taken from Postgres ahead, some at a time. So a kill loses half a second of counts, and
// the quota is exact: what was taken counts as used until it is given back, and near the limit units are taken one by one.
package keys
