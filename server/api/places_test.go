package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// user and org name accounts.
func user(id string) accountKey { return accountKey{'u', id} }
func org(id string) accountKey  { return accountKey{'o', id} }

// crowd is a set of callers of places, in the time of a synctest bubble.
type crowd struct {
	*testing.T
	*places
	ctx   context.Context
	mu    sync.Mutex
	held  map[string]time.Duration // slot time by user
	waits map[string][]time.Duration
	group sync.WaitGroup
}

func newCrowd(t *testing.T, size, reads int) *crowd {
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{T: t, places: newPlaces(size, reads), ctx: ctx, held: map[string]time.Duration{}, waits: map[string][]time.Duration{}}
	t.Cleanup(func() {
		cancel()
		c.group.Wait()
		c.empty()
	})
	return c
}

// call is one call that holds its slot for a time.
func (c *crowd) call(person, organization accountKey, sql string, kind int, took time.Duration) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, acquire[kind])
	defer cancel()
	place, err := c.take(ctx, person, organization, sql, kind)
	if err != nil {
		return err
	}
	waited := time.Since(began)
	time.Sleep(took)
	c.leave(place, true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[person.id] += took
	c.waits[person.id] = append(c.waits[person.id], waited)
	return nil
}

// loop runs n goroutines that call in an endless loop.
func (c *crowd) loop(n int, person, organization accountKey, sql string, kind int, took time.Duration) {
	for range n {
		c.group.Go(func() {
			for c.ctx.Err() == nil {
				if c.call(person, organization, sql, kind, took) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
}

// shares runs for a while and returns the slot time of each user's calls.
func (c *crowd) shares(d time.Duration) map[string]time.Duration {
	c.mu.Lock()
	clear(c.held)
	c.mu.Unlock()
	time.Sleep(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]time.Duration{}
	for person, held := range c.held {
		out[person] = held
	}
	return out
}

// waited returns the median and the longest wait of a user's calls.
func (c *crowd) waited(person string) (median, longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Sorted(slices.Values(c.waits[person]))
	require.NotEmpty(c, all, person)
	return all[len(all)/2], all[len(all)-1]
}

// empty checks that no call has left any state behind.
func (c *crowd) empty() {
	c.places.mu.Lock()
	defer c.places.mu.Unlock()
	require.Zero(c, c.waiting)
	total := c.free
	for _, k := range c.kinds {
		require.Empty(c, k.running)
		require.Empty(c, k.lines)
		require.Equal(c, [grades]int{}, k.count)
	}
	for _, period := range c.accounts {
		for key, a := range period {
			require.Zero(c, a.calls, key)
			require.Zero(c, a.waiting, key)
			require.Equal(c, [2][grades]int{}, a.running, key)
		}
	}
	require.Positive(c, total)
}

func TestPlacesKeepTenantsApart(t *testing.T) {
	const page, list, me = "select api.list_skills($1)", "select api.list_projects($1)", "select api.get_me($1)"

	bubble := func(name string, test func(t *testing.T)) { t.Run(name, func(t *testing.T) { synctest.Test(t, test) }) }

	bubble("AQuickReadDoesNotWaitForAnothersSlowOnes", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		c.loop(24, user("hog"), org("hog"), page, kindRead, 40*time.Millisecond)
		c.loop(1, user("other"), org("other"), list, kindRead, time.Millisecond)
		time.Sleep(5 * time.Second)
		median, longest := c.waited("other")
		require.Zero(t, median)
		require.LessOrEqual(t, longest, 40*time.Millisecond)
	})
	bubble("NorForThoseOfOneOperationOfHisOwn", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		c.loop(24, user("one"), org("one"), page, kindRead, 40*time.Millisecond)
		c.loop(1, user("one"), org("one"), me, kindRead, time.Millisecond)
		time.Sleep(5 * time.Second)
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Greater(t, len(c.waits["one"]), 2000, "the quick ones are nearly all")
	})
	bubble("ASlowReadDoesNotWaitForAllOfAnothersSlowOnes", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		c.loop(24, user("hog"), org("hog"), page, kindRead, 40*time.Millisecond)
		c.loop(1, user("other"), org("other"), page, kindRead, 40*time.Millisecond)
		time.Sleep(5 * time.Second)
		median, _ := c.waited("other")
		require.LessOrEqual(t, median, 20*time.Millisecond)
	})
	bubble("NorForSlowOnesOfEverNewOperationsAndOrganizations", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		for i := range 24 {
			c.group.Go(func() {
				for n := 0; c.ctx.Err() == nil; n++ {
					_ = c.call(user("hog"), org(fmt.Sprint("hog", i, n)), fmt.Sprint(page, i, n), kindRead, 40*time.Millisecond)
				}
			})
		}
		c.loop(1, user("other"), org("other"), list, kindRead, time.Millisecond)
		time.Sleep(5 * time.Second)
		median, longest := c.waited("other")
		require.Zero(t, median)
		require.LessOrEqual(t, longest, 40*time.Millisecond)
	})
	bubble("TimeIsSharedAndNotCalls", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		c.loop(16, user("brief"), org("brief"), list, kindRead, time.Millisecond)
		c.loop(16, user("long"), org("long"), page, kindRead, 8*time.Millisecond)
		held := c.shares(5 * time.Second)
		require.InEpsilon(t, held["brief"], held["long"], 0.05)
	})
	bubble("ManyOrganizationsOfAPersonAreOneShare", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		for i := range 20 {
			c.loop(4, user("many"), org(fmt.Sprint("many", i)), list, kindRead, 2*time.Millisecond)
		}
		c.loop(8, user("other"), org("other"), list, kindRead, 2*time.Millisecond)
		held := c.shares(5 * time.Second)
		require.InEpsilon(t, held["many"], held["other"], 0.05)
	})
	bubble("ManyPeopleOfAnOrganizationAreOneShare", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		for i := range 20 {
			c.loop(4, user(fmt.Sprint("colleague", i)), org("many"), list, kindRead, 2*time.Millisecond)
		}
		c.loop(8, user("other"), org("other"), list, kindRead, 2*time.Millisecond)
		held := c.shares(5 * time.Second)
		other := held["other"]
		var most, least, all time.Duration
		for person, d := range held {
			if person != "other" {
				most, all = max(most, d), all+d
				if least == 0 || d < least {
					least = d
				}
			}
		}
		require.InEpsilon(t, all, other, 0.05)
		require.InEpsilon(t, most, least, 0.2, "and they share it among themselves")
	})
	bubble("AnAloneOneHasAllPlacesHoweverFarTheDatabaseIs", func(t *testing.T) {
		for _, took := range []time.Duration{time.Millisecond, 60 * time.Millisecond} {
			c := newCrowd(t, 16, 4)
			c.loop(24, user("alone"), org("alone"), list, kindRead, took)
			time.Sleep(30 * time.Second)
			require.InEpsilon(t, 40*time.Second, c.shares(10 * time.Second)["alone"], 0.02, took)
		}
	})
	bubble("NorDoesATenantAloneLoseByCallsThatAreSlowNowAndThen", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		for i := range 24 {
			c.loop(1, user(fmt.Sprint("colleague", i%5)), org("alone"), list, kindRead, time.Duration(1+i)*2*time.Millisecond)
		}
		time.Sleep(time.Second)
		var held time.Duration
		for _, d := range c.shares(10 * time.Second) {
			held += d
		}
		require.InEpsilon(t, 40*time.Second, held, 0.02)
	})
	bubble("WhatHangsOnATableDoesNotHoldUpWhatDoesNot", func(t *testing.T) {
		for name, people := range map[string]int{"of one person": 1, "of forty people": 40} {
			for _, kind := range []int{kindRead, kindWrite} {
				c := newCrowd(t, 16, 4)
				refused := make(chan time.Duration, 40)
				for i := range 40 {
					c.group.Go(func() {
						began := time.Now()
						who := fmt.Sprint("asks", i%people)
						_ = c.call(user(who), org(who), list, kind, 800*time.Millisecond)
						refused <- time.Since(began)
					})
				}
				synctest.Wait()
				began := time.Now()
				require.NoError(t, c.call(user("asks0"), org("asks0"), me, kindRead, time.Millisecond))
				require.NoError(t, c.call(user("asks0"), org("asks0"), me+"2", kindWrite, time.Millisecond))
				require.LessOrEqual(t, time.Since(began), 150*time.Millisecond, name)
				for range 40 {
					require.LessOrEqual(t, <-refused, 3*time.Second+800*time.Millisecond*time.Duration(kind), name)
				}
			}
		}
	})
	bubble("WritesThatHangLeaveReadsTheirConnections", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		for i := range 60 {
			c.loop(1, user(fmt.Sprint("writer", i)), org(fmt.Sprint("writer", i)), fmt.Sprint("write", i), kindWrite, 5*time.Second)
		}
		synctest.Wait()
		began := time.Now()
		require.NoError(t, c.call(user("reader"), org("reader"), list, kindRead, time.Millisecond))
		require.Equal(t, time.Millisecond, time.Since(began))
	})
	bubble("WhatAPersonTookIsForgottenSoon", func(t *testing.T) {
		c := newCrowd(t, 16, 4)
		require.NoError(t, c.call(user("one"), org("one"), list, kindRead, time.Millisecond))
		require.NoError(t, c.call(user("one"), org("one"), page, kindRead, 300*time.Millisecond))
		require.Equal(t, slow, c.grade("one", page))
		time.Sleep(memory + time.Second)
		require.Equal(t, quick, c.grade("one", page))
		require.NoError(t, c.call(user("one"), org("one"), list, kindRead, time.Millisecond))
		for i := range 3 * maxAccounts {
			require.NoError(t, c.call(user(fmt.Sprint("u", i)), accountKey{}, list, kindRead, 0))
		}
		require.LessOrEqual(t, len(c.accounts[0])+len(c.accounts[1]), 2*maxAccounts+2)
		for i := range 100_000 {
			require.NoError(t, c.call(user("many"), accountKey{}, fmt.Sprint(i), kindRead, time.Millisecond))
		}
		require.LessOrEqual(t, len(c.accountOf(user("many")).lines), 30_000)
	})
}

