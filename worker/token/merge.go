package token

import "slices"

// scanLimit is the piece length up to which searching for the lowest rank from the left is faster than keeping a heap.
const scanLimit = 64

// merge returns the number of tokens of one piece: pairs of neighbors with the lowest rank are joined, leftmost first,
// until no pair is a token.
func (b *scratch) merge(s string) int {
	if len(s) <= scanLimit {
		return b.mergeScan(s)
	}
	return b.mergeHeap(s)
}

func (b *scratch) mergeScan(s string) int {
	var ends [scanLimit + 1]int32 // ends[i] is where part i begins; one more for the end
	var rank [scanLimit + 1]uint32
	n := len(s)
	for i := range n {
		ends[i] = int32(i)
		rank[i] = none
		if i+2 <= n {
			rank[i] = b.v.rank(s, i, i+2)
		}
	}
	ends[n] = int32(n)
	for n > 1 {
		low, at := uint32(none), 0
		for i := range n - 1 {
			if rank[i] < low {
				low, at = rank[i], i
			}
		}
		if low == none {
			break
		}
		copy(ends[at+1:n], ends[at+2:n+1])
		copy(rank[at+1:n-1], rank[at+2:n])
		n--
		rank[at] = none
		if at+1 < n {
			rank[at] = b.v.rank(s, int(ends[at]), int(ends[at+2]))
		}
		if at > 0 {
			rank[at-1] = b.v.rank(s, int(ends[at-1]), int(ends[at+1]))
		}
	}
	return n
}

// node is a part in mergeHeap's linked list; rank is that of the part joined with the next one.
type node struct {
	prev, next int32
	rank       uint32
}

// mergeHeap does the same as mergeScan in O(n log n) time and 20 bytes of memory per byte of s.
func (b *scratch) mergeHeap(s string) int {
	n := len(s)
	b.nodes = slices.Grow(b.nodes[:0], n+1)[:n+1]
	nodes := b.nodes
	heap := b.heap[:0]
	for i := range nodes {
		nodes[i] = node{int32(i) - 1, int32(i) + 1, none}
		if i+2 <= n {
			if r := b.v.rank(s, i, i+2); r != none {
				nodes[i].rank = r
				heap = append(heap, uint64(r)<<32|uint64(i))
			}
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	count := n
	for len(heap) > 0 {
		top := heap[0]
		last := len(heap) - 1
		heap[0] = heap[last]
		heap = heap[:last]
		sink(heap, 0)
		i := int32(uint32(top))
		if nodes[i].rank != uint32(top>>32) || nodes[i].rank == none {
			continue // joined or changed since
		}
		j := nodes[i].next
		k := nodes[j].next
		nodes[j].rank = none
		nodes[i].next = k
		nodes[k].prev = i
		count--
		for _, p := range [2]int32{i, nodes[i].prev} {
			if p < 0 {
				continue
			}
			nodes[p].rank = none
			m := nodes[p].next
			if int(m) >= n {
				continue
			}
			if r := b.v.rank(s, int(p), int(nodes[m].next)); r != none {
				nodes[p].rank = r
				heap = append(heap, uint64(r)<<32|uint64(p))
				rise(heap, len(heap)-1)
			}
		}
	}
	b.heap = heap[:0]
	return count
}

func rise(h []uint64, i int) {
	for i > 0 {
		p := (i - 1) / 2
		if h[i] >= h[p] {
			return
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
}

func sink(h []uint64, i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if h[i] <= h[c] {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
