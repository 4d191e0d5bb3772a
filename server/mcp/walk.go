package mcp

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"kijko/server/api"
)

type findSymbolIn struct {
	Context string `json:"context" jsonschema:"id or exact name of the context"`
	Name    string `json:"name" jsonschema:"part of the name, in either letter case"`
	Type    string `json:"type,omitempty" jsonschema:"only one type: function, class, module, variable or file"`
	Path    string `json:"path,omitempty" jsonschema:"only below this beginning of the path"`
	Limit   int    `json:"limit,omitempty" jsonschema:"most declarations, 1 to 200; 30 by default"`
	bound
}

func findSymbol(ctx context.Context, in findSymbolIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	query := url.Values{"search": {clip(in.Name, 200)}, "limit": {strconv.Itoa(limited(in.Limit, 30, 200))}}
	if in.Type != "" {
		query.Set("type", in.Type)
	}
	if in.Path != "" {
		query.Set("path", in.Path)
	}
	g, err := nodesNamed(ctx, id, query)
	if err != nil {
		return nil, err
	}
	a := newAnswer(in.tokens())
	if len(g.Nodes) == 0 {
		a.addf("Nothing has this in its name. Try a shorter part, or search_code.")
	}
	parts := make([]string, len(g.Nodes))
	for i, n := range g.Nodes {
		parts[i] = fmt.Sprintf("%s, %d references", n, n.References)
	}
	a.list(parts, g.Meta.TotalNodes, "Give a longer part of the name, a type or a path.")
	return a, nil
}

type walkGraphIn struct {
	Context  string `json:"context" jsonschema:"id or exact name of the context"`
	Symbol   string `json:"symbol" jsonschema:"name of a declaration or path of a file, or an id that another tool returned"`
	Relation string `json:"relation,omitempty" jsonschema:"callers, callees, uses (every outgoing link), used_by (every incoming link) or neighbors; neighbors by default"`
	Depth    int    `json:"depth,omitempty" jsonschema:"most steps, 1 to 3; 1 by default"`
	bound
}

// relations are the links that a walk follows.
var relations = map[string]struct {
	isOutgoing, isIncoming, callsOnly bool
	words                             string
}{
	"callers":   {isIncoming: true, callsOnly: true, words: "It is called by"},
	"callees":   {isOutgoing: true, callsOnly: true, words: "It calls"},
	"uses":      {isOutgoing: true, words: "It uses"},
	"used_by":   {isIncoming: true, words: "It is used by"},
	"neighbors": {isOutgoing: true, isIncoming: true, words: "Its neighbors are"},
}

// mostNeighbors bounds the part of the graph that a walk reads.
const mostNeighbors = 1000

func walkGraph(ctx context.Context, in walkGraphIn) (*answer, error) {
	if in.Relation == "" {
		in.Relation = "neighbors"
	}
	relation, ok := relations[in.Relation]
	if !ok {
		return nil, refusal(fmt.Sprintf("relation %q is unknown. It is callers, callees, uses, used_by or neighbors.", clip(in.Relation, 50)))
	}
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	from, err := nodeID(ctx, id, in.Symbol)
	if err != nil {
		return nil, err
	}
	depth := limited(in.Depth, 1, 3)
	var around struct {
		Node      node   `json:"node"`
		Neighbors []node `json:"neighbors"`
		Links     []link `json:"links"`
	}
	if _, err := do(ctx, api.Operation{ID: "getGraphNode", Path: map[string]string{"contextId": id, "nodeId": from},
		Query: url.Values{"depth": {strconv.Itoa(depth)}, "limit": {strconv.Itoa(mostNeighbors)}}}, &around); err != nil {
		return nil, err
	}
	known := map[string]node{around.Node.ID: around.Node}
	for _, n := range around.Neighbors {
		known[n.ID] = n
	}
	a := newAnswer(in.tokens())
	a.addf("%s", around.Node)
	seen := map[string]bool{around.Node.ID: true}
	level := []string{around.Node.ID}
	var parts []string
	for step := 1; step <= depth && len(level) > 0; step++ {
		var following []string
		for _, l := range around.Links {
			if relation.callsOnly && l.Type != "calls" {
				continue
			}
			for _, way := range []struct {
				follows  bool
				at, next string
				arrow    string
			}{{relation.isOutgoing, l.Source, l.Target, "->"}, {relation.isIncoming, l.Target, l.Source, "<-"}} {
				if n, here := known[way.next]; way.follows && here && slices.Contains(level, way.at) && !seen[way.next] {
					seen[way.next] = true
					following = append(following, way.next)
					part := fmt.Sprintf("%s %s %s", way.arrow, l.Type, n)
					if depth > 1 {
						part = fmt.Sprintf("step %d, from %s: %s", step, known[way.at].Name, part)
					}
					parts = append(parts, part)
				}
			}
		}
		level = following
	}
	if in.Relation == "neighbors" {
		// What contains it, and what it contains, has no link.
		for _, n := range around.Neighbors {
			if !seen[n.ID] && (depth == 1 || n.Path == around.Node.Path) {
				parts = append(parts, "-- contained or containing "+n.String())
			}
		}
	}
	if len(parts) == 0 {
		a.addf("It has no %s in the graph.", in.Relation)
		return a, nil
	}
	a.addf("%s:", relation.words)
	a.list(parts, len(parts), "Walk from one of them, or ask with more maxTokens.")
	if len(around.Neighbors) == mostNeighbors {
		a.addf("[Only the %d nearest nodes were looked at.]", mostNeighbors)
	}
	return a, nil
}

type findPathIn struct {
	Context string `json:"context" jsonschema:"id or exact name of the context"`
	From    string `json:"from" jsonschema:"name or id of the declaration or file where the way begins"`
	To      string `json:"to" jsonschema:"name or id of the one where it ends"`
}

func findPath(ctx context.Context, in findPathIn) (*answer, error) {
	id, err := contextID(ctx, in.Context)
	if err != nil {
		return nil, err
	}
	from, err := nodeID(ctx, id, in.From)
	if err != nil {
		return nil, err
	}
	to, err := nodeID(ctx, id, in.To)
	if err != nil {
		return nil, err
	}
	var way graph
	if _, err := do(ctx, api.Operation{ID: "getGraphPath", Path: map[string]string{"contextId": id}, Query: url.Values{"from": {from}, "to": {to}}}, &way); err != nil {
		return nil, err
	}
	a := newAnswer(usualTokens)
	if len(way.Nodes) == 0 {
		a.addf("There is no way of six steps or fewer.")
		return a, nil
	}
	for i, n := range way.Nodes {
		if i > 0 {
			a.addf("  %s", step(way, way.Nodes[i-1].ID, n.ID))
		}
		a.addf("%s", n)
	}
	return a, nil
}

// step says how two neighbors on a way are linked.
func step(way graph, from, to string) string {
	for _, l := range way.Links {
		switch {
		case l.Source == from && l.Target == to:
			return l.Type + " v"
		case l.Source == to && l.Target == from:
			return "^ " + l.Type
		}
	}
	return "contains, or is contained"
}
