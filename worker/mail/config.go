package mail

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"
)

// The ways to protect the connection.
const (
	// StartTLS connects in plain text and requires STARTTLS (usually port 587).
	StartTLS = "starttls"
	// TLS is encrypted from the first byte (usually port 465).
	TLS = "tls"
	// None is for a server on this machine or in its private network; it takes no password.
	None = "none"
)

// Config is the configuration of the mail server.
type Config struct {
	Host string
	// Port is 1 to 65535.
	Port int
	// Username and Password are both set or both empty.
	Username, Password string
	// From is an address with or without a name: Kijko <mail@example.nl>.
	From string
	// TLS is starttls, tls or none.
	TLS string
	// Timeout limits the connection and then the exchange of one message; default 30 s.
	Timeout time.Duration
	// RootCAs are the authorities for the server's certificate; nil means the system's.
	RootCAs *x509.CertPool
}

// Sender sends mail through one server. Make it with New.
type Sender struct {
	c    Config
	from *netmail.Address
	tls  *tls.Config
}

// New checks the configuration and makes no connection. The error names every fault.
func New(c Config) (*Sender, error) {
	var faults []error
	if c.Host == "" || strings.ContainsAny(c.Host, " \t\r\n:/@") && !isIPv6(c.Host) {
		faults = append(faults, errors.New("the host must be a name or an address, without a port"))
	}
	if c.Port < 1 || c.Port > 65535 {
		faults = append(faults, errors.New("the port must lie between 1 and 65535"))
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		faults = append(faults, errors.New("the sender (from) must be one mail address"))
	} else if from.Address, err = plainAddress(from.Address); err != nil {
		faults = append(faults, fmt.Errorf("the sender (from): %w", err))
	}
	if (c.Username == "") != (c.Password == "") {
		faults = append(faults, errors.New("username and password belong together"))
	}
	switch c.TLS {
	case StartTLS, TLS:
	case None:
		if c.Username != "" {
			faults = append(faults, errors.New("a password needs tls or starttls"))
		}
	default:
		faults = append(faults, errors.New("tls must be starttls, tls or none"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	return &Sender{c: c, from: from, tls: &tls.Config{ServerName: c.Host, RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}}, nil
}
