package mail

import (
	"encoding/base64"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// Message is one finished message.
type Message struct {
	// ID becomes the Message-ID: a message sent again with the same ID is recognizable as a repeat.
	ID uuid.UUID
	// To is one plain address.
	To      string
	Subject string
	// Text and HTML have the same content.
	Text, HTML string
	// UnsubscribeURL is the address at which one POST stops such mails (RFC 8058); "" for mails that cannot be stopped.
	UnsubscribeURL string
	// At is the time at which the message was written.
	At time.Time
}

// build makes the message for the library, or returns the reason why it must not be sent.
func (s *Sender) build(m Message) (*gomail.Msg, error) {
	to, err := plainAddress(m.To)
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	if m.Subject == "" || !utf8.ValidString(m.Subject) || strings.ContainsFunc(m.Subject, unicode.IsControl) {
		return nil, errors.New("the subject is empty, no text, or contains control characters")
	}
	if m.Text == "" {
		return nil, errors.New("the message is empty")
	}
	if len(m.UnsubscribeURL) > maxURL || strings.ContainsFunc(m.UnsubscribeURL, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) {
		return nil, errors.New("the address for unsubscribing is no URL, or too long for one line")
	}
	// No header reveals the sending program or its version.
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&netmail.Address{Address: to})
	msg.SetGenHeaderPreformatted(gomail.HeaderSubject, headerText(m.Subject))
	msg.SetDateWithValue(m.At)
	msg.SetMessageIDWithValue(m.ID.String() + s.from.Address[strings.LastIndexByte(s.from.Address, '@'):])
	// Out-of-office replies and mailing lists do not answer such messages (RFC 3834).
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

const (
	// maxURL keeps the line of a header below the 998 characters that every server takes (RFC 5322, 2.1.1).
	maxURL = 900
	// shortLine is a subject that fits on the header's first line.
	shortLine = 66
	// wordBytes is the capacity of one encoded word: 75 characters with its marks (RFC 2047, 2).
	wordBytes = 45
)

// headerText writes a header's text so that a mail reader shows it unchanged. Mail readers decode text that looks like an encoded word,
// join lines at blanks, and refuse long lines. So any text other than a short line of words is encoded as a whole. The library encodes
// only text outside ASCII.
func headerText(text string) string {
	outside := func(r rune) bool { return r < ' ' || r > '~' }
	if len(text) <= shortLine && !strings.ContainsFunc(text, outside) && !strings.Contains(text, "=?") && text == strings.Join(strings.Fields(text), " ") {
		return text
	}
	var words []string
	for len(text) > 0 {
		end := min(len(text), wordBytes)
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end--
		}
		words, text = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(text[:end]))+"?="), text[end:]
	}
	return strings.Join(words, "\r\n ")
}

// plainAddress is the address with its domain in ASCII. It is stricter than the standard: no quoted local part, no address literal, and no
// character that could hide a header or SMTP command. A local part outside ASCII is refused too: it needs SMTPUTF8 at each server on the
// way, and a server without it would get raw bytes. The database's private.is_mail_address has the same rules.
func plainAddress(address string) (string, error) {
	local, domain, ok := strings.Cut(address, "@")
	forbidden := func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(`[]@"(),:;<>\`, r)
	}
	outside := func(r rune) bool { return r > unicode.MaxASCII }
	if !ok || local == "" || len(address) > 254 || strings.ContainsFunc(local, outside) || strings.ContainsFunc(local, forbidden) || strings.ContainsFunc(domain, forbidden) {
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
