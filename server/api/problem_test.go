package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/storage"
)

// The failed dependency follows from the source of the error, not from its
// form.
func TestProblemsNameWhatFailed(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	full := &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		says   string
	}{
		"TheDatabaseRefuses":           {FromDatabase(refused), 503, "SERVICE_UNAVAILABLE", "The database"},
		"TheDatabaseIsSlow":            {FromDatabase(context.DeadlineExceeded), 503, "SERVICE_UNAVAILABLE", "The database"},
		"TheDatabaseHangsUp":           {FromDatabase(fmt.Errorf("receive: %w", io.ErrUnexpectedEOF)), 503, "SERVICE_UNAVAILABLE", "The database"},
		"AnAnswerThatCannotBeRead":     {FromDatabase(errors.New("cannot scan")), 500, "INTERNAL", "our side"},
		"TheStoreIsFull":               {fmt.Errorf("%w: write: %w", storage.ErrUnavailable, full), 503, "STORAGE_UNAVAILABLE", "Files"},
		"TheStoreRefuses":              {fmt.Errorf("%w: write: %w", storage.ErrUnavailable, refused), 503, "STORAGE_UNAVAILABLE", "Files"},
		"TheStoreHangsUp":              {fmt.Errorf("%w: read: %w", storage.ErrUnavailable, io.ErrUnexpectedEOF), 503, "STORAGE_UNAVAILABLE", "Files"},
		"AFileOfOurs":                  {full, 500, "INTERNAL", "our side"},
		"ABareErrorNumber":             {syscall.EMFILE, 500, "INTERNAL", "our side"},
		"TextThatEndsEarly":            {io.ErrUnexpectedEOF, 500, "INTERNAL", "our side"},
		"AServiceRefuses":              {&url.Error{Op: "Get", URL: "https://id.example", Err: refused}, 503, "SERVICE_UNAVAILABLE", "Something that this needs"},
		"AServiceHangsUp":              {&url.Error{Op: "Post", URL: "https://id.example", Err: io.EOF}, 503, "SERVICE_UNAVAILABLE", "Something that this needs"},
		"AnAddressThatIsNone":          {&url.Error{Op: "parse", URL: "%", Err: url.EscapeError("%")}, 500, "INTERNAL", "our side"},
		"AServiceHasNoAddress":         {&net.DNSError{Err: "no such host", Name: "id.example"}, 503, "SERVICE_UNAVAILABLE", "Something that this needs"},
		"TheTimeOfTheRequestIsUp":      {fmt.Errorf("store the text: %w", context.DeadlineExceeded), 503, "TIMEOUT", "too long"},
		"WhoAskedHasGone":              {fmt.Errorf("storage: write: %w", context.Canceled), 503, "SERVICE_UNAVAILABLE", "given up"},
		"ARefusalOfTheDatabaseRemains": {FromDatabase(NewProblem(409, "CONFLICT", "taken", "")), 409, "CONFLICT", "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problemOf(c.err)
			require.Equal(t, c.status, p.Status)
			require.Equal(t, c.code, p.Code)
			require.Contains(t, p.Message, c.says)
			if c.status == 503 {
				require.NotEmpty(t, p.Header["Retry-After"])
			}
		})
	}
}
