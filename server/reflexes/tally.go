package reflexes

import (
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/time/rate"
)

// talliesKept bounds the memory of a tally: of very many keys the ones that were made first start over, which lets more through and never
// keeps anything out.
const talliesKept = 50_000

// tally counts up to so many of a key's attempts a minute in this process.
type tally struct {
	perMinute int
	keys      *expirable.LRU[string, *rate.Limiter]
}

func newTally(perMinute int) *tally {
	return &tally{perMinute: perMinute, keys: expirable.NewLRU[string, *rate.Limiter](talliesKept, nil, 2*time.Minute)}
}

// spent says whether the key has none left.
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
