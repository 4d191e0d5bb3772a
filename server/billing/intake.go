package billing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sync"

	"kijko/server/api"
)

const (
	// lanes is how many calls of Postgres take events at the same time. Events of one customer, which lock the same rows, keep to one of them.
	lanes = 2
	// batchEvents and batchBytes bound what one call takes.
	batchEvents = 16
	batchBytes  = 1 << 20
)

// delivery is an event on its way into Postgres.
type delivery struct {
	body               []byte
	requestID, address string
	outcome            outcome
	err                error
	// isAlone says that the event was not taken because another one of its call failed, or may have.
	isAlone bool
	done    chan struct{}
}

// intake hands the events that come while others are being applied to Postgres together: the round trip, the commit and the insert of a call
// are shared. An event that comes while a lane rests goes by itself, at once.
type intake struct {
	lanes [lanes]lane
}

type lane struct {
	mu      sync.Mutex
	waiting []*delivery
	isBusy  bool
}

var seed = maphash.MakeSeed()

// customer is what an event says of its customer first. It only decides which events go together.
func customer(body []byte) []byte {
	at := bytes.Index(body, []byte(`"cus_`))
	if at < 0 {
		return nil
	}
	name, _, _ := bytes.Cut(body[at+1:min(len(body), at+300)], []byte{'"'})
	return name
}

// take gives the event to Postgres and returns when it is taken or has failed.
func (f *Feature) take(d *delivery) {
	d.done = make(chan struct{})
	l := &f.intake.lanes[maphash.Bytes(seed, customer(d.body))%lanes]
	l.mu.Lock()
	l.waiting = append(l.waiting, d)
	leads := !l.isBusy
	l.isBusy = true
	l.mu.Unlock()
	if leads {
		go f.drain(l)
	}
	f.await(d)
}

func (f *Feature) await(d *delivery) {
	<-d.done
	if d.isAlone {
		f.apply([]*delivery{d})
	}
}

func (f *Feature) drain(l *lane) {
	for batch := l.next(); len(batch) > 0; batch = l.next() {
		f.apply(batch)
		for _, d := range batch {
			close(d.done)
		}
	}
}

// next takes events from the lane that came from one address, which is charged for the call. Without any the lane rests.
func (l *lane) next() (batch []*delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rest []*delivery
	size := 0
	for _, d := range l.waiting {
		if len(batch) > 0 && (d.address != batch[0].address || len(batch) == batchEvents || size+len(d.body) > batchBytes) {
			rest = append(rest, d)
			continue
		}
		batch, size = append(batch, d), size+len(d.body)
	}
	l.waiting, l.isBusy = rest, len(batch) > 0
	return batch
}

var takeEvents = api.ProcedureSQL("take_stripe_events($1, $2, $3)")

// apply has Postgres store and apply events in one transaction. If that fails for several, each is to try by itself.
func (f *Feature) apply(batch []*delivery) {
	ctx, cancel := context.WithTimeout(context.Background(), receiveTime)
	defer cancel()
	bodies, ids := make([][]byte, len(batch)), make([]string, len(batch))
	for i, d := range batch {
		bodies[i], ids[i] = d.body, d.requestID
	}
	var outcomes []outcome
	answer, err := f.Exec.Run(ctx, &api.Request{AsServer: true, SQL: takeEvents, Args: []any{bodies, f.IsLive, ids}, RequestID: batch[0].requestID, ClientIP: batch[0].address})
	if err == nil {
		err = json.Unmarshal(answer.Body, &outcomes)
	}
	if err == nil && len(outcomes) != len(batch) {
		err = fmt.Errorf("take_stripe_events answered %d of %d events", len(outcomes), len(batch))
	}
	for i, d := range batch {
		d.err, d.isAlone = err, err != nil && len(batch) > 1
		if err == nil {
			d.outcome = outcomes[i]
		}
	}
}
