// Package vies asks VIES, the register of VAT numbers of the member states of the EU. The service reports its own troubles in several forms
// and with any status. Only an answer that says whether a number is valid counts as one: everything else is Unavailable.
package vies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"kijko/worker/public"
)

// URL is the service of the European Commission.
const URL = "https://ec.europa.eu/taxation_customs/vies/rest-api"

// Modes of an installation.
const (
	Live = "live"
	// Offline is for installations without a network: what has the right form and check digits is valid.
	Offline = "offline"
)

// Outcome is the result of a question.
type Outcome string

// The outcomes. NotAsked is the one of the mode offline.
const (
	Valid       Outcome = "valid"
	Invalid     Outcome = "invalid"
	Unavailable Outcome = "unavailable"
	NotAsked    Outcome = "offline"
)

// Answer is the result with what the register discloses about a valid number.
type Answer struct {
	Outcome      Outcome `json:"outcome"`
	Name         string  `json:"name,omitempty"`
	Address      string  `json:"address,omitempty"`
	Consultation string  `json:"consultation,omitempty"`
}

// Config holds the settings.
type Config struct {
	Mode string
	URL  string
	// Requester is the VAT number of the seller: with it the answer has a consultation number, the proof of the question.
	Requester string
	// Timeout bounds a question; 0 is 10 s.
	Timeout time.Duration
}

// maxAnswer bounds how much of an answer is read: names and addresses are short.
const maxAnswer = 64 << 10

// maxQuestions is how many questions of this process VIES gets at once. It refuses callers with many.
const maxQuestions = 8

// Client asks VIES.
type Client struct {
	cfg       Config
	http      *http.Client
	questions *semaphore.Weighted
	log       *slog.Logger
}

var requester = regexp.MustCompile(`^[A-Z]{2}[0-9A-Z+*]{2,12}$`)

// New makes a Client.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if cfg.Mode != Live && cfg.Mode != Offline {
		return nil, errors.New("VIES_MODE: must be live or offline")
	}
	if u, err := url.Parse(cfg.URL); cfg.Mode == Live && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		return nil, errors.New("VIES_URL: must be an http or https URL")
	}
	if cfg.Requester != "" && !requester.MatchString(cfg.Requester) {
		return nil, errors.New("VIES_REQUESTER_NUMBER: must be a VAT number with its prefix, without blanks")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	// The operator chooses the address, which may be a relay inside their network.
	return &Client{cfg: cfg, http: public.Client(true), questions: semaphore.NewWeighted(maxQuestions), log: log}, nil
}

// question is the body of check-vat-number.
type question struct {
	CountryCode              string `json:"countryCode"`
	VatNumber                string `json:"vatNumber"`
	RequesterMemberStateCode string `json:"requesterMemberStateCode,omitempty"`
	RequesterNumber          string `json:"requesterNumber,omitempty"`
}

// reply is the body of an answer: a verdict, or troubles.
type reply struct {
	Valid             *bool  `json:"valid"`
	Name              string `json:"name"`
	Address           string `json:"address"`
	RequestIdentifier string `json:"requestIdentifier"`
	ActionSucceed     *bool  `json:"actionSucceed"`
	ErrorWrappers     []struct {
		Error string `json:"error"`
	} `json:"errorWrappers"`
}

// Check asks about a number with its prefix, whose form is right. Troubles are logged and answered as Unavailable; no error means that a
// number is invalid.
func (c *Client) Check(ctx context.Context, number string) Answer {
	if c.cfg.Mode == Offline {
		return Answer{Outcome: NotAsked}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	answer, err := c.ask(ctx, number)
	if err != nil {
		// The number itself names a company, so it is not logged.
		c.log.Warn("asking VIES", "country", number[:2], "error", err)
		return Answer{Outcome: Unavailable}
	}
	return answer
}

func (c *Client) ask(ctx context.Context, number string) (Answer, error) {
	if err := c.questions.Acquire(ctx, 1); err != nil {
		return Answer{}, fmt.Errorf("wait for other questions: %w", err)
	}
	defer c.questions.Release(1)
	q := question{CountryCode: number[:2], VatNumber: number[2:]}
	if own := c.cfg.Requester; own != "" {
		q.RequesterMemberStateCode, q.RequesterNumber = own[:2], own[2:]
	}
	body, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(c.cfg.URL, "/")+"/check-vat-number", bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer: %w", err)
	}
	if len(raw) > maxAnswer {
		return Answer{}, errors.New("the answer is too large")
	}
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		return Answer{}, fmt.Errorf("read an answer with status %d: %w", response.StatusCode, err)
	}
	return r.answer(response.StatusCode)
}

// answer reads troubles before the verdict, because they come with any status.
func (r reply) answer(status int) (Answer, error) {
	if len(r.ErrorWrappers) > 0 || r.ActionSucceed != nil && !*r.ActionSucceed {
		codes := []string{}
		for _, w := range r.ErrorWrappers {
			codes = append(codes, w.Error)
		}
		if len(codes) == 1 && codes[0] == "INVALID_INPUT" {
			return Answer{Outcome: Invalid}, nil
		}
		return Answer{}, fmt.Errorf("VIES reports %q with status %d", codes, status)
	}
	if status != http.StatusOK || r.Valid == nil {
		return Answer{}, fmt.Errorf("an answer with status %d and without a verdict", status)
	}
	if !*r.Valid {
		return Answer{Outcome: Invalid, Consultation: r.RequestIdentifier}, nil
	}
	return Answer{Outcome: Valid, Name: disclosed(r.Name), Address: disclosed(r.Address), Consultation: r.RequestIdentifier}, nil
}

// disclosed returns a text of the register, empty for the dashes that stand for one that is not disclosed.
func disclosed(text string) string {
	text = strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), ""))
	if strings.Trim(text, "-") == "" {
		return ""
	}
	return text
}
