package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"kijko/db"
)

// maxPage bounds one page of the registry, and maxPages their number.
const (
	maxPage  = 8 << 20
	maxPages = 1000
)

// item is what is stored of a server of the registry.
type item struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Version     string `json:"version"`
	Homepage    string `json:"homepage,omitempty"`
	Remote      string `json:"remote,omitempty"`
}

// page is an answer of GET /v0.1/servers. Both spellings of the cursor are in use.
type page struct {
	Servers []struct {
		Server struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Version     string `json:"version"`
			WebsiteURL  string `json:"websiteUrl"`
			Repository  struct {
				URL string `json:"url"`
			} `json:"repository"`
			Remotes []struct {
				Type string `json:"type"`
				URL  string `json:"url"`
			} `json:"remotes"`
		} `json:"server"`
		Meta map[string]json.RawMessage `json:"_meta"`
	} `json:"servers"`
	Metadata struct {
		NextCursor  string `json:"nextCursor"`
		NextCursor2 string `json:"next_cursor"`
	} `json:"metadata"`
}

// official is the member of _meta in which the registry says whether a server is still published.
const official = "io.modelcontextprotocol.registry/official"

// sync replaces the synchronized items. It reads all pages first: a failure leaves the stored rows, and the next hour brings another try.
func (e *Engine) sync(ctx context.Context) {
	if e.source.URL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	items, err := e.read(ctx)
	if err == nil {
		_, err = e.pool.Exec(ctx, "select private.store_registry($1)", items)
	}
	if err != nil {
		e.log.Warn("the registry of MCP servers could not be synchronized; the stored rows stay", "error", err)
	}
}

func (e *Engine) read(ctx context.Context) (items []item, err error) {
	// The operator configured the address. The next page is asked for by a cursor alone, so no answer leads elsewhere.
	client := &http.Client{Timeout: pageTime}
	defer client.CloseIdleConnections()
	items = []item{}
	for cursor, seen := "", map[string]bool{}; ; {
		p, err := e.page(ctx, client, cursor)
		if err != nil {
			return nil, err
		}
		for _, s := range p.Servers {
			var state struct {
				Status string `json:"status"`
			}
			if json.Unmarshal(s.Meta[official], &state) == nil && state.Status == "deleted" {
				continue
			}
			i := item{Name: s.Server.Name, Description: s.Server.Description, Version: s.Server.Version, Homepage: s.Server.WebsiteURL}
			if i.Homepage == "" {
				i.Homepage = s.Server.Repository.URL
			}
			for _, kind := range []string{"sse", "streamable-http"} {
				for _, r := range s.Server.Remotes {
					if r.Type == kind {
						i.Remote = r.URL
					}
				}
			}
			for _, text := range []*string{&i.Name, &i.Description, &i.Version, &i.Homepage, &i.Remote} {
				*text = db.Text(*text)
			}
			if items = append(items, i); len(items) >= e.source.Max {
				return items, nil
			}
		}
		if cursor = p.Metadata.NextCursor; cursor == "" {
			cursor = p.Metadata.NextCursor2
		}
		if cursor == "" {
			return items, nil
		}
		if seen[cursor] || len(seen) >= maxPages {
			return nil, errors.New("the pages of the registry do not end")
		}
		seen[cursor] = true
	}
}

func (e *Engine) page(ctx context.Context, client *http.Client, cursor string) (p page, err error) {
	query := url.Values{"version": {"latest"}, "limit": {"100"}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(e.source.URL, "/")+"/v0.1/servers?"+query.Encode(), nil)
	if err != nil {
		return p, fmt.Errorf("request of the registry: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return p, fmt.Errorf("ask the registry: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxPage+1))
	switch {
	case err != nil:
		return p, fmt.Errorf("read the registry: %w", err)
	case answer.StatusCode != http.StatusOK:
		return p, fmt.Errorf("the registry answers %d", answer.StatusCode)
	case len(body) > maxPage:
		return p, errors.New("a page of the registry is too large")
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("read the registry: %w", err)
	}
	return p, nil
}
