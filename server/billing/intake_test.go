package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/openapi"
)

// ledger stands for Postgres: it tells of each call, and answers when it is told to. A body with "bad" fails its call.
type ledger struct {
	calls  chan []string
	answer chan struct{}
}

func (l *ledger) TakeShared(context.Context, string, *openapi.Rate) (map[string]string, error) {
	return nil, nil
}

func (l *ledger) Run(_ context.Context, r *api.Request) (api.Answer, error) {
	var bodies []string
	var outcomes []outcome
	for i, b := range r.Args[0].([][]byte) {
		bodies = append(bodies, string(b))
		outcomes = append(outcomes, outcome{Status: "ok", EventType: string(b) + " of " + r.Args[2].([]string)[i]})
	}
	l.calls <- bodies
	<-l.answer
	if strings.Contains(strings.Join(bodies, ""), "bad") {
		return api.Answer{}, errors.New("a rule of the ledger")
	}
	raw, err := json.Marshal(outcomes)
	return api.Answer{Body: raw}, err
}

// begin takes deliveries of one lane one after the other: each is waiting, or being applied, when it returns.
func begin(t *testing.T, f *Feature, l *ledger, all ...*delivery) (done *sync.WaitGroup, first []string) {
	t.Helper()
	done = &sync.WaitGroup{}
	lane := &f.intake.lanes[0]
	for i, d := range all {
		d.done = make(chan struct{})
		lane.mu.Lock()
		lane.waiting = append(lane.waiting, d)
		lane.isBusy = true
		lane.mu.Unlock()
		if i == 0 {
			done.Go(func() { f.drain(lane) })
			first = <-l.calls
		}
		done.Go(func() { f.await(d) })
	}
	return done, first
}

func event(body, address string) *delivery {
	return &delivery{body: []byte(body), requestID: "request " + body, address: address}
}

func TestEventsThatComeMeanwhileShareACall(t *testing.T) {
	t.Parallel()
	l := &ledger{calls: make(chan []string), answer: make(chan struct{})}
	f := &Feature{Exec: l}
	all := []*delivery{event("a", "1"), event("b", "1"), event("c", "2"), event("d", "1")}
	done, first := begin(t, f, l, all...)
	require.Equal(t, []string{"a"}, first, "an event that finds the lane at rest goes at once")
	l.answer <- struct{}{}
	require.Equal(t, []string{"b", "d"}, <-l.calls, "those of one address go together")
	l.answer <- struct{}{}
	require.Equal(t, []string{"c"}, <-l.calls)
	l.answer <- struct{}{}
	done.Wait()
	for _, d := range all {
		require.NoError(t, d.err)
		require.Equal(t, string(d.body)+" of "+d.requestID, d.outcome.EventType, "each gets its own answer")
	}
	require.False(t, f.intake.lanes[0].isBusy)
}

func TestAnEventThatFailsTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	l := &ledger{calls: make(chan []string), answer: make(chan struct{})}
	f := &Feature{Exec: l}
	all := []*delivery{event("a", "1"), event("good", "1"), event("bad", "1"), event("fine", "1")}
	done, _ := begin(t, f, l, all...)
	l.answer <- struct{}{}
	require.Equal(t, []string{"good", "bad", "fine"}, <-l.calls)
	l.answer <- struct{}{}
	alone := map[string]bool{}
	for range 3 {
		call := <-l.calls
		require.Len(t, call, 1)
		alone[call[0]] = true
		l.answer <- struct{}{}
	}
	done.Wait()
	require.Len(t, alone, 3, "each goes by itself")
	for _, d := range all {
		if string(d.body) == "bad" {
			require.ErrorContains(t, d.err, "a rule of the ledger")
		} else {
			require.NoError(t, d.err, string(d.body))
		}
	}
}

func TestACallTakesABoundedNumberOfEvents(t *testing.T) {
	t.Parallel()
	l := &lane{}
	for i := range 40 {
		l.waiting = append(l.waiting, event(fmt.Sprint(i), "1"))
	}
	l.waiting[0].body = make([]byte, batchBytes)
	require.Len(t, l.next(), 1, "a large one goes alone")
	require.Len(t, l.next(), batchEvents)
	require.Len(t, l.next(), batchEvents)
	require.Len(t, l.next(), 39-2*batchEvents)
	require.Empty(t, l.next())
}

func TestTheCustomerOfAnEvent(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"data":{"object":{"id":"in_1","customer":"cus_a1"}}}`:                   "cus_a1",
		`{"data":{"object":{"customer": {"id" : "cus_b2","object":"customer"}}}}`: "cus_b2",
		`{"data":{"object":{"id":"pm_1","customer":null}}}`:                       "",
		`{"x":"cus_unended`: "cus_unended",
	} {
		require.Equal(t, want, string(customer([]byte(body))), body)
	}
}
