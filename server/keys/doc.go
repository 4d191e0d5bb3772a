// Package keys serves API keys (contract 40, 6.3). A key is found by its SHA-256. Its owner never changes and is cached. private.enter_key
// checks in the transaction of each call whether the key is still valid, and what it may do.
//
// A request with a key writes no row itself. Its effects (the number of requests, the last use, the login history) are collected here and
// written every half second. The units of api_calls that requests cost are taken from Postgres ahead, some at a time. So a killed process
// loses half a second of counts. The quota is exact: taken units count as used until they are given back, and near the limit units are
// taken one by one.
package keys
