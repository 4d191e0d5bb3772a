package seal

// The purposes of sealed texts. A text that was sealed for one purpose cannot be opened for another, so these strings never change.
const (
	// ProjectWebhook is the secret of a project's own chunking webhook.
	ProjectWebhook = "project webhook"
	// ReflexWebhook is the secret that signs deliveries to a reflex.
	ReflexWebhook = "reflex webhook"
	// APIKey is a new API key in an answer that is kept for its Idempotency-Key.
	APIKey = "api key"
	// ComplianceLink is the purpose of the digest in a link to a document, which is valid for some minutes.
	ComplianceLink = "compliance link"
)

// SecondFactor is the secret of a person's authenticator app, SecondFactorCodes the codes that are shown once; both are bound to one
// person.
func SecondFactor(userID string) string { return "second factor " + userID }

// SecondFactorCodes see SecondFactor.
func SecondFactorCodes(userID string) string { return "backup codes " + userID }

// ProviderKey is an organization's own key at a model provider. It is bound to the organization and the provider.
func ProviderKey(organizationID, provider string) string {
	return "provider key " + organizationID + " " + provider
}

// ProviderToken is a token of a Git provider or a directory; it is bound to its row.
func ProviderToken(id string) string { return "provider token " + id }

// ConnectionState is the state of a consent that a person began.
func ConnectionState(userID string) string { return "connection state " + userID }

// Integration is the secret of an organization's integration with a provider: tokens of a consent, or a key.
func Integration(organizationID, provider string) string {
	return "integration " + organizationID + " " + provider
}

// IntegrationState is the OAuth state on the way to a provider and back.
const IntegrationState = "integration state"

// Connector is the headers and credentials of an MCP server.
func Connector(id string) string { return "connector " + id }

// MCPServer is the headers of an organization's MCP server.
func MCPServer(id string) string { return "mcp server " + id }

// OutgoingWebhook is the secret that signs the deliveries of a webhook.
func OutgoingWebhook(id string) string { return "outgoing webhook " + id }

// PushHook is the secret with which a Git provider signs the pushes of a repository.
func PushHook(repositoryID string) string { return "push hook " + repositoryID }
