package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/dev"
	"kijko/tests/testdb"
)

// captured redirects standard output to a pipe and returns the printed lines.
func captured(t *testing.T) <-chan string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = w
	t.Cleanup(func() {
		os.Stdout = stdout
		_ = w.Close()
	})
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		var all bytes.Buffer
		chunk := make([]byte, 4096)
		for {
			n, err := r.Read(chunk)
			all.Write(chunk[:n])
			if m := regexp.MustCompile(`Kijko +(http://\S+)`).FindSubmatch(all.Bytes()); m != nil {
				lines <- string(m[1])
				_, _ = io.Copy(io.Discard, r)
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return lines
}

// The first steps of a newcomer: make run, the demo login, make demo.
func TestDevelop(t *testing.T) {
	t.Chdir("..")
	t.Setenv("KIJKO_ADDR", "127.0.0.1:0")
	t.Setenv("KIJKO_DATA_DIR", t.TempDir())
	t.Setenv("KIJKO_LOG_LEVEL", "error")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	urls := captured(t)
	done := make(chan error, 1)
	go func() { done <- develop(ctx) }()
	var url string
	select {
	case url = <-urls:
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the server did not start")
	}

	t.Run("TheDemoLoginWorks", func(t *testing.T) {
		body, err := json.Marshal(map[string]string{"email": dev.DemoEmail, "password": dev.DemoPassword})
		require.NoError(t, err)
		res, err := http.Post(url+"/api/v1/auth/login", "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		require.Equal(t, http.StatusOK, res.StatusCode)
	})
	t.Run("ALinkOfAMailCanBeFollowedWithoutAMailServer", func(t *testing.T) {
		post := func(path, body string) int {
			res, err := http.Post(url+"/api/v1"+path, "application/json", strings.NewReader(body))
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			return res.StatusCode
		}
		require.Equal(t, http.StatusAccepted, post("/auth/magic-link", `{"email": "`+dev.DemoEmail+`"}`))
		var box struct{ Mails []dev.Mail }
		require.Eventually(t, func() bool {
			res, err := http.Get(url + dev.MailPath + ".json")
			require.NoError(t, err)
			defer func() { _ = res.Body.Close() }()
			require.NoError(t, json.NewDecoder(res.Body).Decode(&box))
			return len(box.Mails) > 0
		}, 20*time.Second, 20*time.Millisecond)
		require.Equal(t, dev.DemoEmail, box.Mails[0].To)
		require.Len(t, box.Mails[0].Links, 1)
		token, found := strings.CutPrefix(box.Mails[0].Links[0], url+"/magic-link?token=")
		require.True(t, found, box.Mails[0].Links[0])
		require.Equal(t, http.StatusOK, post("/auth/magic-link/verify", `{"token": "`+token+`"}`))

		page, err := http.Get(url + dev.MailPath)
		require.NoError(t, err)
		require.NoError(t, page.Body.Close())
		require.Equal(t, http.StatusOK, page.StatusCode)
		require.Contains(t, page.Header.Get("Content-Security-Policy"), "script-src 'sha256-")
		for _, host := range []string{"kijko.example", "localhost.evil.example:8000"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+dev.MailPath+".json", nil)
			require.NoError(t, err)
			r.Host = host
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusNotFound, res.StatusCode, "a page of another site reads no mails")
		}
	})
	t.Run("TheDemoEndsWithARealRepositorysNumbers", func(t *testing.T) {
		demo := exec.CommandContext(t.Context(), "go", "run", "./tests/demo")
		// A part of the repository, because the race detector makes a whole one last for minutes.
		demo.Env = append(os.Environ(), "KIJKO_ADDR="+url[len("http://"):], "KIJKO_DEMO_PATHS=worker/llm/**,greeting/**")
		out, err := demo.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Regexp(t, `5/5 indexing(?s:.*)files +[\d,]+ in \d+ chunks(?s:.*)version 2 after(?s:.*)added +greeting/hours.go(?s:.*)compressed version 1(?s:.*)its picture is(?s:.*)the plan Free, with 2 of 50 ingestions(?s:.*)the socket said at once that (?s:.*)planId(?s:.*)now it is on the plan teams(?s:.*)of 2500 ingestions(?s:.*)95.59 euros, of which 16.59 are VAT(?s:.*)the colleague signed up(?s:.*)8 of 10 seats are free(?s:.*)writing with it is refused: INSUFFICIENT_SCOPE(?s:.*)downloaded all data(?s:.*)erased the colleague(?s:.*)erased the account(?s:.*)invoices(?s:.*)no longer valid`, string(out))
	})
	stop()
	require.NoError(t, <-done, "it stops without complaint")
}

func TestServeRefusesAStartWithoutItsSecrets(t *testing.T) {
	t.Setenv("DATABASE_URL", testdb.New(t).DSN("kijko_server"))
	require.ErrorContains(t, serve(t.Context()), "ENCRYPTION_KEY: is missing")
}

func TestServeStopsWhenAsked(t *testing.T) {
	t.Setenv("DATABASE_URL", testdb.New(t).DSN("kijko_server"))
	t.Setenv("DEBUG", "true")
	t.Setenv("KIJKO_ADDR", "127.0.0.1:0")
	t.Setenv("KIJKO_DATA_DIR", t.TempDir())
	t.Setenv("KIJKO_LOG_LEVEL", "error")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	select {
	case err := <-done:
		t.Fatalf("it ended by itself: %v", err)
	case <-time.After(2 * time.Second):
	}
	stop()
	<-done // there is no collector, and the stop may report that
}
