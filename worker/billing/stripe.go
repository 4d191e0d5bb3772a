package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kijko/worker/public"
)

const (
	// apiVersion is the one that the whole product speaks (docs/peers/stripe.md).
	apiVersion = "2023-10-16"
	maxAnswer  = 1 << 20
	callTime   = 20 * time.Second
)

// Stripe reads from Stripe.
type Stripe struct {
	base, key string
	http      *http.Client
}

// NewStripe makes a Stripe; nil without a key.
func NewStripe(base, key string) *Stripe {
	if key == "" {
		return nil
	}
	// The operator chooses the address, which may be a relay inside their network.
	return &Stripe{base: strings.TrimRight(cmp.Or(base, "https://api.stripe.com"), "/"), key: key, http: public.Client(true)}
}

// Subscription reads a subscription.
func (s *Stripe) Subscription(ctx context.Context, id string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/v1/subscriptions/"+url.PathEscape(id), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.key)
	request.Header.Set("Stripe-Version", apiVersion)
	response, err := s.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d of Stripe", response.StatusCode)
	case !json.Valid(raw):
		return nil, errors.New("the answer of Stripe is no JSON")
	}
	return raw, nil
}
