package retrieval

import (
	"slices"
	"strings"

	"kijko/worker/ingestion"
)

const (
	// maxTerms bounds what is looked for: a question has fewer words that say something.
	maxTerms = 32
	// maxForms bounds the forms of a word that are tried.
	maxForms = 60
)

// stop are the words that say nothing about what is asked for. Words that name something in programs (if, for, new, this, with) count where
// nothing else does.
var stop = wordSet(`a about above after again all also am an and any are as at be because been before being below between both but by can cannot could did do does
	doing done down during each either else etc few for from further had has have having he her here hers him his how however i if in instead into is it its
	itself just let like made make makes may me might more most much must my neither no nor not now of off on once one only onto or other our out over own per
	please rather same shall she should since so some such than that the their them then there these they this those through thus to too under until up upon us
	use used uses using very via was we well were what when where whether which while who whom why will with within without would you your explain show tell find
	give want need work works code file files function functions method methods class called calls call`)

func wordSet(list string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// terms returns what a question asks for: each word with its other forms, the word itself first. A name of several words is a term, and so is
// each of its parts.
func terms(question string) [][]string {
	found := termsOf(question, true)
	if len(found) == 0 {
		found = termsOf(question, false)
	}
	return found
}

func termsOf(question string, stopping bool) [][]string {
	var list [][]string
	seen := map[string]bool{}
	add := func(word string, inflect bool) {
		if seen[word] || len(list) >= maxTerms || stopping && inflect && stop[word] {
			return
		}
		term := []string{word}
		if inflect {
			term = forms(word)
		}
		for _, w := range term {
			seen[w] = true
		}
		list = append(list, term)
	}
	for _, name := range ingestion.Names(question) {
		if len(name) == 1 {
			add(name[0], true)
			continue
		}
		add(name[0], false)
		for _, part := range name[1:] {
			add(part, true)
		}
	}
	return list
}

// forms returns a word, its other forms (parse: parses, parsed, parsing, parser) and its usual abbreviations. Words that do not exist are
// among them; the index knows.
func forms(word string) []string {
	list := []string{word}
	add := func(w string) {
		if len(w) >= 2 && len(list) < maxForms && !slices.Contains(list, w) && !stop[w] {
			list = append(list, w)
		}
	}
	if len(word) < 3 || !plain(word) {
		for _, w := range abbreviations[word] {
			add(w)
		}
		return list
	}
	all := bases(word)
	// The word and what it may be a form of come first.
	for _, base := range all {
		add(base)
	}
	for _, base := range all {
		for _, w := range abbreviations[base] {
			add(w)
		}
	}
	for _, base := range all {
		inflections(base, add)
	}
	return list
}

func plain(word string) bool {
	for i := range len(word) {
		if word[i] < 'a' || word[i] > 'z' {
			return false
		}
	}
	return true
}

// bases returns the words that a word may be a form of, and the word.
func bases(word string) []string {
	list := []string{word}
	// A base has at least three letters and a vowel.
	add := func(base string) {
		if len(base) >= 3 && strings.ContainsAny(base, "aeiouy") && !slices.Contains(list, base) {
			list = append(list, base)
		}
	}
	cut := func(suffix string, endings ...string) bool {
		base, ok := strings.CutSuffix(word, suffix)
		if !ok || len(base) < 3 {
			return false
		}
		n := len(base)
		if base[n-1] == base[n-2] && !strings.ContainsRune("lsz", rune(base[n-1])) {
			add(base[:n-1]) // stopped, mapping
		}
		for _, e := range endings {
			add(base + e)
		}
		return true
	}
	switch {
	case cut("ies", "y"), cut("ied", "y"):
	case cut("ations", "ate", "", "e"), cut("ation", "ate", "", "e"):
	case cut("ions", "", "e"), cut("ion", "", "e"):
	case cut("ments", ""), cut("ment", ""):
	case cut("ings", "", "e"), cut("ing", "", "e"):
	case cut("ers", "", "e"), cut("er", "", "e"), cut("ors", "", "e"), cut("or", "", "e"):
	case cut("ed", "", "e"):
	case cut("able", "", "e"), cut("ible", "", "e"):
	case cut("sses", "ss"), cut("xes", "x"), cut("ches", "ch", "che"), cut("shes", "sh"), cut("zes", "z", "ze"):
	case strings.HasSuffix(word, "ss"), strings.HasSuffix(word, "us"), strings.HasSuffix(word, "is"):
	case cut("s", ""):
	}
	return list
}

// inflections calls add for the usual forms of a base.
func inflections(base string, add func(string)) {
	n := len(base)
	add(base)
	add(base + "s")
	switch {
	case strings.HasSuffix(base, "e"):
		stem := base[:n-1]
		for _, e := range []string{"ed", "ing", "er", "or", "ers", "ors", "ion", "ions", "ation", "able", "ement"} {
			add(stem + e)
		}
	case strings.HasSuffix(base, "y"):
		stem := base[:n-1]
		for _, e := range []string{"ies", "ied", "ier", "ication"} {
			add(stem + e)
		}
		add(base + "ing")
	default:
		for _, e := range []string{"ed", "ing", "er", "or", "ers", "ors", "es", "ion", "ions", "ation", "able", "ment", "ings"} {
			add(base + e)
		}
		if n >= 3 && !strings.ContainsRune("aeiouwxys", rune(base[n-1])) && strings.ContainsRune("aeiou", rune(base[n-2])) {
			for _, e := range []string{"ed", "ing", "er", "ers"} {
				add(base + string(base[n-1]) + e)
			}
		}
	}
}

// abbreviations are the ways in which programs write a word: each is one of the others.
var abbreviations = abbreviated(`
	arg args argument arguments, ctx context, cfg conf config configuration configure, req request, res resp response, err error, msg message, str string,
	num number, int integer, bool boolean, param params parameter parameters, func function fn, dir directory folder, init initialize initialise initialization,
	info information, auth authentication authenticate authorization authorize, db database, env environment, tmp temp temporary, del delete remove,
	max maximum, min minimum, char character, regex regexp, dict dictionary, iter iterator iterate, attr attribute, prop property, val value, var variable,
	obj object, elem element, idx index, ptr pointer, src source, dst dest destination, cmd command, conn connection, addr address, buf buffer,
	len length, pos position, prev previous, cur current, spec specification, sync synchronize, async asynchronous, exec execute, calc calculate compute,
	gen generate, doc document, repo repository, lib library, pkg package, util utility, fmt format, sep separator, eq equal equals, cmp compare,
	rand random, sec second, ms millisecond, desc description, ref reference, opt option, ext extension, proto protocol, cert certificate, stmt statement,
	expr expression, decl declaration, impl implementation, tx transaction, ts timestamp, col column, svc service, mgr manager, srv server, hdr header,
	alloc allocate allocation, dup duplicate, concat concatenate, trunc truncate, uniq unique, abs absolute, rel relative, orig original, norm normalize,
	cap capitalize, esc escape, enc encode, dec decode, ser serialize, compress compression gzip, https tls, quote quoted, synch synchronized, dedup deduplicate`)

func abbreviated(list string) map[string][]string {
	all := map[string][]string{}
	for _, group := range strings.Split(list, ",") {
		words := strings.Fields(group)
		for _, w := range words {
			for _, other := range words {
				if other != w && !slices.Contains(all[w], other) {
					all[w] = append(all[w], other)
				}
			}
		}
	}
	return all
}
