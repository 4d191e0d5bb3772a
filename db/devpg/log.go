package devpg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// logLimit is the size from which the server's log is put aside, at a start and while it runs.
const logLimit = 16 << 20

// logLook is how often the log's size is looked at.
const logLook = 10 * time.Second

// tendLog keeps the log of a kept cluster within bounds for as long as this process has it. The returned function ends that.
func (c *Cluster) tendLog(every time.Duration) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if err := c.trimLog(); err != nil {
					c.log.Warn("the database's log could not be put aside", "error", err)
				}
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		group.Wait()
	})
}

// trimLog copies a log that has grown too long and empties it. Renaming would not work: the server
// goes on writing at the end of the file that it was started with. A line that is written between
// the two steps is lost.
func (c *Cluster) trimLog() (err error) {
	name := c.place.logFile()
	info, err := os.Stat(name)
	if err != nil || info.Size() <= logLimit {
		return err
	}
	from, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open the database's log: %w", err)
	}
	defer from.Close() //nolint:errcheck // only read
	to, err := os.OpenFile(name+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("put the database's log aside: %w", err)
	}
	// The newest part, should it have grown far beyond the limit within one look.
	if _, err := from.Seek(info.Size()-logLimit, io.SeekStart); err != nil {
		return errors.Join(err, to.Close())
	}
	_, err = io.CopyN(to, from, logLimit)
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("put the database's log aside: %w", err)
	}
	return os.Truncate(name, 0)
}
