package chat

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/stack"
	"kijko/worker/llm/llmtest"
)

// noted notes the moment at which the first text of a provider passes.
type noted struct {
	io.ReadCloser
	at chan time.Time
}

func (n *noted) Read(p []byte) (int, error) {
	read, err := n.ReadCloser.Read(p)
	if bytes.Contains(p[:read], []byte("text_delta")) {
		select {
		case n.at <- time.Now():
		default:
		}
	}
	return read, err
}

// BenchmarkFirstText prints how long the first text of a streamed answer takes from the provider to the client, beside a small read (GET /chats) as
// the yardstick: go test ./tests/chat -run NONE -bench FirstText -benchtime 200x
func BenchmarkFirstText(b *testing.B) {
	models := llmtest.New(b)
	models.Always(func(llmtest.Call) llmtest.Reply {
		return llmtest.Reply{Pieces: []string{"Hello ", "you."}, Delay: 20 * time.Millisecond}
	})
	target, err := url.Parse(models.URL)
	require.NoError(b, err)
	at := make(chan time.Time, 1)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			r.Body = &noted{r.Body, at}
			return nil
		}}
	front := httptest.NewServer(proxy)
	defer front.Close()
	s := stack.New(b, stack.Models(models), func(c *config.Config) { c.AnthropicURL = front.URL })
	anna := s.SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise'")
	var texts, reads []time.Duration
	for i := 0; b.Loop(); i++ {
		if i%20 == 0 {
			s.DB.Exec("delete from private.rate_counters")
		}
		r, err := http.NewRequest("POST", fmt.Sprintf("%s/api/v1/contexts/chat_bench_%d/chat?stream=true", s.BaseURL, i), bytes.NewBufferString(`{"message": "Hello"}`))
		require.NoError(b, err)
		r.Header.Set("Authorization", "Bearer "+anna.Token)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		require.NoError(b, err)
		lines := bufio.NewScanner(answer.Body)
		for lines.Scan() && lines.Text() != "event: text" {
		}
		texts = append(texts, time.Since(<-at))
		for lines.Scan() {
		}
		require.NoError(b, answer.Body.Close())
		began := time.Now()
		anna.Get("/chats").Want(200)
		reads = append(reads, time.Since(began))
	}
	slices.Sort(texts)
	slices.Sort(reads)
	middle := texts[len(texts)/2]
	b.ReportMetric(float64(middle.Microseconds())/1000, "ms/text")
	b.ReportMetric(float64(texts[len(texts)*95/100].Microseconds())/1000, "ms/text-p95")
	b.ReportMetric(float64(middle)/float64(reads[len(reads)/2]), "text/read")
}
