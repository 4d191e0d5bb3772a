// Package outbox tests what neighbors get: announcements in Zulip, turns in cxdb, rollouts and spans in Agent-Lightning. The neighbors are
// doubles that answer as docs/peers describes; in `make test-peers` Zulip's client and Agent-Lightning's store are those of PyPI.
package outbox
