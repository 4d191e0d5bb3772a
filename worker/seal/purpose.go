package seal

// What sealed texts are for. A text that was sealed for one purpose opens for no other, so these strings never change.
const (
	// ProjectWebhook is the secret of a project's own chunking webhook.
	ProjectWebhook = "project webhook"
	// ReflexWebhook is the secret that signs deliveries to a reflex.
	ReflexWebhook = "reflex webhook"
	// APIKey is a new API key in an answer that is kept for its Idempotency-Key.
	APIKey = "api key"
	// ComplianceLink is under the digest that makes a link to a document good for some minutes.
	ComplianceLink = "compliance link"
)

// SecondFactor is the secret of a person's authenticator app, SecondFactorCodes the codes that are shown once; of one person each.
func SecondFactor(userID string) string { return "second factor " + userID }

// SecondFactorCodes see SecondFactor.
func SecondFactorCodes(userID string) string { return "backup codes " + userID }

// ProviderKey is an organization's own key at a model provider: what is sealed for one organization and provider opens for no other.
func ProviderKey(organizationID, provider string) string {
	return "provider key " + organizationID + " " + provider
}

// ProviderToken is what a Git provider or a directory gave: it opens for its own row only.
func ProviderToken(id string) string { return "provider token " + id }

// ConnectionState is what proves a consent that a person began.
func ConnectionState(userID string) string { return "connection state " + userID }

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
