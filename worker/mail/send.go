package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	gomail "github.com/wneessen/go-mail"
)

// ErrRejected marks a message that will never be accepted as it is.
var ErrRejected = errors.New("rejected permanently")

// authRequired is the one 5xx status that concerns the sender's settings and not the message.
const authRequired = 530

// Send hands the message to the server. Nil means that the server accepted it.
func (s *Sender) Send(ctx context.Context, m Message) error {
	msg, err := s.build(m)
	if err != nil {
		return fmt.Errorf("mail %s: %w: %w", m.ID, ErrRejected, err)
	}
	// The end of ctx closes the connection in every case: see dial.
	ctx, end := context.WithCancel(ctx)
	defer end()
	client, err := gomail.NewClient(s.c.Host, s.options(ctx)...)
	if err != nil {
		return fmt.Errorf("mail %s: %w", m.ID, err)
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("mail %s: connect to the mail server: %w", m.ID, err)
	}
	err = client.Send(msg)
	if msg.IsDelivered() {
		// Close is only polite: the server has accepted the message.
		_ = client.Close()
		return nil
	}
	text := withoutAddresses(fmt.Sprint(err), m.To)
	var refusal *gomail.SendError
	if errors.As(err, &refusal) && refusal.ErrorCode() >= 500 && refusal.ErrorCode() != authRequired {
		return fmt.Errorf("mail %s: %w: %s", m.ID, ErrRejected, text)
	}
	return fmt.Errorf("mail %s: %s", m.ID, text)
}

// anAddress matches text that looks like a mail address, in any form in which a server writes it.
var anAddress = regexp.MustCompile(`[^\s<>()\[\]:;,"']+@[^\s<>()\[\]:;,"']+`)

// withoutAddresses hides the recipient. Servers repeat the address in their answers, in another case or alphabet, or only its local part,
// and errors are logged.
func withoutAddresses(text, to string) string {
	text = anAddress.ReplaceAllString(text, "(recipient)")
	if local, _, _ := strings.Cut(to, "@"); local != "" {
		text = regexp.MustCompile(`(?i)(^|[\s<"'(\[])`+regexp.QuoteMeta(local)+`($|[\s>"')\],:;.])`).ReplaceAllString(text, "${1}(recipient)${2}")
	}
	return text
}

// dial connects. The connection lives no longer than ctx: the library observes a context only until it is connected, and leaves the
// connection open when the greeting, TLS or the login fails.
func (s *Sender) dial(ctx context.Context) gomail.DialContextFunc {
	return func(dialing context.Context, network, address string) (conn net.Conn, err error) {
		if s.c.TLS == TLS {
			conn, err = (&tls.Dialer{Config: s.tls}).DialContext(dialing, network, address)
		} else {
			conn, err = (&net.Dialer{}).DialContext(dialing, network, address)
		}
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
}

// options are the client options for one message.
func (s *Sender) options(ctx context.Context) []gomail.Option {
	policy := gomail.NoTLS
	if s.c.TLS == StartTLS {
		policy = gomail.TLSMandatory
	}
	options := []gomail.Option{gomail.WithPort(s.c.Port), gomail.WithTimeout(s.c.Timeout), gomail.WithTLSConfig(s.tls.Clone()),
		gomail.WithTLSPolicy(policy), gomail.WithDialContextFunc(s.dial(ctx)),
		// The greeting uses a full name, where the library would give this machine's short one. Addresses on the wire are ASCII, so no
		// server on the way needs SMTPUTF8. The library would ask for SMTPUTF8 at every server that offers it.
		gomail.WithHELO(s.from.Address[strings.LastIndexByte(s.from.Address, '@')+1:]), gomail.WithoutSMTPUTF8()}
	if s.c.Username != "" {
		// All these mechanisms run inside TLS; the client uses the first that the server supports.
		options = append(options, gomail.WithUsername(s.c.Username), gomail.WithPassword(s.c.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthCramMD5))
	}
	return options
}
