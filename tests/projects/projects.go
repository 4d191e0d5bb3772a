// Package projects holds the black-box tests of projects, and the helpers with which other tests make one.
package projects

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
)

// Project is the answer of the API.
type Project struct {
	ID, Name, Status, UpdatedAt string
	TotalFiles, SourceCount     int
	Starred                     bool
}

// Uploaded is the answer to an upload.
type Uploaded struct {
	Uploaded []struct {
		ID, Name, Type string
		Size           int
	}
	Errors []struct{ Name, Error string }
}

// Create makes a project and gives its path.
func Create(t *testing.T, p *client.Person, name string) string {
	t.Helper()
	return "/projects/" + p.Do("POST", "/projects", map[string]any{"name": name}).Want(201).String("project.id")
}

// Form writes a multipart body; a name with "=" is a field, others are files.
func Form(t *testing.T, parts ...[2]string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, part := range parts {
		if field, ok := strings.CutPrefix(part[0], "="); ok {
			require.NoError(t, w.WriteField(field, part[1]))
			continue
		}
		header := textproto.MIMEHeader{}
		header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="files"; filename=%q`, part[0]))
		header.Set("Content-Type", "text/plain")
		p, err := w.CreatePart(header)
		require.NoError(t, err)
		_, err = p.Write([]byte(part[1]))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.Bytes()
}
