package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// floodRate is the number of deliveries a second that one sender posts, from floodSenders connections.
const (
	floodRate    = 1000
	floodSenders = 20
	floodFor     = 3 * time.Second
)

// flood measures a person's GET /projects while another person's webhook gets 1,000 deliveries a second, beside the same without them.
func (b *bench) flood(ctx context.Context) error {
	var skill, reflex struct{ ID string }
	if err := b.post("/api/v1/skills", b.person.token, `{"name":"Flood","promptTemplate":"Say something about {{topic}}"}`, &skill); err != nil {
		return err
	}
	if err := b.post("/api/v1/reflexes", b.person.token, `{"skillId":"`+skill.ID+`","triggerType":"webhook","triggerConfig":{}}`, &reflex); err != nil {
		return err
	}
	hook := b.url + "/webhooks/reflex/" + reflex.ID
	// Another person, who is not the receiver of the flood.
	var other struct {
		AccessToken string `json:"access_token"`
	}
	if err := b.post("/api/v1/auth/signup", "", `{"email":"other@example.nl","password":"bench-password","first_name":"Other","last_name":"Person"}`, &other); err != nil {
		return err
	}
	var calm, busy []float64
	var posted, limited int64
	for range rounds {
		p99, err := b.readFor(ctx, other.AccessToken, floodFor)
		if err != nil {
			return err
		}
		calm = append(calm, p99)
		flooding, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p, l := pour(flooding, func(client *http.Client) (*http.Response, error) {
				return client.Post(hook, "application/json", strings.NewReader(`{"action":"opened"}`))
			})
			posted, limited = posted+p, limited+l
		}()
		p99, err = b.readFor(ctx, other.AccessToken, floodFor)
		stop()
		<-done
		if err != nil {
			return err
		}
		busy = append(busy, p99)
	}
	report("W1", fmt.Sprintf("p99 of another's GET /projects under %.0f deliveries a second, %.0f %% of them refused (%.2f ms) / without (%.2f ms)",
		float64(posted)/(rounds*floodFor.Seconds()), 100*float64(limited)/float64(posted), median(busy), median(calm)), median(busy)/median(calm), "")
	return nil
}

// storm measures a person's GET /projects while Stripe sends 1,000 events a second of one tenant, beside the same without them.
func (b *bench) storm(ctx context.Context) error {
	var other struct {
		AccessToken string `json:"access_token"`
	}
	if err := b.post("/api/v1/auth/signup", "", `{"email":"reader@example.nl","password":"bench-password","first_name":"Other","last_name":"Person"}`, &other); err != nil {
		return err
	}
	if _, err := b.owner.Exec(ctx, `insert into private.stripe_prices values ('price_1', 'pro', 'monthly') on conflict do nothing`); err != nil {
		return err
	}
	const tenant = 1_000_000
	var n, refused atomic.Int64
	n.Store(600)
	send := func(client *http.Client) (*http.Response, error) {
		i := int(n.Add(1))
		body := stripeEvent(b.person.org, tenant, i, i%6)
		r, err := http.NewRequest(http.MethodPost, b.url+"/api/v1/webhooks/stripe", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Stripe-Signature", signature(body))
		res, err := client.Do(r)
		if err == nil && res.StatusCode != http.StatusOK {
			refused.Add(1)
		}
		return res, err
	}
	var calm, busy []float64
	var posted int64
	for range rounds {
		p99, err := b.readFor(ctx, other.AccessToken, floodFor)
		if err != nil {
			return err
		}
		calm = append(calm, p99)
		storming, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p, _ := pour(storming, send)
			posted += p
		}()
		p99, err = b.readFor(ctx, other.AccessToken, floodFor)
		stop()
		<-done
		if err != nil {
			return err
		}
		busy = append(busy, p99)
	}
	report("S2", fmt.Sprintf("p99 of another's GET /projects under %.0f events of one tenant a second, %d refused (%.2f ms) / without (%.2f ms)",
		float64(posted)/(rounds*floodFor.Seconds()), refused.Load(), median(busy), median(calm)), median(busy)/median(calm), "must 2")
	return nil
}

// pour posts at the rate until ctx ends. It returns the deliveries posted, and those that the rate limit refused.
func pour(ctx context.Context, post func(client *http.Client) (*http.Response, error)) (posted, limited int64) {
	var group sync.WaitGroup
	var p, l atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: floodSenders}}
	defer client.CloseIdleConnections()
	for range floodSenders {
		group.Go(func() {
			ticker := time.NewTicker(floodSenders * time.Second / floodRate)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				res, err := post(client)
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if p.Add(1); res.StatusCode == http.StatusTooManyRequests {
					l.Add(1)
				}
			}
		})
	}
	group.Wait()
	return p.Load(), l.Load()
}

// readFor reads the list of projects in sequence and gives the p99 in milliseconds.
func (b *bench) readFor(ctx context.Context, token string, d time.Duration) (float64, error) {
	all, err := readTimes(ctx, b.url+"/api/v1/projects", token, d)
	if err != nil {
		return 0, err
	}
	return all[len(all)*99/100], nil
}

// readTimes reads an address in sequence and gives the times in milliseconds, the shortest first.
func readTimes(ctx context.Context, url, token string, d time.Duration) ([]float64, error) {
	var all []float64
	for end := time.Now().Add(d); time.Now().Before(end) || len(all) == 0; {
		began := time.Now()
		status, err := get(ctx, url, token)
		if err != nil {
			return nil, err
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %d", url, status)
		}
		all = append(all, float64(time.Since(began).Microseconds())/1000)
	}
	slices.SortFunc(all, cmp.Compare)
	return all, nil
}
