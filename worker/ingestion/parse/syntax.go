package parse

import (
	"context"
	"fmt"
)

// Role is the part that a node plays, for readers that know no grammar.
type Role uint8

// The roles. A Wrapper holds declarations, as export does, or a statement with several variables; an Attribute belongs to the declaration
// after it.
const (
	Plain Role = iota
	Comment
	Attribute
	Wrapper
	Declaration
	ImportStatement
)

// Node is a named node of a syntax tree. Nodes are in pre-order: the children of node i begin at i+1, and Next is the index after its last
// descendant.
type Node struct {
	Type, Field string
	Start, End  int
	Next        int
	Role        Role
	Kind        Kind // of a Declaration
}

// Syntax is the syntax tree of a text.
type Syntax struct {
	Language string
	HasError bool
	Nodes    []Node
}

// Syntax returns the tree of a text, or nil for a language without a grammar. Its errors are those of Parse.
func (p *Parser) Syntax(ctx context.Context, path, text string, o Options) (*Syntax, error) {
	o, err := o.of(path, text)
	if err != nil {
		return nil, err
	}
	language := Language(path, text)
	g := p.grammars.get(language)
	if g == nil {
		return nil, nil
	}
	t, err := p.tree(ctx, g, language, text, o.Timeout)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	s := &Syntax{Language: language, HasError: t.hasError, Nodes: make([]Node, len(t.nodes))}
	for i := range t.nodes {
		n := &t.nodes[i]
		k := &s.Nodes[i]
		*k = Node{Type: g.typeOf(n), Start: int(n.start), End: int(n.end), Next: int(n.next)}
		if int(n.field) < len(g.fields) {
			k.Field = g.fields[n.field]
		}
		switch r := g.rule(n); r.act {
		case comment:
			k.Role = Comment
		case attribute:
			k.Role = Attribute
		case wrap:
			k.Role = Wrapper
		case declare:
			k.Role, k.Kind = Declaration, r.kind
		case imports:
			k.Role = ImportStatement
		}
	}
	return s, nil
}

// CommentsIn returns the comments of a text in a language without a grammar, by the language's lexical rules. It returns none where there are no
// such rules, or where a string never ends.
func CommentsIn(language, text string) []Range {
	rules, known := lexes[language]
	if !known {
		return nil
	}
	var found []Range
	if _, ok := rules.read(text, func(from, to int) {
		if text[from] != '\\' { // Zig's string of lines
			found = append(found, Range{from, to})
		}
	}); !ok {
		return nil
	}
	return found
}
