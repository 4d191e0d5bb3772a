package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// MaxPassword is the longest password in characters, at sign-up as at login.
const MaxPassword = 128

// The parameters are OWASP's first choice for argon2id: 19 MiB, two passes, one
// lane. About 25 ms on a server core.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	saltBytes   = 16
	keyBytes    = 32
)

// Limits for stored hashes, which may have come from an import.
const (
	maxArgonMemory = 128 << 10 // KiB
	maxArgonTime   = 16
	maxArgonLanes  = 16
	maxSaltOrKey   = 128
)

// waitingPerSlot bounds the queue: at 25 ms a hash no sign-in waits longer than
// about a second, and a flood is refused instead of queued.
const waitingPerSlot = 32

var (
	errHash = errors.New("not an argon2id hash")
	b64     = base64.RawStdEncoding.Strict()
)

// Hasher hashes and checks passwords with argon2id. It limits how many run at a
// time, so that a flood of sign-ins cannot use up the memory: slots times 19 MiB.
type Hasher struct {
	slots   chan struct{}
	waiting atomic.Int64
	// decoy is checked when there is no hash, so that it takes the same time.
	decoy string
}

// NewHasher allows that many hashes (slots) at a time; 0 means one for each CPU.
func NewHasher(slots int) (*Hasher, error) {
	if slots <= 0 {
		slots = runtime.GOMAXPROCS(0)
	}
	noise := make([]byte, saltBytes+keyBytes)
	if _, err := rand.Read(noise); err != nil {
		return nil, fmt.Errorf("prepare the password hasher: %w", err)
	}
	return &Hasher{
		slots: make(chan struct{}, slots),
		decoy: current.encode(noise[:saltBytes], noise[saltBytes:]),
	}, nil
}

// Hash returns the PHC string of a password, for example
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<key>. It fails with ErrBusy or when ctx
// ends before a slot is free.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	if err := h.enter(ctx); err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	defer h.leave()
	return current.encode(salt, current.key(password, salt, keyBytes)), nil
}

// Check compares a password with a stored PHC string, in constant time. phc is ""
// for an unknown account or one without password: that takes as long and is never
// ok. stale reports that a matching password should be hashed again, because the
// parameters have changed. Errors: ErrBusy, the end of ctx, a corrupt hash.
func (h *Hasher) Check(ctx context.Context, phc, password string) (ok, stale bool, err error) {
	if err := h.enter(ctx); err != nil {
		return false, false, fmt.Errorf("check a password: %w", err)
	}
	defer h.leave()
	stored := phc
	if phc == "" {
		stored = h.decoy
	}
	cost, salt, key, err := decodePHC(stored)
	if err != nil {
		return false, false, fmt.Errorf("check a password: %w", err)
	}
	same := subtle.ConstantTimeCompare(key, cost.key(password, salt, uint32(len(key)))) == 1
	ok = same && phc != ""
	return ok, ok && (cost != current || len(key) != keyBytes), nil
}

// enter waits for a slot, in a queue of bounded length.
func (h *Hasher) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > int64(cap(h.slots)*waitingPerSlot) {
		return ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hasher) leave() { <-h.slots }

// cost holds the parameters of argon2id.
type cost struct {
	memory, time uint32
	lanes        uint8
}

var current = cost{argonMemory, argonTime, argonLanes}

// key derives the key. Composed and decomposed letters are the same password: the
// keyboard determines which of them arrives.
func (c cost) key(password string, salt []byte, length uint32) []byte {
	return argon2.IDKey([]byte(norm.NFC.String(password)), salt, c.time, c.memory, c.lanes, length)
}

func (c cost) encode(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, c.memory, c.time, c.lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decodePHC refuses parameters that would make a check too expensive.
func decodePHC(phc string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return c, nil, nil, errHash
	}
	memory, passes, lanes, err := decodeCost(parts[3])
	if err != nil {
		return c, nil, nil, err
	}
	salt, err1 := b64.DecodeString(parts[4])
	key, err2 := b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) < 16 || len(salt) > maxSaltOrKey || len(key) > maxSaltOrKey {
		return c, nil, nil, fmt.Errorf("%w: salt or key", errHash)
	}
	return cost{uint32(memory), uint32(passes), uint8(lanes)}, salt, key, nil
}

// decodeCost reads m=…,t=…,p=….
func decodeCost(s string) (memory, passes, lanes uint64, err error) {
	limits := []struct {
		prefix   string
		low, top uint64
		value    *uint64
	}{{"m=", 8, maxArgonMemory, &memory}, {"t=", 1, maxArgonTime, &passes}, {"p=", 1, maxArgonLanes, &lanes}}
	fields := strings.Split(s, ",")
	if len(fields) != len(limits) {
		return 0, 0, 0, fmt.Errorf("%w: parameters", errHash)
	}
	for i, l := range limits {
		digits, ok := strings.CutPrefix(fields[i], l.prefix)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n < l.low || n > l.top {
			return 0, 0, 0, fmt.Errorf("%w: parameter %d", errHash, i+1)
		}
		*l.value = n
	}
	return memory, passes, lanes, nil
}
