package peers

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Mailpit is a real mail server that keeps the mails it receives. It is safe for concurrent use.
type Mailpit struct {
	Host string
	Port int
	// RootCAs trust its certificate; nil without TLS.
	RootCAs *x509.CertPool

	api string
}

// Mail is a message as Mailpit read it.
type Mail struct {
	ID        string
	MessageID string
	Subject   string
	Text      string
	HTML      string
	From      struct{ Name, Address string }
	To        []struct{ Name, Address string }
	// ListUnsubscribe is Mailpit's own reading of RFC 2369 and RFC 8058.
	ListUnsubscribe struct {
		Header, HeaderPost, Errors string
		Links                      []string
	}
	// Raw is the message as it came over the wire.
	Raw string `json:"-"`
}

// NewMailpit starts a Mailpit. Flags are Mailpit's own, beside those that keep it on this machine.
func NewMailpit(t testing.TB, flags ...string) *Mailpit {
	t.Helper()
	data := filepath.Join(t.TempDir(), "mail.db")
	addresses := start(t, MailpitProgram, 2, nil, func(a []string) []string {
		return append([]string{"--listen", a[0], "--smtp", a[1], "--database", data, "--enable-chaos", "--disable-version-check", "--smtp-disable-rdns",
			"--smtp-strict-rfc-headers"}, flags...)
	}, "/readyz")
	smtp := netip.MustParseAddrPort(addresses[1])
	return &Mailpit{Host: smtp.Addr().String(), Port: int(smtp.Port()), api: "http://" + addresses[0] + "/api/v1"}
}

// NewMailpitTLS starts a Mailpit with a certificate for 127.0.0.1. The flags say when it is used, such as --smtp-require-tls.
func NewMailpitTLS(t testing.TB, flags ...string) *Mailpit {
	t.Helper()
	web := httptest.NewTLSServer(nil) // borrowed: net/http has a certificate for tests
	defer web.Close()
	key, err := x509.MarshalPKCS8PrivateKey(web.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	m := NewMailpit(t, append([]string{"--smtp-tls-cert", write("cert.pem", "CERTIFICATE", web.Certificate().Raw),
		"--smtp-tls-key", write("key.pem", "PRIVATE KEY", key)}, flags...)...)
	m.RootCAs = x509.NewCertPool()
	m.RootCAs.AddCert(web.Certificate())
	return m
}

// SMTP is the address at which it accepts mail.
func (m *Mailpit) SMTP() (host string, port int) { return m.Host, m.Port }

// Refuse makes Mailpit refuse the next senders, recipients or logins with a code of 400 to 599 (trigger is Sender, Recipient or
// Authentication). Code 0 makes it accept everything again.
func (m *Mailpit) Refuse(t testing.TB, trigger string, code int) {
	t.Helper()
	chaos := map[string]any{}
	if code != 0 {
		chaos[trigger] = map[string]int{"ErrorCode": code, "Probability": 100}
	}
	raw, err := json.Marshal(chaos)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, m.api+"/chaos", bytes.NewReader(raw))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// Mails gives the mails that have arrived so far, the oldest first.
func (m *Mailpit) Mails(t testing.TB) []Mail {
	t.Helper()
	var list struct{ Messages []struct{ ID string } }
	m.get(t, "/messages?limit=500", &list)
	mails := make([]Mail, len(list.Messages))
	for i, one := range list.Messages {
		at := &mails[len(mails)-1-i]
		id := url.PathEscape(one.ID)
		m.get(t, "/message/"+id, at)
		at.Raw = string(m.fetch(t, "/message/"+id+"/raw"))
	}
	return mails
}

func (m *Mailpit) get(t testing.TB, path string, to any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(m.fetch(t, path), to))
}

func (m *Mailpit) fetch(t testing.TB, path string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.api+path, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", path, raw)
	return raw
}
