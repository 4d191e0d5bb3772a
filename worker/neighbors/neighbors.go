// Package neighbors opens the neighbors that the settings name. Server and worker both do: the server for its health check, the worker to
// send deliveries.
package neighbors

import (
	"fmt"
	"slices"

	"kijko/worker/cxdb"
	"kijko/worker/lightning"
	"kijko/worker/outbox"
	"kijko/worker/zulip"
)

// Names are all neighbors, configured or not.
var Names = []string{"zulip", "cxdb", "lightning"}

// Config is the operator's configuration. A neighbor without an address is off.
type Config struct {
	Zulip     zulip.Config
	CXDB      string
	Lightning string
	// Texts names the neighbors that may get texts of customers.
	Texts []string
}

// Open makes the configured neighbors, without a request.
func Open(c Config) (list []outbox.Neighbor, err error) {
	for _, name := range c.Texts {
		if !slices.Contains(Names, name) {
			return nil, fmt.Errorf("KIJKO_NEIGHBOR_TEXTS: there is no neighbor %q", name)
		}
	}
	z, err := zulip.New(c.Zulip)
	if err != nil {
		return nil, err
	}
	if z != nil {
		list = append(list, z)
	}
	x, err := cxdb.New(c.CXDB)
	if err != nil {
		return nil, err
	}
	if x != nil {
		list = append(list, x)
	}
	l, err := lightning.New(c.Lightning)
	if err != nil {
		return nil, err
	}
	if l != nil {
		list = append(list, l)
	}
	return list, nil
}

// Declaration is what the database has to know: the configured neighbors, and which of them may get texts.
func Declaration(c Config, list []outbox.Neighbor) map[string]any {
	declared := map[string]any{}
	for _, n := range list {
		declared[n.Name()] = map[string]bool{"texts": slices.Contains(c.Texts, n.Name())}
	}
	return declared
}
