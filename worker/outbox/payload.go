package outbox

import "time"

// Ingestion is the payload of an ended ingestion. Project and Error are texts of customers: they are there only where the operator allows it.
type Ingestion struct {
	OrganizationID string `json:"organizationId"`
	ProjectID      string `json:"projectId"`
	RunID          string `json:"runId"`
	Outcome        string `json:"outcome"` // completed or failed
	Phase          string `json:"phase"`
	Files          int64  `json:"files"`
	Tokens         int64  `json:"tokens"`
	Chunks         int64  `json:"chunks"`
	Seconds        int64  `json:"seconds"`
	ErrorCode      string `json:"errorCode"`
	Project        string `json:"project"`
	Error          string `json:"error"`
}

// Message is the payload of a message of a chat. Text is a text of customers, as in Ingestion.
type Message struct {
	OrganizationID   string    `json:"organizationId"`
	UserID           string    `json:"userId"`
	MessageID        string    `json:"messageId"`
	Role             string    `json:"role"` // user or model
	ContextID        string    `json:"contextId"`
	Model            string    `json:"model"`
	PromptTokens     *int64    `json:"promptTokens"`
	CompletionTokens *int64    `json:"completionTokens"`
	Stopped          bool      `json:"stopped"`
	CreatedAt        time.Time `json:"createdAt"`
	Text             string    `json:"text"`
}

// Execution is the payload of an ended run of a skill. Skill, Input, Output and Error are texts of customers, as in Ingestion. Input is JSON.
type Execution struct {
	OrganizationID   string    `json:"organizationId"`
	UserID           string    `json:"userId"`
	ExecutionID      string    `json:"executionId"`
	SkillID          string    `json:"skillId"`
	Type             string    `json:"type"`   // manual, api, habit or reflex
	Status           string    `json:"status"` // completed or failed
	Model            string    `json:"model"`
	PromptTokens     *int64    `json:"promptTokens"`
	CompletionTokens *int64    `json:"completionTokens"`
	CostCents        *int64    `json:"costCents"`
	DurationMS       int64     `json:"durationMs"`
	ErrorCode        string    `json:"errorCode"`
	StartedAt        time.Time `json:"startedAt"`
	CompletedAt      time.Time `json:"completedAt"`
	Skill            string    `json:"skill"`
	Input            string    `json:"input"`
	Output           string    `json:"output"`
	Error            string    `json:"error"`
}
