#!/bin/sh
# github.com/valyala/fasthttp: the function given to SetBodyStreamWriter has no way to say that it failed. Returning early ends the chunked
# answer properly, so the client holds half of the content for the whole. With SetBodyStream a reader that returns an error breaks the
# answer off, and the client sees an unexpected end. So content that may fail midway has to be given as a reader.
# Exit status 0: the behavior is still so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/valyala/fasthttp"
)

// failing gives half of the content, then an error.
type failing struct{ half io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.half.Read(p)
	if err == io.EOF {
		err = errors.New("the source failed")
	}
	return n, err
}

func main() {
	const half = "first half of the rows\n"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &fasthttp.Server{Logger: quiet{}, Handler: func(c *fasthttp.RequestCtx) {
		if string(c.Path()) == "/reader" {
			c.SetBodyStream(failing{strings.NewReader(half)}, -1)
			return
		}
		c.SetBodyStreamWriter(func(w *bufio.Writer) { _, _ = w.WriteString(half) /* here the source fails */ })
	}}
	go func() { _ = server.Serve(listener) }()
	ends := map[string]error{}
	for _, path := range []string{"/writer", "/reader"} {
		answer, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		fmt.Printf("%s: status %d, %d bytes read, error at the end: %v\n", path, answer.StatusCode, len(body), err)
		ends[path] = err
	}
	if ends["/writer"] != nil || !errors.Is(ends["/reader"], io.ErrUnexpectedEOF) {
		fmt.Println("changed")
		os.Exit(1)
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
GO
go mod init finding >/dev/null 2>&1
go get github.com/valyala/fasthttp@v1.58.0 >/dev/null 2>&1
echo "github.com/valyala/fasthttp $(go list -m -f '{{.Version}}' github.com/valyala/fasthttp)"
go run .
