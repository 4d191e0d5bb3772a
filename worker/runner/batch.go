package runner

import (
	"context"
	"time"
)

// takeMost is how many jobs one round trip takes. It is large enough that the cost of the trip per job is negligible. It is small enough
// that the transaction stays short and other workers get jobs too.
const takeMost = 50

// batch takes jobs of one batched type while slots are free.
func (r *Runner) batch(ctx context.Context, b Batch, wakeup <-chan struct{}) {
	free := make(chan struct{}, b.Slots)
	for range b.Slots {
		free <- struct{}{}
	}
	loop(ctx, wakeup, r.c.Poll, func() bool {
		n := collect(ctx, free)
		if n == 0 {
			return false
		}
		// A taken job is always worked, also at shutdown: its work sees that ctx has ended and hands its lease back.
		taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		works, seen, err := b.Take(taking, n)
		cancel()
		r.taken.Add(int64(seen))
		for range n - len(works) {
			free <- struct{}{}
		}
		for _, work := range works {
			go func() {
				defer func() { free <- struct{}{} }()
				if err := guarded(func() error { work(ctx); return nil }); err != nil {
					r.c.Log.Error("batched work failed", "type", b.Name, "error", err)
				}
			}()
		}
		if err != nil {
			r.c.Log.Error("queue cannot be read", "queue", b.Queue, "error", err)
			return false
		}
		return seen >= n
	})
	// Once this loop holds all slots, all work has come back.
	for range b.Slots {
		<-free
	}
}

// collect waits for one free slot and takes the other free slots, up to takeMost.
func collect(ctx context.Context, free <-chan struct{}) int {
	select {
	case <-free:
	case <-ctx.Done():
		return 0
	}
	n := 1
	for n < takeMost {
		select {
		case <-free:
			n++
		default:
			return n
		}
	}
	return n
}
