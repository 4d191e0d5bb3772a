package parse

// #include "tree.h"
import "C"

import "sync"

// grammar is a tree-sitter language with this package's rules for its node types, indexed by symbol.
type grammar struct {
	language *C.TSLanguage
	rules    []rule
	verbatim []bool // strings and comments
	types    []string
	fields   []string
}

// fieldID returns the number of a field in this grammar, or 0xFFFF if the grammar has no such field.
func (g *grammar) fieldID(name string) uint16 {
	for i, f := range g.fields {
		if i > 0 && f == name {
			return uint16(i)
		}
	}
	return 0xFFFF
}

func (g *grammar) is(n *node, typ string) bool {
	return int(n.symbol) < len(g.types) && g.types[n.symbol] == typ
}

func (g *grammar) typeOf(n *node) string {
	if int(n.symbol) < len(g.types) {
		return g.types[n.symbol]
	}
	return "ERROR"
}

func (g *grammar) rule(n *node) rule {
	if int(n.symbol) < len(g.rules) {
		return g.rules[n.symbol]
	}
	return rule{act: through} // ERROR: its children may still be complete
}

// grammars makes each grammar's tables once, when they are first needed; afterwards they are read-only.
type grammars struct {
	byLanguage map[string]func() *grammar
}

func newGrammars() *grammars {
	g := &grammars{byLanguage: map[string]func() *grammar{}}
	for id, load := range map[string]func() *C.TSLanguage{
		"go":         func() *C.TSLanguage { return C.tree_sitter_go() },
		"typescript": func() *C.TSLanguage { return C.tree_sitter_typescript() },
		"tsx":        func() *C.TSLanguage { return C.tree_sitter_tsx() },
		"javascript": func() *C.TSLanguage { return C.tree_sitter_javascript() },
		"python":     func() *C.TSLanguage { return C.tree_sitter_python() },
		"java":       func() *C.TSLanguage { return C.tree_sitter_java() },
		"rust":       func() *C.TSLanguage { return C.tree_sitter_rust() },
		"c":          func() *C.TSLanguage { return C.tree_sitter_c() },
		"cpp":        func() *C.TSLanguage { return C.tree_sitter_cpp() },
		"csharp":     func() *C.TSLanguage { return C.tree_sitter_c_sharp() },
		"php":        func() *C.TSLanguage { return C.tree_sitter_php() },
		"ruby":       func() *C.TSLanguage { return C.tree_sitter_ruby() },
		"sql":        func() *C.TSLanguage { return C.tree_sitter_sql() },
	} {
		g.byLanguage[id] = sync.OnceValue(func() *grammar {
			lang := load()
			types, fields := symbols(lang)
			made := &grammar{language: lang, types: types, fields: fields, rules: make([]rule, len(types)), verbatim: make([]bool, len(types))}
			table := rules(id)
			for i, t := range types {
				made.rules[i] = table[t]
				made.verbatim[i] = verbatimTypes[t] || table[t].act == comment
			}
			return made
		})
	}
	return g
}

func (g *grammars) get(language string) *grammar {
	if make := g.byLanguage[language]; make != nil {
		return make()
	}
	return nil
}
