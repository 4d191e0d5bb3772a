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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/dev"
	"kijko/tests/testdb"
)

// captured runs work with standard output in a pipe and gives what it printed line by line.
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

// What a newcomer does: make run, the demo login, make demo.
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
	t.Run("TheDemoEndsWithARealRepositorysNumbers", func(t *testing.T) {
		demo := exec.CommandContext(t.Context(), "go", "run", "./tests/demo")
		demo.Env = append(os.Environ(), "KIJKO_ADDR="+url[len("http://"):])
		out, err := demo.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Regexp(t, `5/5 indexing(?s:.*)files +\d+ in \d+ chunks(?s:.*)the colleague signed up(?s:.*)8 of 10 seats are free`, string(out))
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
	<-done // the collector is not there, which stopping may say
}
