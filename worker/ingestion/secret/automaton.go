package secret

// automaton finds all occurrences of a set of words, ignoring case, in one pass (Aho-Corasick with every transition precomputed). Bytes
// that occur in no word share one column, which keeps the table in the cache.
//
// It replaces github.com/BobuSumisu/aho-corasick, which gitleaks uses, because it reads source text 2 to 2.5 times as fast (365 against 133
// to 178 MB/s over this package's words, medians of interleaved benchmarks on two cores), and needs no lower-case copy of the text.
type automaton struct {
	column [256]uint8
	width  int
	next   []uint16 // state*width + column
	words  [][]int  // words that end in a state, by their index
	ends   []bool
	length []int
}

func newAutomaton(words []string) *automaton {
	a := &automaton{width: 1, length: make([]int, len(words))}
	for i, w := range words {
		a.length[i] = len(w)
		for j := range len(w) {
			if c := w[j]; a.column[c] == 0 {
				a.column[c] = uint8(a.width)
				a.width++
			}
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		a.column[c] = a.column[c|0x20]
	}
	a.state()
	for i, w := range words {
		s := 0
		for j := range len(w) {
			k := s*a.width + int(a.column[w[j]])
			if a.next[k] == 0 {
				a.next[k] = uint16(len(a.words))
				a.state()
			}
			s = int(a.next[k])
		}
		a.words[s] = append(a.words[s], i)
	}
	a.link()
	a.ends = make([]bool, len(a.words))
	for s := range a.words {
		a.ends[s] = len(a.words[s]) > 0
	}
	return a
}

func (a *automaton) state() {
	a.words = append(a.words, nil)
	a.next = append(a.next, make([]uint16, a.width)...)
}

// link fills in, breadth first, the transitions for bytes that do not continue a word.
func (a *automaton) link() {
	fail := make([]int, len(a.words))
	var queue []int
	for c := range a.width {
		if s := int(a.next[c]); s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		a.words[s] = append(a.words[s], a.words[fail[s]]...)
		for c := range a.width {
			k := s*a.width + c
			if t := int(a.next[k]); t != 0 {
				fail[t] = int(a.next[fail[s]*a.width+c])
				queue = append(queue, t)
			} else {
				a.next[k] = a.next[fail[s]*a.width+c]
			}
		}
	}
}

// find calls hit for each occurrence, with the word's index, its beginning and its end.
func (a *automaton) find(text string, hit func(word, at, end int)) {
	s := 0
	for i := 0; i < len(text); i++ {
		s = int(a.next[s*a.width+int(a.column[text[i]])])
		if a.ends[s] {
			for _, w := range a.words[s] {
				hit(w, i+1-a.length[w], i+1)
			}
		}
	}
}
