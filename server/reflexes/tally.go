package reflexes

import (
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/time/rate"
)

// talliesKept bounds the memory of a tally: with very many keys the oldest ones start again at zero. This allows more attempts and never
// refuses any wrongly.
const talliesKept = 50_000

// tally counts a limited number of a key's attempts per minute in this process.
type tally struct {
	perMinute int
	keys      *expirable.LRU[string, *rate.Limiter]
}

func newTally(perMinute int) *tally {
	return &tally{perMinute: perMinute, keys: expirable.NewLRU[string, *rate.Limiter](talliesKept, nil, 2*time.Minute)}
}

// spent reports whether the key has no attempts left.
func (t *tally) spent(key string) bool {
	bucket, ok := t.keys.Get(key)
	return ok && bucket.Tokens() < 1
}

// take counts an attempt, if the key has one left.
func (t *tally) take(key string) bool {
	bucket, ok := t.keys.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Every(time.Minute/time.Duration(t.perMinute)), t.perMinute)
		t.keys.Add(strings.Clone(key), bucket)
	}
	return bucket.Allow()
}
