package keys

import (
	"context"
	"strings"
	"time"

	"kijko/server/api"
)

const (
	// maxPending bounds the stored uses of keys while the database is unavailable, and maxRefused the refusals of expired keys.
	maxPending = 1 << 16
	maxRefused = 10_000
	// maxRefusedOf is how many refusals of one key are recorded individually between two flushes. Further ones add no information.
	maxRefusedOf = 50
)

// use is the activity of a key since the last flush, or one refusal.
type use struct {
	KeyID     string     `json:"keyId"`
	Count     int64      `json:"count,omitempty"`
	At        float64    `json:"at"` // seconds
	ClientIP  string     `json:"clientIp"`
	UserAgent string     `json:"userAgent"`
	Device    api.Device `json:"device"`
}

// from records the device. The text is cloned, since the server will overwrite its memory.
func (u use) from(userAgent string) use {
	u.Device = api.ParseDevice(strings.Clone(userAgent))
	u.UserAgent = u.Device.UserAgent
	return u
}

// Used implements api.Keys.
func (k *Keys) Used(caller *api.Caller, clientIP, userAgent string) {
	now := seconds(time.Now())
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.uses[caller.Key.ID]
	if u == nil {
		if len(k.uses) >= maxPending {
			return
		}
		u = new(use{KeyID: caller.Key.ID, ClientIP: clientIP}.from(userAgent))
		k.uses[caller.Key.ID] = u
	}
	u.Count, u.At = u.Count+1, now
}

// Expired implements api.Keys.
func (k *Keys) Expired(caller *api.Caller, clientIP, userAgent string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := 0
	for _, r := range k.refused {
		if r.KeyID == caller.Key.ID {
			of++
		}
	}
	if len(k.refused) < maxRefused && of < maxRefusedOf {
		k.refused = append(k.refused, use{KeyID: caller.Key.ID, At: seconds(time.Now()), ClientIP: clientIP}.from(userAgent))
	}
}

func seconds(at time.Time) float64 { return float64(at.UnixMicro()) / 1e6 }

// writeUses writes the collected entries. Entries that could not be written are kept for the next time.
func (k *Keys) writeUses(ctx context.Context) {
	k.mu.Lock()
	taken, refused := k.uses, k.refused
	k.uses, k.refused = map[string]*use{}, nil
	k.mu.Unlock()
	if len(taken) == 0 && len(refused) == 0 {
		return
	}
	uses := make([]*use, 0, len(taken))
	for _, u := range taken {
		uses = append(uses, u)
	}
	if refused == nil {
		refused = []use{}
	}
	_, err := k.server(ctx, "record_key_uses", map[string]any{"uses": uses, "refused": refused}, "", false)
	if err == nil {
		return
	}
	k.log.Warn("uses of API keys were not written; they are tried again", "keys", len(uses), "error", err)
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, u := range taken {
		if later := k.uses[id]; later != nil {
			later.Count += u.Count
		} else if len(k.uses) < maxPending {
			k.uses[id] = u
		}
	}
	if len(k.refused)+len(refused) <= maxRefused {
		k.refused = append(k.refused, refused...)
	}
}
