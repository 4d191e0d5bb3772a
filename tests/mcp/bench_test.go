package mcp

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSearch compares a search through a tool with the same search over REST, in turns, on one connection with one API key:
//
//	go test ./tests/mcp -run none -bench Search
func BenchmarkSearch(b *testing.B) {
	l := newLab(b)
	l.DB.Exec("update public.subscriptions set overrides = overrides || '{\"api_calls\": 1000000000}' where organization_id = $1", l.anna.OrgID)
	credential := key(b, l.anna, "read")
	took := func(method, path, body string) time.Duration {
		r, err := http.NewRequestWithContext(b.Context(), method, l.BaseURL+path, strings.NewReader(body))
		require.NoError(b, err)
		r.Header.Set("Authorization", "Bearer "+credential)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		began := time.Now()
		answer, err := http.DefaultClient.Do(r)
		require.NoError(b, err)
		raw, err := io.ReadAll(answer.Body)
		require.NoError(b, err)
		require.NoError(b, answer.Body.Close())
		require.Contains(b, string(raw), "shop/checkout.go")
		return time.Since(began)
	}
	search := toolCall(1, "search_code", map[string]any{"context": l.context, "query": "amount total"})
	var overREST, overMCP []time.Duration
	for b.Loop() {
		overREST = append(overREST, took("GET", "/api/v1/contexts/"+l.context+"/chunks/search?q=amount+total", ""))
		overMCP = append(overMCP, took("POST", "/mcp", search))
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2]) / float64(time.Millisecond)
	}
	rest, mcp := median(overREST), median(overMCP)
	b.ReportMetric(mcp/rest, "mcp/rest")
	b.ReportMetric(rest, "ms-rest")
	b.ReportMetric(mcp, "ms-mcp")
}
