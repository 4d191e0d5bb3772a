package executions

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/realtime"
	"kijko/worker/llm"
)

// answers replaces the database's query for ended runs.
type answers struct {
	mu    sync.Mutex
	ended map[string]bool
	asked int
	err   error
}

func (a *answers) Run(_ context.Context, r *api.Request) (api.Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	var p struct{ IDs []string }
	if err := json.Unmarshal(r.Args[0].([]byte), &p); err != nil {
		return api.Answer{}, err
	}
	ended := []string{}
	for _, id := range p.IDs {
		if a.ended[id] {
			ended = append(ended, id)
		}
	}
	raw, err := json.Marshal(ended)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Body: raw}, a.err
}

func (a *answers) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended[id] = true
}

func (a *answers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

type nobody struct{}

func (nobody) For(string) (llm.Provider, error) { return nil, errors.New("nobody") }

func feature(t *testing.T, a *answers, change func(*Settings)) *Feature {
	t.Helper()
	s := Settings{Exec: a, Providers: nobody{}, Ask: time.Millisecond}
	if change != nil {
		change(&s)
	}
	f, err := New(s)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestEndsAreFoundByAskingWhereNothingIsHeard(t *testing.T) {
	a := &answers{ended: map[string]bool{}}
	f := feature(t, a, nil)
	one, two := f.waits.listen("anna"), f.waits.listen("anna")
	one.follow("1", false)
	two.follow("2", false)
	require.Eventually(t, func() bool { return a.count() > 2 }, 5*time.Second, time.Millisecond)
	a.end("1")
	require.True(t, one.await(t.Context()))
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.False(t, two.await(short), "the other one goes on")
	one.close()
	two.close()
	require.Eventually(t, func() bool {
		f.waits.mu.Lock()
		defer f.waits.mu.Unlock()
		return !f.waits.keeping
	}, 5*time.Second, time.Millisecond, "nobody waits, so nobody asks")
	asked := a.count()
	time.Sleep(10 * time.Millisecond)
	require.Equal(t, asked, a.count())
	a.end("3")
	three := f.waits.listen("boris")
	three.follow("3", false)
	require.True(t, three.await(t.Context()), "until somebody waits again")
	three.close()
}

func TestWhatHasEndedLongAgoIsAskedForAtOnce(t *testing.T) {
	a := &answers{ended: map[string]bool{"1": true}}
	f := feature(t, a, func(s *Settings) { s.Ask = time.Hour })
	e := f.waits.listen("anna")
	e.follow("1", true)
	require.True(t, e.await(t.Context()))
	e.close()
}

func TestWhatIsToldBeforeTheIdIsKnownIsHeard(t *testing.T) {
	a := &answers{ended: map[string]bool{}}
	var tell func(realtime.Event)
	stopped := false
	f := feature(t, a, func(s *Settings) {
		s.Ask = time.Hour
		s.Watch = func(room string, hear func(realtime.Event)) func() {
			require.Equal(t, "user:anna", room)
			tell = hear
			return func() { stopped = true }
		}
	})
	e := f.waits.listen("anna")
	event := func(kind, data string) { tell(realtime.Event{Type: kind, Data: []byte(data)}) }
	event("notification", `{}`)
	event("execution_update", `{"executionId": "2", "status": "completed"}`)
	event("execution_update", `{"executionId": "1", "status": "running"}`)
	event("execution_output", `{"executionId": "1", "seq": 0, "chunk": "one"}`)
	event("execution_update", `no JSON`)
	e.follow("1", false)
	event("execution_output", `{"executionId": "1", "seq": 1, "chunk": "two"}`)
	chunks, running, ended := e.take()
	require.Equal(t, []chunk{{0, "one"}, {1, "two"}}, chunks)
	require.True(t, running)
	require.False(t, ended)
	event("execution_update", `{"executionId": "1", "status": "failed"}`)
	require.True(t, e.await(t.Context()))
	e.close()
	require.True(t, stopped)
	for range maxEarly + 10 {
		event("execution_update", `{"executionId": "3", "status": "running"}`)
	}
}

func TestAServerThatStopsLetsNobodyWait(t *testing.T) {
	a := &answers{ended: map[string]bool{}, err: errors.New("the database is away")}
	f := feature(t, a, nil)
	e := f.waits.listen("anna")
	e.follow("1", true)
	require.Eventually(t, func() bool { return a.count() > 2 }, 5*time.Second, time.Millisecond, "it is asked again")
	f.Drain()
	require.False(t, e.await(t.Context()))
	late := f.waits.listen("anna")
	late.follow("2", true)
	require.False(t, late.await(t.Context()))
	late.close()
	e.close()
}

func TestSettingsNeedTheirParts(t *testing.T) {
	_, err := New(Settings{})
	require.Error(t, err)
}

func TestTestsAreBoundedInNumber(t *testing.T) {
	f := feature(t, &answers{}, nil)
	for range testsAtOnce {
		f.Tester().places <- struct{}{}
	}
	_, err := f.Tester().Run(t.Context(), Test{}, nil)
	var p *api.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, 503, p.Status)
}
