package llm

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
)

// Price is what a million tokens cost, in US cents.
type Price struct {
	InputCents  int64 `json:"inputCents"`
	OutputCents int64 `json:"outputCents"`
}

// Prices are the prices in force, for the cost in spans; what is charged is decided by the database. Without them spans have no cost.
type Prices struct {
	now atomic.Pointer[map[string]Price]
}

// priceAge is how long prices are used before they are read again.
const priceAge = time.Minute

// Keep reads the prices at once and then every minute, until ctx ends. The price under "" is that of models without one.
func (p *Prices) Keep(ctx context.Context, pool *pgxpool.Pool) {
	for ctx.Err() == nil {
		wait := time.Second
		var raw []byte
		prices := map[string]Price{}
		err := db.Row(ctx, pool, "select private.current_prices()", nil, &raw)
		if err == nil && json.Unmarshal(raw, &prices) == nil {
			p.Set(prices)
			wait = priceAge
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// Set replaces the prices.
func (p *Prices) Set(prices map[string]Price) { p.now.Store(&prices) }

// cost gives the cost of tokens in millionths of a cent.
func (p *Prices) cost(model string, u Usage) (input, output int64, ok bool) {
	if p == nil || p.now.Load() == nil {
		return 0, 0, false
	}
	prices := *p.now.Load()
	price, ok := prices[model]
	if !ok {
		price, ok = prices[""]
	}
	// At most 2^30 tokens of at most 10^8 cents a million: no overflow.
	return u.Input * price.InputCents, u.Output * price.OutputCents, ok
}
