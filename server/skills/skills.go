// Package skills handles the two operations that take a playbook, before SQL does: a front matter is YAML, which SQL cannot read. All other
// operations on skills are answered by db/code/skills. It holds no state and starts no goroutine.
package skills

import (
	"net/http"

	"kijko/server/api"
)

// Handlers returns the handlers of the operations that take a playbook.
func Handlers() map[string]api.Handler {
	handlers := map[string]api.Handler{}
	for _, id := range []string{"createPlaybookSkill", "updatePlaybook", "updatePlaybookPatch"} {
		handlers[id] = withFrontMatter
	}
	return handlers
}

// withFrontMatter refuses an invalid front matter and leaves the rest to the function that the document names.
func withFrontMatter(c *api.Call) error {
	var body struct {
		Content *string `json:"content"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if body.Content != nil {
		if fault := Fault(*body.Content); fault != "" {
			return api.NewProblem(http.StatusBadRequest, "INVALID_YAML", fault, "content")
		}
	}
	answer, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}
