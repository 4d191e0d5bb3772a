package contexts

import (
	"encoding/json"
	"mime"

	"kijko/server/api"
)

// addSources answers POST /contexts/{contextId}/sources: files that are dropped on a context. Which are accepted is asked before the first
// byte is stored, and checked again when they are registered.
func (f *Feature) addSources(c *api.Call) error {
	p := parameters(c)
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	accepted, err := f.read(c.Context(), c, "admit_sources", raw)
	if err != nil {
		return err
	}
	var extensions []string
	if err := json.Unmarshal(accepted.Body, &extensions); err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(string(c.Ctx.Request().Header.ContentType()))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return refuse("", "The content type must be multipart/form-data.")
	}
	content, rejected, err := f.s.Uploads.ReceiveSources(c, params["boundary"], extensions)
	if err != nil {
		return err
	}
	p["rejected"] = rejected
	answer, err := content.Register(c, "register_sources", p)
	if err != nil {
		return err
	}
	return f.Finish(c, answer)
}
