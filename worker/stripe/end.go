package stripe

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/uuid"
)

// CancelSubscription ends a subscription at once: no refund, no last invoice. One that does not exist, or has ended, counts as ended.
func (c *Client) CancelSubscription(ctx context.Context, id string) error {
	return c.end(ctx, "/v1/subscriptions/"+url.PathEscape(id))
}

// DeleteCustomer deletes a customer with the payment methods. One that does not exist, or was deleted, counts as deleted.
func (c *Client) DeleteCustomer(ctx context.Context, id string) error {
	return c.end(ctx, "/v1/customers/"+url.PathEscape(id))
}

// end sends a DELETE under a key of its own: it may be repeated, and a fault that Stripe keeps under a key would be repeated too.
func (c *Client) end(ctx context.Context, path string) error {
	a, err := c.Do(ctx, Request{Method: http.MethodDelete, Path: path, Key: uuid.NewString()})
	switch {
	case err != nil:
		return err
	case a.Outcome == OK, a.Outcome == Refused && (a.Status == http.StatusNotFound || a.Code == "resource_missing"):
		return nil
	}
	return fmt.Errorf("DELETE %s: %s, status %d, code %q", route(path), a.Outcome, a.Status, a.Code)
}
