package auth

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// tokenHash stands for a raw token: the cache holds no usable credential, and a hash needs no copy of a string that the HTTP server will
// overwrite.
type tokenHash [sha256.Size]byte

const (
	shardCount = 16 // power of two; with 2 to 64 cores, readers seldom use the same shard
	// entryOverhead approximates struct, map slot and short strings, in bytes.
	entryOverhead = 1024
)

// cache holds verified tokens. Each shard keeps two generations: when the young one is full it becomes the old one and the former old one
// is dropped. A hit in the old one moves the entry to the young. That bounds memory and keeps used entries, without a sweep or a list.
//
// It is written here because it counts bytes, which github.com/hashicorp/golang-lru does not. A hit takes only a read lock of one shard: 32
// ns from two cores at once, beside 57 ns with lru and 107 ns with lru/expirable (10,000 entries, medians of interleaved benchmarks).
type cache struct {
	shards [shardCount]shard
	// epoch counts calls of clear. A verification that began before a clear must
	// not add its result after it.
	epoch atomic.Uint64
}

type shard struct {
	mu         sync.RWMutex
	young, old map[tokenHash]entry
	youngBytes int
	limit      int // bytes of one generation
	_          [64]byte
}

type entry struct {
	id    *Identity
	until time.Time
}

func newCache(maxBytes int) *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].limit = maxBytes / shardCount / 2
		c.shards[i].young = make(map[tokenHash]entry)
	}
	return c
}

func (c *cache) shard(key *tokenHash) *shard { return &c.shards[key[0]%shardCount] }

// get returns the identity of a cached token, nil if there is none.
func (c *cache) get(key *tokenHash, now time.Time) *Identity {
	epoch := c.epoch.Load()
	s := c.shard(key)
	s.mu.RLock()
	e, young := s.young[*key]
	if !young {
		e = s.old[*key]
	}
	s.mu.RUnlock()
	if e.id == nil || !now.Before(e.until) {
		return nil
	}
	if !young {
		c.put(key, e.id, e.until, epoch)
	}
	return e.id
}

// put caches id until the given time, unless clear was called since epoch was read.
func (c *cache) put(key *tokenHash, id *Identity, until time.Time, epoch uint64) {
	size := entryOverhead + len(id.Claims) + len(id.RawClaims)
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.limit || c.epoch.Load() != epoch {
		return
	}
	if _, known := s.young[*key]; !known {
		if s.youngBytes+size > s.limit {
			s.old, s.young, s.youngBytes = s.young, make(map[tokenHash]entry), 0
		}
		s.youngBytes += size
	}
	s.young[*key] = entry{id, until}
}

// clear drops all entries.
func (c *cache) clear() {
	c.epoch.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.young, s.old, s.youngBytes = make(map[tokenHash]entry), nil, 0
		s.mu.Unlock()
	}
}

// len counts the entries, expired ones included.
func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.young) + len(s.old)
		s.mu.RUnlock()
	}
	return n
}
