//go:build peers

package metering

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
)

// The official SDK's events reach the double, so the double takes what OpenMeter takes; and ours have each member that the SDK sends.
func TestOurEventsAreThoseOfTheSDKOfOpenMeter(t *testing.T) {
	l := newLab(t)
	l.consume("ingestions", 1)
	require.NoError(t, l.send.Run(t.Context()))
	ours := l.meter.received()
	peers.SendBySDK(t, "openmeter", l.meter.url)
	all := l.meter.received()
	theirs := all[len(ours)]
	require.Equal(t, []int{204, 204}, []int{ours[0].status, theirs.status})
	for _, name := range []string{"Content-Type", "Authorization"} {
		require.Equal(t, theirs.header.Get(name), ours[0].header.Get(name))
	}
	require.Equal(t, []float64{1, -1}, []float64{theirs.events[0].value(t).Value, theirs.events[1].value(t).Value})
	members := func(e event) (names []string) {
		raw, err := json.Marshal(e)
		require.NoError(t, err)
		var all map[string]any
		require.NoError(t, json.Unmarshal(raw, &all))
		for name, value := range all {
			if value != nil && value != "" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	for _, name := range members(theirs.events[0]) {
		require.Contains(t, members(ours[0].events[0]), name)
	}
}
