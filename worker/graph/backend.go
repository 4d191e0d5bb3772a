package graph

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Backend is a store that holds copies of graphs. Postgres is always written and is the source of truth; its side of this is SQL
// (db/code/graph), under row-level security. Callers check access in Postgres before they ask a Backend.
//
// A Backend is safe for concurrent use.
type Backend interface {
	// Name is falkordb or graphiti.
	Name() string
	// Replace makes this the context's graph, at once for all readers.
	Replace(ctx context.Context, contextID uuid.UUID, c *Copy) error
	// Delete drops the context's graph; one that is not there is no error.
	Delete(ctx context.Context, contextID uuid.UUID) error
	// Holds reads the generation that is there, 0 for none.
	Holds(ctx context.Context, contextID uuid.UUID) (int, error)
	// Mark remembers that this store holds copies. It reports false when it was not remembered: the store is new, or was emptied.
	Mark(ctx context.Context) (known bool, err error)
	// Ping reports whether the store answers.
	Ping(ctx context.Context) error
	Close() error
}

// Reader is a Backend that answers reads. Each fails with ErrStale when it holds another generation.
type Reader interface {
	Backend
	Read(ctx context.Context, contextID uuid.UUID, generation int, f Filter) (Answer, error)
	Neighbors(ctx context.Context, contextID uuid.UUID, generation int, node string, depth, limit int) (Answer, error)
	Path(ctx context.Context, contextID uuid.UUID, generation int, from, to string) (Answer, error)
	// Statistics counts nodes and links.
	Statistics(ctx context.Context, contextID uuid.UUID, generation int) (nodes, links int, err error)
}

// ErrStale means that a mirror holds another generation than the one asked for.
var ErrStale = errors.New("the mirror holds another generation of the graph")

// Filter chooses the nodes of a read. Limit is at least 1.
type Filter struct {
	Type          string   `json:"type"`
	LinkTypes     []string `json:"linkTypes"`
	Search        string   `json:"search"` // in lower case
	Path          string   `json:"path"`
	MinReferences int      `json:"minReferences"`
	Limit         int      `json:"limit"`
}

// NodeRow is a node as answers tell it.
type NodeRow struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	References int    `json:"references"`
	Color      string `json:"color"`
	Path       string `json:"path,omitempty"`
	Language   string `json:"language,omitempty"`
	StartLine  int    `json:"startLine,omitempty"`
	EndLine    int    `json:"endLine,omitempty"`
	Exported   *bool  `json:"exported,omitempty"`
	Cluster    int    `json:"cluster,omitempty"`
	// Lower is the name as searches compare it.
	Lower string `json:"-"`
}

// LinkRow is a link as answers tell it; containment is internal.
type LinkRow struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Type   string `json:"type"`
	Count  int    `json:"count"`
}

// Copy is a generation of a graph.
type Copy struct {
	Generation int
	Nodes      []NodeRow
	Links      []LinkRow
}

// Answer is a read of a Reader.
type Answer struct {
	Nodes, Rest            []NodeRow // Rest: neighbors of the node in Nodes
	Links                  []LinkRow
	TotalNodes, TotalLinks int
}

// ColorOf is the color of a node's type (contract 60, 9.1).
func ColorOf(nodeType string) string {
	switch nodeType {
	case "function":
		return "#3b82f6"
	case "class":
		return "#8b5cf6"
	case "module":
		return "#10b981"
	case "variable":
		return "#f59e0b"
	}
	return "#6b7280"
}

// sortNodes puts nodes in the order of answers.
func sortNodes(nodes []NodeRow) {
	slices.SortFunc(nodes, func(x, y NodeRow) int {
		return cmp.Or(-cmp.Compare(x.References, y.References), cmp.Compare(slices.Index(typeNames[:], x.Type), slices.Index(typeNames[:], y.Type)),
			strings.Compare(x.Name, y.Name), strings.Compare(x.ID, y.ID))
	})
}

func sortLinks(links []LinkRow) {
	slices.SortFunc(links, func(x, y LinkRow) int {
		return cmp.Or(strings.Compare(x.Source, y.Source), strings.Compare(x.Target, y.Target), strings.Compare(x.Type, y.Type))
	})
}
