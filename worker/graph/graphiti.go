package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Graphiti pushes graphs to a Graphiti server: the nodes as entities of the group that is the context's id, the links as messages, of which
// the server makes facts. It answers no read. Each entity costs the server an embedding and each message a model's call, so it receives the
// graphitiNodes nodes with most references and the links among them. What it relies on is in docs/peers/graphiti.md.
type Graphiti struct {
	base   string
	client *http.Client
}

const (
	graphitiNodes    = 1000
	graphitiMessages = 100 // in one request
)

// NewGraphiti takes the address of the server.
func NewGraphiti(address string) (*Graphiti, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("GRAPHITI_URL: must be an http or https URL")
	}
	return &Graphiti{strings.TrimRight(address, "/"), &http.Client{Timeout: 30 * time.Second}}, nil
}

// Name is graphiti.
func (g *Graphiti) Name() string { return "graphiti" }

// Close ends idle connections.
func (g *Graphiti) Close() error {
	g.client.CloseIdleConnections()
	return nil
}

// Holds is always 0: the server has no place for a number, so the record in Postgres decides what is copied again.
func (g *Graphiti) Holds(context.Context, uuid.UUID) (int, error) { return 0, nil }

// Mark does nothing for the same reason: an emptied server fills again with the next generations.
func (g *Graphiti) Mark(context.Context) (bool, error) { return true, nil }

// Ping asks the server's health.
func (g *Graphiti) Ping(ctx context.Context) error {
	return g.send(ctx, http.MethodGet, "/healthcheck", nil)
}

// Delete drops the group.
func (g *Graphiti) Delete(ctx context.Context, id uuid.UUID) error {
	return g.send(ctx, http.MethodDelete, "/group/"+id.String(), nil)
}

type graphitiEntity struct {
	UUID    string `json:"uuid"`
	Group   string `json:"group_id"`
	Name    string `json:"name"`
	Summary string `json:"summary"`
}

type graphitiMessage struct {
	UUID        string `json:"uuid"`
	Name        string `json:"name"`
	RoleType    string `json:"role_type"`
	Role        string `json:"role"`
	Content     string `json:"content"`
	Description string `json:"source_description"`
}

// Replace drops the group and pushes the graph.
func (g *Graphiti) Replace(ctx context.Context, id uuid.UUID, c *Copy) error {
	if err := g.Delete(ctx, id); err != nil {
		return err
	}
	nodes := slices.Clone(c.Nodes)
	sortNodes(nodes)
	nodes = nodes[:min(len(nodes), graphitiNodes)]
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = n.Type + " " + n.Name
		summary := n.Type
		if n.Path != "" {
			summary += fmt.Sprintf(" in %s, line %d", n.Path, n.StartLine)
		}
		if err := g.send(ctx, http.MethodPost, "/entity-node", graphitiEntity{n.ID, id.String(), n.Name, summary}); err != nil {
			return err
		}
	}
	var messages []graphitiMessage
	for _, l := range c.Links {
		source, ok := names[l.Source]
		target, both := names[l.Target]
		if ok && both && l.Type != "contains" {
			messages = append(messages, graphitiMessage{uuid.NewSHA1(id, []byte(l.Source+l.Target+l.Type)).String(), l.Type, "system", "kijko",
				source + " " + l.Type + " " + target + ".", "knowledge graph"})
		}
	}
	for some := range slices.Chunk(messages, graphitiMessages) {
		if err := g.send(ctx, http.MethodPost, "/messages", map[string]any{"group_id": id.String(), "messages": some}); err != nil {
			return err
		}
	}
	return nil
}

func (g *Graphiti) send(ctx context.Context, method, path string, body any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("graphiti: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, g.base+path, reader)
	if err != nil {
		return fmt.Errorf("graphiti: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := g.client.Do(r)
	if err != nil {
		return fmt.Errorf("graphiti: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("graphiti: %s %s answers %d", method, path, answer.StatusCode)
	}
	return nil
}
