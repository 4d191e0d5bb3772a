package metering

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Config names the receiver; without a URL there is none.
type Config struct{ URL, Key string }

// Client sends events to OpenMeter. The SDK for Go brings a generated client of the whole API and two YAML and OpenAPI parsers; this is one
// request, and docs/peers/openmeter.md compares it with what the SDK for Python sends.
type Client struct {
	url, key string
	http     *http.Client
}

// requestLimit bounds one request.
const requestLimit = 10 * time.Second

// Open makes a Client without a request; nil where there is no receiver.
func Open(c Config) (*Client, error) {
	if c.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("OPENMETER_URL: must be an http or https URL")
	}
	return &Client{url: strings.TrimRight(c.URL, "/") + "/api/v1/events", key: c.Key, http: &http.Client{Timeout: requestLimit,
		// A redirected request would carry the key to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// unit is a row of private.metering_events.
type unit struct {
	Seq            int64
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Metric         string
	Amount         int64
	// Total is the value of a gauge after the change.
	Total      *int64
	OccurredAt time.Time
}

// source and id together are the identity of an event.
const source = "kijko"

// event is a CloudEvent 1.0.
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          uuid.UUID `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     uuid.UUID `json:"subject"`
	Time        string    `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        data      `json:"data"`
}

// data has units in value, to be summed; those that are given back are negative. Of a gauge, value is the newest, and change what it gained.
type data struct {
	Value  int64  `json:"value"`
	Change *int64 `json:"change,omitempty"`
}

func eventOf(u unit) event {
	e := event{SpecVersion: "1.0", ID: u.ID, Source: source, Type: "kijko." + u.Metric, Subject: u.OrganizationID,
		Time: u.OccurredAt.UTC().Format(time.RFC3339Nano), ContentType: "application/json", Data: data{Value: u.Amount}}
	if u.Total != nil {
		e.Data = data{Value: *u.Total, Change: &u.Amount}
	}
	return e
}

// refusal is the answer of a receiver that will never take these events as they are.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// post sends events in one request.
func (c *Client) post(ctx context.Context, units []unit) error {
	events := make([]event, len(units))
	for i, u := range units {
		events[i] = eventOf(u)
	}
	body, err := json.Marshal(events)
	if err != nil {
		return fmt.Errorf("encode events: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	// The receiver compares the whole header: it takes no parameter.
	r.Header.Set("Content-Type", "application/cloudevents-batch+json")
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the address, which may hold a password
		}
		return fmt.Errorf("reach OpenMeter: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection is used again
	switch answer.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return nil
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &refusal{fmt.Sprintf("OpenMeter refuses with status %d", answer.StatusCode)}
	}
	return fmt.Errorf("OpenMeter answers with status %d", answer.StatusCode)
}
