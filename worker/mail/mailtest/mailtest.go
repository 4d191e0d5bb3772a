// Package mailtest is a real SMTP server on the loopback interface, for tests: it accepts or refuses mail as its Options
// say.
package mailtest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// Mail is a message that arrived.
type Mail struct {
	From, To string
	// Data is the message with its headers.
	Data string
	// Encrypted reports whether it came over TLS; User is the user that had logged in.
	Encrypted bool
	User      string
	// Greeting is the name that the sender gave in EHLO; UTF8 says whether it asked for SMTPUTF8, which the server offers.
	Greeting string
	UTF8     bool
}

// Options configure the server. The zero value is an unencrypted server that accepts all mail.
type Options struct {
	// StartTLS offers STARTTLS; TLS requires encryption from the first byte.
	StartTLS, TLS bool
	// Mechanism (PLAIN or LOGIN), if set, is required, with User and Password.
	Mechanism, User, Password string
	// OnMail, OnRcpt and OnData answer the three steps. A nil function and a nil error accept. They run in goroutines of
	// the server.
	OnMail, OnRcpt func(address string) error
	OnData         func(data string) error
	// HangUp ends the connection right after a message was accepted.
	HangUp bool
}

// Server is running until the test ends. It is safe for concurrent use.
type Server struct {
	// Host is 127.0.0.1.
	Host string
	Port int
	// RootCAs trust the server's certificate; nil without TLS.
	RootCAs *x509.CertPool

	o        Options
	mu       sync.Mutex
	mails    []Mail
	sessions int
}

// New starts a server.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{o: o, Host: "127.0.0.1"}
	server := smtp.NewServer(smtp.BackendFunc(s.session))
	server.EnableSMTPUTF8 = true
	server.Domain, server.AllowInsecureAuth, server.ErrorLog = "mail.test", true, log.New(io.Discard, "", 0)
	listener, err := net.Listen("tcp", s.Host+":0")
	require.NoError(t, err)
	s.Port = int(netip.MustParseAddrPort(listener.Addr().String()).Port())
	if o.StartTLS || o.TLS {
		var config *tls.Config
		config, s.RootCAs = certificate(t)
		if o.StartTLS {
			server.TLSConfig = config
		} else {
			listener = tls.NewListener(listener, config)
		}
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		// Close both: a server that has not begun to serve does not know its listener yet.
		_ = server.Close()
		_ = listener.Close()
		<-done
	})
	return s
}

// certificate borrows the one that net/http has for 127.0.0.1.
func certificate(t testing.TB) (*tls.Config, *x509.CertPool) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	require.NotEmpty(t, web.TLS.Certificates)
	return &tls.Config{Certificates: web.TLS.Certificates}, roots
}

// SMTP returns the address at which the server listens.
func (s *Server) SMTP() (host string, port int) { return s.Host, s.Port }

// Mails returns the messages that arrived so far.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Sessions counts the connections that sent a greeting.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func (s *Server) session(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	return &session{server: s, conn: c}, nil
}

type session struct {
	server  *Server
	conn    *smtp.Conn
	mail    Mail
	arrived bool
}

func (s *session) AuthMechanisms() []string {
	if s.server.o.Mechanism == "" {
		return nil
	}
	return []string{s.server.o.Mechanism}
}

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != s.server.o.User || password != s.server.o.Password {
			return smtp.ErrAuthFailed
		}
		s.mail.User = user
		return nil
	}
	if mechanism == "LOGIN" {
		return &login{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.server.o.Mechanism != "" && s.mail.User == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	s.mail.From, s.mail.UTF8, s.mail.Greeting = from, o.UTF8, s.conn.Hostname()
	return answer(s.server.o.OnMail, from)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = to
	return answer(s.server.o.OnRcpt, to)
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := answer(s.server.o.OnData, string(data)); err != nil {
		return err
	}
	s.mail.Data = string(data)
	_, s.mail.Encrypted = s.conn.TLSConnectionState()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.mails = append(s.server.mails, s.mail)
	s.arrived = true
	return nil
}

// Reset comes with RSET, and after each message.
func (s *session) Reset() {
	if s.arrived && s.server.o.HangUp {
		_ = s.conn.Conn().Close()
	}
	s.mail = Mail{User: s.mail.User}
}

func (*session) Logout() error { return nil }

func answer(f func(string) error, text string) error {
	if f == nil {
		return nil
	}
	return f(text)
}

// login is the server's side of AUTH LOGIN.
type login struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}
