// Package search answers full-text search over the chunks of a context. Postgres searches; the words of the query are made here, by the
// tokenizer of the index.
package search

import (
	"encoding/json"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/exactjson"
	"kijko/worker/ingestion"
)

// maxWords bounds a query; 200 letters have fewer words in most texts.
const maxWords = 64

// Handlers returns the handlers by operationId.
func Handlers() map[string]api.Handler {
	return map[string]api.Handler{"searchChunks": chunks, "searchChunks" + openapi.AtAlias: chunks}
}

func chunks(c *api.Call) error {
	var p struct {
		ContextID string          `json:"contextId"`
		Text      string          `json:"q"`
		Limit     json.RawMessage `json:"limit,omitempty"`
	}
	if err := exactjson.Unmarshal(c.Params, &p); err != nil {
		return err
	}
	answer, err := c.Query(c.Context(), "search_chunks", map[string]any{"contextId": p.ContextID, "limit": p.Limit, "query": ingestion.Query(p.Text, maxWords)})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}
