package graph

import (
	"errors"
	"fmt"
)

// Config names the store of copies.
type Config struct{ Backend, FalkorDB, Graphiti string }

// Open makes the Backend that the settings name, without a request; nil for Postgres alone.
func Open(c Config) (Backend, error) {
	switch c.Backend {
	case "", "postgres":
		return nil, nil
	case "falkordb":
		if c.FalkorDB == "" {
			return nil, errors.New("FALKORDB_URL: is missing, and GRAPH_BACKEND is falkordb")
		}
		f, err := NewFalkorDB(c.FalkorDB)
		if err != nil {
			return nil, err
		}
		return f, nil
	case "graphiti":
		if c.Graphiti == "" {
			return nil, errors.New("GRAPHITI_URL: is missing, and GRAPH_BACKEND is graphiti")
		}
		g, err := NewGraphiti(c.Graphiti)
		if err != nil {
			return nil, err
		}
		return g, nil
	}
	return nil, fmt.Errorf("GRAPH_BACKEND: must be postgres, falkordb or graphiti, not %q", c.Backend)
}
