package jobs

import (
	"kijko/worker/outbox"
	"kijko/worker/runner"
)

// neighborRequests is how many deliveries to neighbors one worker has in hand; each mostly waits for the neighbor.
const neighborRequests = 10

// OutboxSend: {"deliveryId"}. Sends one delivery to a neighbor. No unique key: a delivery is a row with a lease of two minutes, and a second
// job of it finds nothing to do. A failed attempt enqueues the next one: seconds at first, then up to an hour apart, or when the neighbor
// asks for it. After three days, or a refusal, the row has failed and a dead letter names it; retrying the dead letter sends it again.
func OutboxSend(e *outbox.Engine) runner.Batch {
	return runner.Batch{Name: "outbox.send", Queue: "outbox", Slots: neighborRequests, Take: e.Take}
}
