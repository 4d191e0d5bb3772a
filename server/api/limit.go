package api

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/time/rate"

	"kijko/db"
	"kijko/server/auth"
	"kijko/server/openapi"
)

// Limiter counts attempts per key in this process. Its memory is bounded: with very many keys, the least recently seen ones start again at
// zero. This allows more attempts and never refuses any wrongly.
type Limiter struct {
	limit int
	per   time.Duration
	keys  *expirable.LRU[string, *rate.Limiter]
}

const maxLimiterKeys = 50_000

// NewLimiter allows limit attempts of a key within per.
func NewLimiter(limit int, per time.Duration) *Limiter {
	return &Limiter{limit: limit, per: per, keys: expirable.NewLRU[string, *rate.Limiter](maxLimiterKeys, nil, 2*per)}
}

func newLimiter(r *openapi.Rate) *Limiter {
	if r == nil {
		return nil
	}
	return NewLimiter(r.Limit, time.Duration(r.Per)*time.Second)
}

// Spent reports whether the key has no attempts left.
func (l *Limiter) Spent(key string) bool {
	bucket, ok := l.keys.Get(key)
	return ok && bucket.Tokens() < 1
}

// Take counts an attempt, if the key has one left.
func (l *Limiter) Take(key string) bool { return l.take(key) == nil }

// take is Take with the refusal.
func (l *Limiter) take(key string) *Problem {
	bucket, ok := l.keys.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Every(l.per/time.Duration(l.limit)), l.limit)
		// A key may be part of a request's memory, which the next request reuses.
		l.keys.Add(strings.Clone(key), bucket)
	}
	reservation := bucket.Reserve()
	if wait := reservation.Delay(); wait > 0 {
		reservation.Cancel()
		return rateLimited(l.limit, 0, time.Now().Add(wait))
	}
	return nil
}

func rateLimited(limit, remaining int, reset time.Time) *Problem {
	p := NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", "Too many requests. Please wait a moment.", "")
	p.Header = rateHeaders(limit, remaining, reset)
	p.Header["Retry-After"] = strconv.FormatInt(max(1, secondsUntil(reset)), 10)
	return p
}

// RateLimited returns the refusal of a handler with its own rate limit.
func RateLimited(limit, remaining int, reset time.Time) *Problem {
	return rateLimited(limit, remaining, reset)
}

// AddressKey returns the key under which a handler counts an address: the address, or the /64 that an IPv6 client owns at least.
func (c *Call) AddressKey() string { return addressKey(c.ClientIP) }

func rateHeaders(limit, remaining int, reset time.Time) map[string]string {
	return map[string]string{"X-RateLimit-Limit": strconv.Itoa(limit), "X-RateLimit-Remaining": strconv.Itoa(remaining),
		"X-RateLimit-Reset": strconv.FormatInt(reset.Unix(), 10)}
}

const takeRate = "select allowed, remaining, reset_at from private.take_rate($1, $2, make_interval(secs => $3))"

// TakeShared counts an attempt in Postgres, for all processes. The headers are to be set on the answer, refused or not.
func (x *Executor) TakeShared(ctx context.Context, key string, r *openapi.Rate) (map[string]string, error) {
	return x.takeShared(ctx, accountKey{'k', key}, accountKey{}, key, r)
}

// takeShared counts an attempt. It charges the wait for concurrent attempts on the same key to the accounts of the attempt.
func (x *Executor) takeShared(ctx context.Context, person, organization accountKey, key string, r *openapi.Rate) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, acquire[kindWrite])
	defer cancel()
	place, err := x.places.take(ctx, person, organization, takeRate, kindWrite)
	if err != nil {
		return nil, FromDatabase(err)
	}
	defer func() { x.places.leave(place, true) }()
	var allowed bool
	var remaining int
	var reset time.Time
	if err := db.Row(ctx, x.pool, takeRate, []any{key, r.Limit, r.Per}, &allowed, &remaining, &reset); err != nil {
		return nil, err
	}
	if !allowed {
		return nil, rateLimited(r.Limit, remaining, reset)
	}
	return rateHeaders(r.Limit, remaining, reset), nil
}

// addressKey returns the address, or the /64 that an IPv6 client owns at least: within it the client could use another address each time.
func addressKey(address string) string {
	if addr, err := netip.ParseAddr(address); err == nil {
		return auth.RateKey(addr)
	}
	return address
}

// rateKey builds the key that a rate limit counts under.
func (c *Call) rateKey(r *openapi.Rate) string {
	var b strings.Builder
	b.WriteString(c.Op.ID)
	for _, part := range r.Key {
		b.WriteByte('|')
		switch {
		case part == "user" && c.Caller != nil:
			b.WriteString(c.Caller.UserID)
		case part == "user" || part == "ip":
			b.WriteString(addressKey(c.ClientIP))
		default:
			b.WriteString(c.Path(part))
		}
	}
	return b.String()
}
