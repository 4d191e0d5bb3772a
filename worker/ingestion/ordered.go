package ingestion

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// ordered makes items 0 to n-1 in up to workers goroutines and passes them to take in order, on the calling goroutine. At most
// twice as many items as workers exist at once. The first error ends it.
func ordered[T any](ctx context.Context, n, workers int, make_ func(ctx context.Context, i int) (T, error), take func(i int, v T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	type slot struct {
		i    int
		done chan T
	}
	work := make(chan slot)
	queue := make(chan slot, workers)
	group.Go(func() error {
		defer close(work)
		defer close(queue)
		for i := range n {
			s := slot{i, make(chan T, 1)}
			select {
			case queue <- s:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case work <- s:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for s := range work {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				v, err := make_(ctx, s.i)
				if err != nil {
					return err
				}
				s.done <- v
			}
			return nil
		})
	}
	group.Go(func() error {
		for s := range queue {
			select {
			case v := <-s.done:
				if err := take(s.i, v); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return group.Wait()
}

// each processes items 0 to n-1 in up to workers goroutines, in any order. The first error ends it.
func each(ctx context.Context, n, workers int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := range n {
			select {
			case next <- i:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for i := range next {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
