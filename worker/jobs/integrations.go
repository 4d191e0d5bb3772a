package jobs

import (
	"kijko/worker/integrations"
	"kijko/worker/runner"
)

const (
	// deliveries and integrationRuns are how many are in hand at once; each mostly waits for another system.
	deliveries      = 20
	integrationRuns = 5
)

// WebhooksDeliver: {"deliveryId"}. Sends one attempt of an outgoing webhook. No unique key: an attempt is a row, and a second job of it finds
// nothing to do. The row has a lease of two minutes: a worker that dies with an attempt in hand loses it to another one, which sends it once
// more. So a receiver may meet one attempt twice, told by the same X-Kijko-Delivery. Further attempts are rows and jobs of their own (10 s,
// 1 min, 5 min, 30 min, 2 h), written with the result; after the sixth nothing follows.
func WebhooksDeliver(e *integrations.Engine) runner.Batch {
	return runner.Batch{Name: "webhooks.deliver", Queue: "webhooks", Slots: deliveries, Take: e.TakeDeliveries}
}

// IntegrationsRun: {"integrationId"} renews the tokens of an integration and asks the provider who we are; {"revocationId"} tells a provider
// that tokens are not needed any more. Leases of two minutes; an interrupted synchronization is taken up twice and has failed then, a
// revocation is tried five times, 40 s to 3 h apart, and then the tokens are forgotten untold. A worker that dies between the renewal and the
// note of it leaves tokens that some providers have replaced: the next synchronization says "expired", and people reconnect.
func IntegrationsRun(e *integrations.Engine) runner.Batch {
	return runner.Batch{Name: "integrations.run", Queue: "integrations", Slots: integrationRuns, Take: e.TakeWork}
}
