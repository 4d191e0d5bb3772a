package mail

import (
	"errors"
	"fmt"
	netmail "net/mail"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// Message is one finished message.
type Message struct {
	// ID becomes the Message-ID: sending again with the same one is recognisable as a repeat.
	ID uuid.UUID
	// To is one plain address.
	To      string
	Subject string
	// Text and HTML say the same.
	Text, HTML string
	// UnsubscribeURL is where one POST stops such mails (RFC 8058); "" for mails that cannot be stopped.
	UnsubscribeURL string
	// At is when it was written.
	At time.Time
}

// build makes what is sent, or says why this must not be sent.
func (s *Sender) build(m Message) (*gomail.Msg, error) {
	to, err := plainAddress(m.To)
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	if m.Subject == "" || strings.ContainsFunc(m.Subject, unicode.IsControl) {
		return nil, errors.New("the subject is empty or contains control characters")
	}
	if m.Text == "" {
		return nil, errors.New("the message is empty")
	}
	if strings.ContainsFunc(m.UnsubscribeURL, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) {
		return nil, errors.New("the address for unsubscribing is no URL")
	}
	msg := gomail.NewMsg()
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&netmail.Address{Address: to})
	msg.Subject(m.Subject)
	msg.SetDateWithValue(m.At)
	msg.SetMessageIDWithValue(m.ID.String() + s.from.Address[strings.LastIndexByte(s.from.Address, '@'):])
	// Out-of-office replies and mailing lists leave such messages alone (RFC 3834).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.UnsubscribeURL != "" {
		msg.SetGenHeaderPreformatted("List-Unsubscribe", "<"+m.UnsubscribeURL+">")
		msg.SetGenHeaderPreformatted("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// plainAddress is the address with its domain in ASCII. It is strict beyond the standard: no quoted local part, no address literal,
// nothing that a header or SMTP command could hide in. What the database's private.is_mail_address refuses is never queued.
func plainAddress(address string) (string, error) {
	local, domain, ok := strings.Cut(address, "@")
	forbidden := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(`[]@"(),:;<>\`, r)
	}
	if !ok || local == "" || len(address) > 254 || strings.ContainsFunc(local, forbidden) || strings.ContainsFunc(domain, forbidden) {
		return "", errors.New("not a plain mail address")
	}
	ascii, err := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true)).ToASCII(domain)
	if err != nil || ascii == "" {
		return "", errors.New("not a domain name")
	}
	return local + "@" + ascii, nil
}

func isIPv6(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is6()
}
