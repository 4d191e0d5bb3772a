package api_test

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkRequest is the whole path of a request on one connection: HTTP, the document's checks, the session, one SQL call, the answer.
// Allocations are counted for the whole process; the client sends and reads the same bytes each time and adds none.
func BenchmarkRequest(b *testing.B) {
	s := setup(b, nil)
	for name, request := range map[string]string{
		"read":  "GET /api/v1/echo/x?page=2 HTTP/1.1\r\nHost: kijko.test\r\nAuthorization: Bearer ann\r\n\r\n",
		"write": "POST /api/v1/echo/x HTTP/1.1\r\nHost: kijko.test\r\nAuthorization: Bearer ann\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"name\":\"Kijko\"}",
	} {
		b.Run(name, func(b *testing.B) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			require.NoError(b, err)
			defer func() { _ = conn.Close() }()
			bytes, answer := []byte(request), make([]byte, 8192)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(bytes); err != nil {
					b.Fatal(err)
				}
				n, err := conn.Read(answer)
				if err != nil || !strings.HasPrefix(string(answer[:min(n, 10)]), "HTTP/1.1 2") {
					b.Fatalf("%v %s", err, answer[:n])
				}
			}
		})
	}
}
