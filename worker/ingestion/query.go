package ingestion

import (
	"slices"
	"strings"
)

// Query makes a query from all words of a text, at most limit; "" if it has none. It splits words as the index does, and all of them must
// fit. A name of several words fits as it is or by all of its parts, so parseURL also finds parse_url. A run of an unspaced script is matched
// by its pairs or, as in older indexes, as a whole; a single letter is matched as a prefix. Text between quotation marks is a phrase: its
// words follow each other.
func Query(text string, limit int) string {
	q := query{limit: limit}
	for len(text) > 0 {
		before, after, quoted := strings.Cut(text, `"`)
		q.all(before)
		if !quoted {
			break
		}
		inside, rest, closed := strings.Cut(after, `"`)
		if closed {
			q.phrase(inside)
		} else {
			q.all(inside)
		}
		text = rest
	}
	return strings.Join(q.terms, " & ")
}

// query collects the terms of a query, and the words that it has already.
type query struct {
	limit       int
	terms, seen []string
}

func (q *query) fresh(word string) bool {
	if len(q.seen) >= q.limit || slices.Contains(q.seen, word) {
		return false
	}
	q.seen = append(q.seen, word)
	return true
}

// all adds the words of a text.
func (q *query) all(text string) {
	runs(text, func(run string, paired bool) {
		switch {
		case len(q.seen) >= q.limit:
		case paired:
			q.pairs(run)
		default:
			q.name(run)
		}
	})
}

// name adds a word, or a name as a whole or by its parts.
func (q *query) name(run string) {
	var list []string
	words(run, func(word string) {
		if len(list) < 2*q.limit && !slices.Contains(list, word) {
			list = append(list, word)
		}
	})
	if len(list) == 0 || !q.fresh(list[0]) {
		return
	}
	var parts []string
	for _, part := range list[1:] {
		if q.fresh(part) || slices.Contains(q.seen, part) {
			parts = append(parts, quoted(part))
		}
	}
	if len(parts) == 0 {
		q.terms = append(q.terms, quoted(list[0]))
		return
	}
	q.terms = append(q.terms, "("+quoted(list[0])+" | "+strings.Join(parts, " & ")+")")
}

func (q *query) pairs(run string) {
	var group []string
	letters := 0
	pairs(run, func(pair, _ string) {
		letters++
		if pair != "" && q.fresh(pair) {
			group = append(group, quoted(pair))
		}
	})
	switch {
	case letters == 1 && q.fresh(run):
		q.terms = append(q.terms, quoted(run)+":*")
	case len(group) > 0 && len(run) <= maxWord && letters > 2:
		q.terms = append(q.terms, "("+strings.Join(group, " & ")+" | "+quoted(run)+")")
	default:
		q.terms = append(q.terms, group...)
	}
}

// phrase adds words that follow each other. The index gives the parts of a name places of their own, and so does this. The last letter of a run
// of an unspaced script is a word only where a run of the text ends, which a phrase does not know.
func (q *query) phrase(text string) {
	var list []string
	open := false
	runs(text, func(run string, paired bool) {
		before := len(list)
		words(run, func(word string) {
			if len(list) <= q.limit {
				list = append(list, quoted(word))
			}
		})
		open = paired && len(list) > before+1
		if paired && len(list) == before+1 && len(list) <= q.limit {
			list[before] += ":*"
		}
	})
	if open && len(list) <= q.limit {
		list = list[:len(list)-1]
	}
	if len(list) > q.limit {
		list = list[:q.limit]
	}
	if room := q.limit - len(q.seen); room < len(list) {
		list = list[:max(room, 0)]
	}
	if len(list) == 0 {
		return
	}
	q.seen = append(q.seen, list...)
	q.terms = append(q.terms, "("+strings.Join(list, " <-> ")+")")
}

func quoted(term string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(term, `\`, `\\`), "'", "''") + "'"
}
