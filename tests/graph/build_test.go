package graph

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/graph"
)

var shop = texts{
	"src/basket.ts": `import { price } from './price'
export class Basket extends Base implements Sized {
  items = []
  add(item) { price(item); function inner() { price(item) } inner() }
}
class Base {}
interface Sized { size(): number }
type Point = { x: number }
type Name = string
export const empty = new Basket()
const hidden = 1
`,
	"src/price.ts": `import _ from 'lodash'
export function price(item) { const local = 1; return local }
`,
	"docs/readme.md": "# Shop\n",
	"alone.py":       "import os\n\nclass Alone:\n    size = 1\n\n    def go(self):\n        pass\n",
	"broken.ts":      "!",
	"go.mod":         "module shop\n",
	"cmd/main.go":    "package main\n\nimport \"shop/pay\"\n\nfunc main() { pay.Pay() }\n",
	"pay/pay.go":     "package pay\n\ntype Payer interface{ Pay() }\n\ntype Cash struct{}\n\nfunc (Cash) Pay() {}\n\nfunc Pay() {}\n",
	"app/App.cs":     "namespace Shop.App;\npublic class App { public int Size; public void Run() {} }\n",
}

func TestTheGraphHoldsWhatTheContractNames(t *testing.T) {
	t.Parallel()
	g, err := graph.Build(t.Context(), uuid.New(), shop)
	require.NoError(t, err)
	require.Equal(t, "alone.py app/App.cs broken.ts cmd/main.go docs/readme.md go.mod pay/pay.go src/basket.ts src/price.ts", names(g, graph.File), "every text file")
	require.Equal(t, "Alone App Base Basket Cash Payer Point Sized", names(g, graph.Class), "no alias of another type")
	require.Equal(t, "Alone.go App.Run Basket.add Cash.Pay Pay Payer.Pay Sized.size main price", names(g, graph.Function), "no function inside another one")
	require.Equal(t, "empty hidden", names(g, graph.Variable), "none of a function or a class")
	require.Equal(t, "cmd lodash os pay", names(g, graph.Module), "packages outside and package directories, no namespaces")
	require.Equal(t, []string{
		"Basket extends Base 1", "Basket implements Sized 1", "Basket.add calls price 2", "Cash implements Payer 1", "alone.py imports os 1", "cmd/main.go imports pay 1", "cmd/main.go imports pay/pay.go 1",
		"main calls Pay 1", "src/basket.ts calls Basket 1", "src/basket.ts imports price 1", "src/basket.ts imports src/price.ts 1", "src/price.ts imports lodash 1",
	}, named(g), "calls of an inner function are its outer one's")
	require.Equal(t, 2, int(g.Parts[partOf(g, "pay/pay.go")].Cluster), "the second largest component")
	require.Zero(t, g.Parts[partOf(g, "docs/readme.md")].Cluster, "a file alone is in none")
	require.Equal(t, 4, g.Clusters, "TypeScript, Go, Python, C#")
	require.Equal(t, []int{9, 7}, []int{g.Texts, g.Parsed}, "files that gave a tree")
	for _, n := range g.Nodes {
		require.Equal(t, uuid.Version(5), uuid.UUID(n.ID).Version())
		require.Equal(t, uuid.RFC4122, uuid.UUID(n.ID).Variant())
		if n.Name == "price" {
			require.Equal(t, 3, int(n.References), "repetitions count: one import and two calls")
			require.True(t, *n.Exported)
		}
		if n.Name == "hidden" {
			require.False(t, *n.Exported)
		}
	}
}

func partOf(g *graph.Graph, path string) int {
	for i, p := range g.Parts {
		if p.Path == path {
			return i
		}
	}
	return -1
}

func TestIdsStayAcrossBuildsAndDifferBetweenContexts(t *testing.T) {
	t.Parallel()
	one, err := graph.Build(t.Context(), uuid.MustParse("00000000-0000-4000-8000-000000000001"), shop)
	require.NoError(t, err)
	same, err := graph.Build(t.Context(), uuid.MustParse("00000000-0000-4000-8000-000000000001"), shop)
	require.NoError(t, err)
	require.Equal(t, lines(one), lines(same))
	moved := maps.Clone(shop)
	moved["src/price.ts"] = "// a comment before\n" + moved["src/price.ts"] + "export function discount() {}\n"
	changed, err := graph.Build(t.Context(), uuid.MustParse("00000000-0000-4000-8000-000000000001"), moved)
	require.NoError(t, err)
	ids := map[string]graph.ID{}
	for _, n := range one.Nodes {
		ids[n.Type.String()+n.Path+n.Name] = n.ID
	}
	for _, n := range changed.Nodes {
		if n.Name != "discount" {
			require.Equal(t, ids[n.Type.String()+n.Path+n.Name], n.ID, n.Name)
		}
	}
	other, err := graph.Build(t.Context(), uuid.New(), shop)
	require.NoError(t, err)
	require.NotEqual(t, one.Nodes[0].ID, other.Nodes[0].ID)
	name := []byte("function\x00src/price.ts\x00price")
	want := graph.ID(uuid.NewSHA1(uuid.MustParse("00000000-0000-4000-8000-000000000001"), name))
	require.Equal(t, want, ids["functionsrc/price.tsprice"], "as any other maker of version 5 makes them")
}

