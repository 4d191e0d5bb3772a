// Package integrations tests contract 40, section 8, by actor: Anna owns an organization, Ben is a member of it, Vera a viewer. Stan is a
// stranger with an organization of his own. Providers are doubles that speak OAuth. MCP servers are the SDK's own and, in `make
// test-peers`, those of PyPI. Receivers of webhooks are real servers with TLS.
package integrations

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
)

// authority signs the certificates of the receivers. This process trusts it, as a machine trusts its company's authority.
var authority tls.Certificate

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kijko-integrations-")
	if err == nil {
		err = trust(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// trust makes an authority and names it to crypto/x509, which reads the variable once.
func trust(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Kijko tests"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	authority = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", file)
}

// serveTLS is a receiver with a certificate that this process trusts.
func serveTLS(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{authority}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// office is a stack with Anna, Ben and Vera in one organization, and Stan in another one.
type office struct {
	*stack.Stack
	anna, ben, vera, stan *client.Person
}

func newOffice(t *testing.T, options ...stack.Option) *office {
	t.Helper()
	s := stack.New(t, append([]stack.Option{func(c *config.Config) { c.GitAllowPrivate = true }}, options...)...)
	o := &office{Stack: s, anna: s.SignUp("Anna"), stan: s.SignUp("Stan")}
	o.ben, o.vera = o.join("Ben", "member"), o.join("Vera", "viewer")
	return o
}

func (o *office) join(name, role string) *client.Person {
	return o.Join(o.anna, o.SignUp(name), role)
}

// eventually waits for a result of a worker.
func eventually(t testing.TB, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, 20*time.Millisecond, append([]any{what}, args...)...)
}
