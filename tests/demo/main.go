// Command demo shows in two minutes what Kijko does, against a running server (`make run`) and as any client would. It signs up, creates a
// project, adds a repository, starts an ingestion, and shows its live events as a progress display, then the numbers. It pushes a second
// commit and ingests the change, compares both versions, compresses the context, searches it and saves a picture of its graph. It creates a skill,
// runs it by hand, by a schedule and by a webhook, and shows the usage of the three runs. It upgrades the plan by signed events of Stripe and
// shows the change on the socket. It invites a colleague, who signs up with the invitation and runs the skill too. It switches a second factor
// on and signs in with it. It makes an API key and calls with it. It downloads all data of the account. Then it erases both accounts.
//
//	KIJKO_ADDR       where the server is, default 127.0.0.1:8000
//	KIJKO_DEMO_REPO  another repository than the one the development server offers
//	KIJKO_DEMO_PATHS patterns of the paths to ingest, with commas between them; default all
//	STRIPE_WEBHOOK_SECRET what the server verifies events of Stripe with, default the one that the development server offers
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	d := &demo{base: "http://" + cmp.Or(os.Getenv("KIJKO_ADDR"), "127.0.0.1:8000"), out: os.Stdout, terminal: isTerminal(os.Stdout)}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

type demo struct {
	base, token string
	password    string
	out         io.Writer
	terminal    bool
}

func (d *demo) run(ctx context.Context) error {
	var greeting struct {
		Demo struct{ Repository, Provider, Branch, Push, WebhookSecret string }
	}
	if err := d.call(ctx, "GET", "/", nil, &greeting); err != nil {
		return fmt.Errorf("no server answers at %s; start one with `make run` (%w)", d.base, err)
	}
	repository := map[string]any{"provider": "github", "repositoryUrl": "https://github.com/gofiber/fiber", "branch": "main"}
	if r := greeting.Demo; r.Repository != "" {
		repository = map[string]any{"provider": r.Provider, "repositoryUrl": r.Repository, "branch": r.Branch}
	}
	if url := os.Getenv("KIJKO_DEMO_REPO"); url != "" {
		repository = map[string]any{"provider": providerOf(url), "repositoryUrl": url, "branch": "main"}
	}
	if paths := os.Getenv("KIJKO_DEMO_PATHS"); paths != "" {
		repository["includePaths"] = strings.Split(paths, ",")
	}

	name := "demo-" + strings.ToLower(rand.Text()[:8])
	var clone *clone
	if push := greeting.Demo.Push; push != "" && os.Getenv("KIJKO_DEMO_REPO") == "" {
		var err error
		if clone, err = newClone(ctx, push, name); err != nil {
			return err
		}
		defer clone.remove()
		repository["branch"] = name
	}
	if err := d.signUp(ctx, map[string]any{"email": name + "@example.nl", "first_name": "Demo", "last_name": "Visitor"}); err != nil {
		return err
	}
	d.say("signed up as %s@example.nl", name)

	var created struct{ Project struct{ ID, Name string } }
	if err := d.call(ctx, "POST", "/api/v1/projects", map[string]any{"name": name, "type": "repository"}, &created); err != nil {
		return err
	}
	project := "/api/v1/projects/" + created.Project.ID
	d.say("created project %q", created.Project.Name)
	var added struct{ ID string }
	if err := d.call(ctx, "POST", project+"/repositories", repository, &added); err != nil {
		return err
	}
	d.say("added %s", repository["repositoryUrl"])

	var started struct{ JobID string }
	if err := d.call(ctx, "POST", project+"/ingest", map[string]any{}, &started); err != nil {
		return err
	}
	d.say("ingesting, live over the WebSocket:\n")
	if err := d.watch(ctx, created.Project.ID); err != nil {
		return err
	}
	if err := d.numbers(ctx, project); err != nil {
		return err
	}
	if err := d.context(ctx, created.Project.ID, added.ID, clone); err != nil {
		return err
	}
	skillID, err := d.skills(ctx)
	if err != nil {
		return err
	}
	colleague, err := d.team(ctx, name+"@example.nl", skillID, cmp.Or(os.Getenv("STRIPE_WEBHOOK_SECRET"), greeting.Demo.WebhookSecret))
	if err != nil {
		return err
	}
	code, err := d.account(ctx, name+"@example.nl")
	if err != nil {
		return err
	}
	if err := d.data(ctx); err != nil {
		return err
	}
	if colleague != nil {
		// An owner with colleagues hands the organization over before the account goes.
		if err := colleague.erase(ctx, "the colleague", ""); err != nil {
			return err
		}
	}
	if err := d.erase(ctx, "the account", code); err != nil {
		return err
	}
	d.say("\ntry the API yourself: %s/docs", d.base)
	return nil
}