func TestASecondBuildWritesOnlyTheDifference(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	id := l.context()
	g, change := l.build(id, shop)
	require.Equal(t, lines(g), l.stored(id))
	require.Equal(t, graph.Change{Generation: 1, NodesAdded: len(g.Nodes), LinksAdded: len(g.Links), Parts: len(g.Parts)}, change)
	_, change = l.build(id, shop)
	require.Equal(t, graph.Change{Generation: 2}, change, "equal files write no row but the generation's")
	edited := maps.Clone(shop)
	edited["src/price.ts"] = strings.Replace(edited["src/price.ts"], "return local", "_(item); return local", 1) + "export function discount() { price(1) }\n"
	g, change = l.build(id, edited)
	require.Equal(t, lines(g), l.stored(id))
	require.Equal(t, graph.Change{Generation: 3, NodesAdded: 1, NodesChanged: 2, LinksAdded: 2, Parts: 1}, change, "the file and the function that is called once more change")
	delete(edited, "src/basket.ts")
	g, change = l.build(id, edited)
	require.Equal(t, lines(g), l.stored(id))
	require.Equal(t, 9, change.NodesRemoved)
	require.Equal(t, 4, value[int](l, "select number from public.kg_generations where project_id = $1 and is_current", id))
	require.Equal(t, len(g.Nodes), value[int](l, "select nodes from public.kg_generations where project_id = $1 and is_current", id))
	require.Equal(t, g.Shown(), value[int](l, "select links from public.kg_generations where project_id = $1 and is_current", id))
}

// TestAnyOrderOfChangesEndsInTheGraphOfTheFiles holds the difference against the naive model: the graph that is built from nothing.
func TestAnyOrderOfChangesEndsInTheGraphOfTheFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	id := l.context()
	chance := rand.New(rand.NewPCG(1, 2))
	files := texts{}
	for step := range 30 {
		for range 1 + chance.IntN(4) {
			path := fmt.Sprintf("src/%c.ts", 'a'+rune(chance.IntN(12)))
			switch chance.IntN(4) {
			case 0:
				delete(files, path)
				l.exec("select private.drop_graph_files($1, array[$2])", id, path)
				if chance.IntN(2) == 0 { // and comes back before the next build
					files[path] = fmt.Sprintf("export class C%d {}\n", chance.IntN(3))
				}
			default:
				var text strings.Builder
				for range chance.IntN(4) {
					fmt.Fprintf(&text, "import { f%d } from './%c'\nimport x from 'm%d'\n", chance.IntN(3), 'a'+rune(chance.IntN(12)), chance.IntN(5))
				}
				for range chance.IntN(4) {
					fmt.Fprintf(&text, "export function f%d() { f%d(); f%d() }\nexport class C%d extends C%d { m() { f1() } }\n", chance.IntN(3), chance.IntN(3), chance.IntN(3), chance.IntN(3), chance.IntN(3))
				}
				files[path] = text.String()
			}
		}
		g, _ := l.build(id, files)
		require.Equal(t, lines(g), l.stored(id), "after step %d", step)
	}
}

func TestLimitsKeepTheMostReferredNodes(t *testing.T) {
	t.Parallel()
	files := texts{}
	for i := range 60 {
		var text strings.Builder
		for k := range 900 {
			fmt.Fprintf(&text, "export const v%d = %d\n", k, k)
		}
		for k := range 900 {
			fmt.Fprintf(&text, "export function f%d() {}\n", k)
		}
		for k := range 450 {
			fmt.Fprintf(&text, "f%d()\n", k)
		}
		files[fmt.Sprintf("f%02d.ts", i)] = text.String()
	}
	g, err := graph.Build(t.Context(), uuid.New(), files)
	require.NoError(t, err)
	count := map[graph.Type]int{}
	referred := 0
	for _, n := range g.Nodes {
		count[n.Type]++
		if n.References > 0 {
			referred++
		}
	}
	require.Len(t, g.Nodes, graph.MaxNodes)
	require.Zero(t, count[graph.Variable], "variables go first")
	require.Equal(t, 60, count[graph.File])
	require.Equal(t, 27_000, referred, "then functions that nothing refers to")
}