// grade returns the expected grade of the next call of a user's line.
func (c *crowd) grade(person, sql string) int {
	c.places.mu.Lock()
	defer c.places.mu.Unlock()
	return c.gradeOf(c.lineOf(time.Now(), user(person), org(person), sql, kindRead))
}

func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1, 1)
		place, err := c.take(c.ctx, user("first"), accountKey{}, "", kindRead)
		require.NoError(t, err)
		wait := func(person string) chan error {
			done := make(chan error, 1)
			c.group.Go(func() { done <- c.call(user(person), accountKey{}, "", kindRead, 0) })
			synctest.Wait()
			return done
		}
		problem := func(err error) *Problem { return problemOf(err) }
		for i := range maxWaiting {
			wait(fmt.Sprint("many", i/maxWaitingOf))
		}
		refused := <-wait("many0")
		require.Equal(t, []any{503, "SERVICE_UNAVAILABLE", "1"}, []any{problem(refused).Status, problem(refused).Code, problem(refused).Header["Retry-After"]})
		welcome := wait("newcomer")
		require.Equal(t, maxWaiting, c.waiting, "a call of those who wait most has given way")
		c.leave(place, true)
		require.NoError(t, <-welcome)
	})
}

func TestAPlaceIsGivenBackHoweverACallEnds(t *testing.T) {
	t.Run("TheWaitHasAnEnd", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, 1, 1)
			place, err := c.take(c.ctx, user("one"), accountKey{}, "", kindRead)
			require.NoError(t, err)
			began := time.Now()
			require.Equal(t, 503, problemOf(c.call(user("two"), accountKey{}, "", kindWrite, 0)).Status)
			require.Equal(t, acquire[kindWrite], time.Since(began))
			c.leave(place, false)
			c.empty()
		})
	})
	// Grants, ends of calls and ends of waits at the same moments, in all orders that occur.
	t.Run("AnythingAtOnce", func(t *testing.T) {
		c := newCrowd(t, 8, 4)
		before := c.free
		var group sync.WaitGroup
		for i := range 64 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(300))*time.Microsecond)
					place, err := c.take(ctx, user(fmt.Sprint(i%7)), org(fmt.Sprint(i%3)), fmt.Sprint(random.IntN(5)), random.IntN(2))
					if err == nil {
						if random.IntN(4) == 0 {
							<-ctx.Done()
						}
						c.leave(place, random.IntN(2) == 0)
					}
					cancel()
				}
			})
		}
		group.Wait()
		require.Equal(t, before, c.free)
		c.empty()
	})
}