// signUp makes an account and continues as its person.
func (d *demo) signUp(ctx context.Context, account map[string]any) error {
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	d.password = rand.Text()
	account["password"] = d.password
	if err := d.call(ctx, "POST", "/api/v1/auth/signup", account, &tokens); err != nil {
		return err
	}
	d.token = tokens.AccessToken
	return nil
}

// watch follows the project's socket until the run has ended.
func (d *demo) watch(ctx context.Context, projectID string) error {
	dialer := websocket.Dialer{Subprotocols: []string{"kijko.v1", "bearer." + d.token}}
	conn, res, err := dialer.DialContext(ctx, strings.Replace(d.base, "http", "ws", 1)+"/api/v1/projects/"+projectID+"/ws", nil)
	if err != nil {
		return fmt.Errorf("opening the project's socket: %w", err)
	}
	_ = res.Body.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	conn.SetReadLimit(4 << 20)
	for {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("the project's socket ended: %w", err)
		}
		var frame struct {
			Type string
			Data struct {
				Phase, Message, ErrorCode, ErrorMessage string
				ProgressPercent                         int
				CurrentPhaseIndex                       int
				TotalDurationSeconds                    float64
				Metrics                                 struct{ FilesProcessed, TotalFiles, TokensProcessed, ChunksCreated int }
			}
		}
		if err := json.Unmarshal(raw, &frame); err != nil {
			return fmt.Errorf("a frame that is no JSON: %w", err)
		}
		switch data := frame.Data; frame.Type {
		case "phase_started":
			d.line(true, "  %d/5 %-17s %s", data.CurrentPhaseIndex+1, data.Phase, data.Message)
		case "progress_update":
			d.line(false, "      %s %3d%%  %d of %d files, %s tokens, %d chunks", bar(data.ProgressPercent), data.ProgressPercent,
				data.Metrics.FilesProcessed, data.Metrics.TotalFiles, thousands(data.Metrics.TokensProcessed), data.Metrics.ChunksCreated)
		case "ingestion_complete":
			d.line(true, "  done in %.0f s", data.TotalDurationSeconds)
			return nil
		case "error":
			return fmt.Errorf("the ingestion failed: %s (%s)", data.ErrorMessage, data.ErrorCode)
		}
	}
}

func (d *demo) numbers(ctx context.Context, project string) error {
	var r struct {
		OriginalTokens, OptimizedTokens, FilesProcessed, ChunksCreated int
		ReductionPercent                                               float64
		SavingsBreakdown                                               struct{ Deduplication, PatternCompression, Whitespace, ImportConsolidation int }
		PerformanceStats                                               struct{ IngestionTimeSeconds, QueryLatencyMs, RelevanceScore float64 }
		LanguagesDetected                                              []string
	}
	if err := d.call(ctx, "GET", project+"/ingestion-result", nil, &r); err != nil {
		return err
	}
	fmt.Fprintf(d.out, `
  files            %s in %d chunks
  languages        %s
  tokens           %s -> %s (%.1f %% fewer)
    deduplication  %s
    patterns       %s
    white space    %s
    imports        %s
  query            %.0f ms at the 95th percentile, %.0f %% of samples found
`, thousands(r.FilesProcessed), r.ChunksCreated, strings.Join(r.LanguagesDetected, ", "), thousands(r.OriginalTokens),
		thousands(r.OptimizedTokens), r.ReductionPercent, thousands(r.SavingsBreakdown.Deduplication), thousands(r.SavingsBreakdown.PatternCompression),
		thousands(r.SavingsBreakdown.Whitespace), thousands(r.SavingsBreakdown.ImportConsolidation),
		r.PerformanceStats.QueryLatencyMs, r.PerformanceStats.RelevanceScore)
	return nil
}

func (d *demo) call(ctx context.Context, method, path string, body, into any) error {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, payload)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		problem := &refusal{call: method + " " + path, status: res.StatusCode}
		_ = json.Unmarshal(raw, problem)
		return problem
	}
	switch into := into.(type) {
	case nil:
		return nil
	case *svg:
		*into = raw
		return nil
	}
	return json.Unmarshal(raw, into)
}

// refusal is a problem document.
type refusal struct {
	Code, Detail string
	Details      json.RawMessage
	call         string
	status       int
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: %d %s %s", r.call, r.status, r.Code, r.Detail)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// line overwrites itself on a terminal until a permanent line comes.
func (d *demo) line(lasting bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !d.terminal {
		fmt.Fprintln(d.out, text)
		return
	}
	fmt.Fprint(d.out, "\r\033[K", text)
	if lasting {
		fmt.Fprintln(d.out)
	}
}

func bar(percent int) string {
	const width = 24
	full := min(width, percent*width/100)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func providerOf(url string) string {
	for _, p := range []string{"gitlab", "bitbucket", "azure"} {
		if strings.Contains(url, p) {
			return p
		}
	}
	return "github"
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
