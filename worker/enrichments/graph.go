package enrichments

import "context"

func (r *run) buildGraph(context.Context) (map[string]any, error) { return map[string]any{}, nil }
