package graph

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/graph"
)

func TestADensePictureHidesNoNode(t *testing.T) {
	const n = 150
	nodes := make([]graph.NodeRow, n)
	var links [][2]int
	for i := range nodes {
		nodes[i] = graph.NodeRow{ID: fmt.Sprint(i), Type: "file", References: 10 * i}
		// A hub, many links in its neighborhood, and a third without any link.
		if i > 0 && i < 100 {
			links = append(links, [2]int{0, i}, [2]int{i, i * 7 % 100}, [2]int{i, i * 13 % 100})
		}
	}
	at := layout(n, links)
	part(at, nodes)
	for i := range at {
		require.True(t, at[i].x >= 20 && at[i].x <= side-20 && at[i].y >= 20 && at[i].y <= side-50, "node %d is at %v", i, at[i])
		for j := range i {
			require.Greater(t, math.Hypot(at[i].x-at[j].x, at[i].y-at[j].y), radius(nodes[i])+radius(nodes[j]), "nodes %d and %d", i, j)
		}
	}
}
