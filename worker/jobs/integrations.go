package jobs

import (
	"kijko/worker/integrations"
	"kijko/worker/runner"
)

const (
	// deliveries and integrationRuns are how many jobs of each type run at once; each mostly waits for another system.
	deliveries      = 20
	integrationRuns = 5
)

// WebhooksDeliver: {"deliveryId"}. Sends one attempt of an outgoing webhook. No unique key: an attempt is a row, and a second job of it
// finds nothing to do. The row has a lease of two minutes. When a worker dies during an attempt, another worker takes the row over and
// sends the attempt once more. So a receiver may get one attempt twice, with the same X-Kijko-Delivery. Further attempts are rows and jobs
// of their own (10 s, 1 min, 5 min, 30 min, 2 h), written with the result. No attempt follows the sixth.
func WebhooksDeliver(e *integrations.Engine) runner.Batch {
	return runner.Batch{Name: "webhooks.deliver", Queue: "webhooks", Slots: deliveries, Take: e.TakeDeliveries}
}

// IntegrationsRun: {"integrationId"} renews the tokens of an integration and asks the provider which account they belong to;
// {"revocationId"} tells a provider that tokens are not needed any more. Both have leases of two minutes. An interrupted synchronization is
// taken over twice and has failed then. A revocation is tried five times, 40 s to 3 h apart; then the tokens are deleted, although
// the provider was not notified. When a worker dies after the renewal and before the new tokens are stored, the stored tokens are ones that
// some providers have already replaced: the next synchronization says "expired", and people reconnect.
func IntegrationsRun(e *integrations.Engine) runner.Batch {
	return runner.Batch{Name: "integrations.run", Queue: "integrations", Slots: integrationRuns, Take: e.TakeWork}
}
