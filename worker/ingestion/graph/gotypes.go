package graph

import (
	"slices"

	"kijko/worker/ingestion/parse"
)

const (
	// maxOwners bounds how many types with the same method name are compared.
	maxOwners = 5000
	// maxImplements bounds the links from types to interfaces.
	maxImplements = 100_000
)

// goTypes knows which structs have all methods of an interface, which is how Go defines implementing it.
type goTypes struct {
	interfaces []goInterface
	owners     map[string][]string // method name -> full names of the types that have it
	found      map[int32]map[int32][]int32
	structs    map[string]int32
}

type goInterface struct {
	sym     int32
	methods []string
}

func (g *goTypes) class(at int32, d *parse.Decl) {
	if g.structs == nil {
		g.structs, g.owners = map[string]int32{}, map[string][]string{}
	}
	if d.Kind == parse.Interface && len(d.Methods) > 0 {
		names := make([]string, len(d.Methods))
		for k, m := range d.Methods {
			names[k] = m.Name
		}
		g.interfaces = append(g.interfaces, goInterface{at, names})
	}
}

func (g *goTypes) method(owner, name string) {
	if g.owners == nil {
		g.structs, g.owners = map[string]int32{}, map[string][]string{}
	}
	if list := g.owners[name]; len(list) < maxOwners {
		g.owners[name] = append(list, owner)
	}
}

func (g *goTypes) seal(b *Builder) {
	g.found = map[int32]map[int32][]int32{}
	made := 0
	for _, i := range g.interfaces {
		rarest := slices.MinFunc(i.methods, func(x, y string) int { return len(g.owners[x]) - len(g.owners[y]) })
	owners:
		for _, owner := range g.owners[rarest] {
			for _, m := range i.methods {
				if m != rarest && !slices.ContainsFunc(b.find(owner+"."+m), func(e entry) bool { return b.syms[e.sym].kind == isFunction }) {
					continue owners
				}
			}
			at, ok := g.structs[owner]
			if !ok {
				at = -1
				for _, e := range b.find(owner) {
					if b.syms[e.sym].kind == isClass {
						at = e.sym
					}
				}
				g.structs[owner] = at
			}
			if at < 0 || made >= maxImplements {
				continue
			}
			made++
			s := &b.syms[at]
			if g.found[s.file] == nil {
				g.found[s.file] = map[int32][]int32{}
			}
			g.found[s.file][s.node] = append(g.found[s.file][s.node], b.syms[i.sym].node)
		}
	}
	g.owners, g.structs, g.interfaces = nil, nil, nil
}

// implements returns the interfaces that the structs of a file implement, by nodes.
func (g *goTypes) implements(file int32) map[int32][]int32 { return g.found[file] }
