package seal

// What sealed texts are for. A text that was sealed for one purpose opens for no other, so these strings never change.
const (
	// ProjectWebhook is the secret of a project's own chunking webhook.
	ProjectWebhook = "project webhook"
	// ReflexWebhook is the secret that signs deliveries to a reflex.
	ReflexWebhook = "reflex webhook"
)

// ProviderKey is an organization's own key at a model provider: what is sealed for one organization and provider opens for no other.
func ProviderKey(organizationID, provider string) string {
	return "provider key " + organizationID + " " + provider
}

// Integration is what an organization's integration with a provider holds: tokens of a consent, or a key.
func Integration(organizationID, provider string) string {
	return "integration " + organizationID + " " + provider
}

// IntegrationState is the way to a provider and back.
const IntegrationState = "integration state"

// Connector is the headers and credentials of an MCP server.
func Connector(id string) string { return "connector " + id }

// OutgoingWebhook is the secret that signs what a webhook is told.
func OutgoingWebhook(id string) string { return "outgoing webhook " + id }
