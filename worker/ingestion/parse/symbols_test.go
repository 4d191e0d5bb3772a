package parse_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/parse"
)

// TestSymbols: which nodes are declarations, under which name, and where they end.
func TestSymbols(t *testing.T) {
	t.Parallel()
	p := parser(t)
	for _, c := range []struct {
		name, file, text string
		want             []string
	}{
		{"a function that is assigned to exports", "a.js", "exports.listOrders = async function (req, res) {}", []string{"function exports.listOrders"}},
		{"an arrow that is assigned to module.exports", "a.js", "module.exports.createOrder = (req, res) => {}", []string{"function exports.createOrder"}},
		{"a method on a prototype", "a.js", "function Basket() {}\nBasket.prototype.addLine = function addLine(l) {}", []string{"function Basket", "method Basket.addLine"}},
		{"the methods of a prototype", "a.js", "Basket.prototype = { a: function () {}, b() {} }", []string{"method Basket.a", "method Basket.b"}},
		{"a function of a function", "a.js", "Basket.fromRow = row => new Basket(row)", []string{"function Basket.fromRow"}},
		{"a function of an object", "a.js", "app.mountRoute = function mountRoute(p) {}", []string{"function app.mountRoute"}},
		{"members of what is exported", "a.js", "module.exports = { closeAll: function () {}, open, size: 1 }", []string{"method exports.closeAll"}},
		{"what a module is, by its own name", "a.js", "exports = module.exports = function create() { return 1 }", []string{"function create"}},
		{"members of an object with a name", "a.ts", "export const api = { get: async () => 1, put() {}, deep: { x: () => 1 } }", []string{"variable api", "method api.get", "method api.put", "method api.deep.x"}},
		{"methods that a constructor makes", "a.js", "function Basket() { this.total = function () {} }", []string{"function Basket", "method Basket.total"}},
		{"a class that is assigned", "a.js", "exports.Basket = class { add() {} }", []string{"class exports.Basket", "method exports.Basket.add"}},
		{"the default function", "a.ts", "export default async () => { run() }", []string{"function default"}},
		{"no locals of callbacks", "a.js", "describe(\"x\", () => { const local = 1; it(\"y\", () => { let inner = 2; }) })\n[1].forEach(function (n) { var doubled = n })", nil},
		{"functions in callbacks", "a.js", "(function () { var a = 1; function setup() {} })()", []string{"function setup"}},
		{"the names of a pattern", "a.ts", "export const { a, b: c, ...rest } = make(), [d] = x", []string{"variable a", "variable a", "variable c", "variable rest", "variable d"}},
		{"an assigned variable is none", "a.js", "exports.size = 1; app.name = 'x'", nil},
		{"C#: a type without a body", "a.cs", "public class OrderException(int id, string m) : Exception($\"{id}\");\npublic class Next { void Go() {} }\nstruct S(int x);\nclass Last;",
			[]string{"class OrderException", "class Next", "method Next.Go", "struct S", "class Last"}},
		{"C#: the same at the end of the text", "a.cs", "class A(int x);", []string{"class A"}},
		{"PHP: constants of an enum", "a.php", "<?php enum Suit: string { case A = 'a'; const string B = 'b'; public const C = self::A; public function label() {} }\nclass Next { function go() {} }",
			[]string{"enum Suit", "variable Suit.B", "variable Suit.C", "method Suit.label", "class Next", "method Next.go"}},
		{"PHP: hooks of a property", "a.php", "<?php class User { public string $name { get => $this->x . '}'; set(string $v) { $this->y($v); } }\nprivate Store $s; function go() {} }\nfunction after() {}",
			[]string{"class User", "variable User.name", "variable User.s", "method User.go", "function after"}},
		{"PHP: hooks in a constructor", "a.php", "<?php class User { function __construct(private int $a { get => 1; }, public private(set) int $b = 2) {} function go() {} }",
			[]string{"class User", "method User.__construct", "method User.go"}},
		{"C: braces that branches open", "a.c", "int f(int a)\n{\n#ifdef X\n  if (a) {\n#else\n  if (b) {\n#endif\n    g();\n  }\n  return 1;\n}\nint h(void) { return f(1); }\n",
			[]string{"function f", "function h"}},
		{"C: heads that branches open", "a.c", "#if A\nint f(int a) {\n#elif B\nint f(long a) {\n#else\nint f(char a) {\n#endif\n  return 1;\n}\nint h(void) { return f(1); }\n",
			[]string{"function f", "function h"}},
		{"C: braces that one branch closes", "a.c", "int f(int a) {\n  for (;;) {\n#ifdef W\n  }\n#else\n  break; }\n#endif\n}\nint h(void) { return f(1); }\n", []string{"function f", "function h"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := mustParse(t, p, c.file, c.text)
			require.Equal(t, c.want, names(f))
		})
	}

	t.Run("a declaration has its statement and its comment", func(t *testing.T) {
		t.Parallel()
		text := "var x = 1;\n/** Adds. */\nBasket.prototype.add = function (l) {\n  return l;\n};\n"
		d := find(t, mustParse(t, p, "a.js", text), "Basket.add")
		require.Equal(t, "Adds.", d.Doc)
		require.Equal(t, "/** Adds. */\nBasket.prototype.add = function (l) {\n  return l;\n};", text[d.StartByte:d.EndByte])
	})
	t.Run("what has been repaired keeps its place", func(t *testing.T) {
		t.Parallel()
		text := "class A(int x) : B(x);\nclass C\n{\n    void F() { G(); }\n}\n"
		f := mustParse(t, p, "a.cs", text)
		d := find(t, f, "C")
		require.Equal(t, "class C\n{\n    void F() { G(); }\n}", text[d.StartByte:d.EndByte])
		require.Equal(t, []string{"B"}, find(t, f, "A").Extends)
	})
}

// TestReceivers: the receiver of each call, as far as its own file shows it.
func TestReceivers(t *testing.T) {
	t.Parallel()
	p := parser(t)
	for _, c := range []struct{ file, text, want string }{
		{"a.go", "package a\nfunc (s *S) F() { s.db.Get() }", "s.db.Get :S"},
		{"a.go", "package a\nfunc f() { x := &p.T{}; x.Get() }", "x.Get :p.T"},
		{"a.go", "package a\nfunc f() { x := g(); x.Get() }", "x.Get ?"},
		{"a.go", "package a\nfunc f(list []T) { list[0].Get() }", "Get ?"},
		{"a.go", "package a\nfunc f(m map[string]T) { m.Get() }", "m.Get ?"},
		{"a.go", "package a\nfunc f() { new(T).Get() }", "Get :T"},
		{"a.go", "package a\nfunc f(Get func()) { Get() }", "Get ?"},
		{"a.go", "package a\nfunc f() { if x := (T{}); true { x.Get() } }", "x.Get :T"},
		{"a.go", "package a\nfunc f() { { x := T{} }; x.Get() }", "x.Get "},
		{"a.ts", "class A { f() { this.store.get() } }", "this.store.get self"},
		{"a.ts", "function f(a: A | null, b?: B[]) { a?.get() }", "a?.get :A"},
		{"a.ts", "function f(b: B[]) { b.get() }", "b.get ?"},
		{"a.ts", "function f() { const a = new x.A<number>(); a.get() }", "a.get :x.A"},
		{"a.ts", "function f() { (y as A).get() }", "get :A"},
		{"a.ts", "async function f() { await this.g<number>(1) }", "this.g self"},
		{"a.js", "const f = ({ get }) => get()", "get ?"},
		{"a.js", "class A { #x() {} f() { this.#x() } }", "this.#x self"},
		{"a.py", "class A:\n  def f(self): self.store.get()", "self.store.get self"},
		{"a.py", "def f(a: Optional['A']): a.get()", "a.get :A"},
		{"a.py", "def f(a: list[A]): a.get()", "a.get :list"},
		{"a.py", "def f(): get().put()", "put :get"},
		{"a.py", "class A:\n  def f(self): super().put()", "put super"},
		{"A.java", "class A { void f(final B b) { b.get(); } }", "b.get :B"},
		{"A.java", "class A { void f() { var b = new B<>(); b.get(); } }", "b.get :B"},
		{"A.java", "class A { void f() { g().get(); } }", "get ?"},
		{"A.java", "class A { void f(Object o) { if (o instanceof B b) b.get(); } }", "b.get :B"},
		{"a.cs", "class A { void F(B? b) { b?.Get(); } }", "b?.Get :B"},
		{"a.cs", "class A { void F() { foreach (B b in x) b.Get(); } }", "b.Get :B"},
		{"a.php", "<?php class A { function f(?B $b) { $b->get(); } }", "b.get :B"},
		{"a.php", "<?php class A { function f() { self::get(); } }", "self.get self"},
		{"a.rs", "impl A { fn f(&self, b: &mut Box<B>) { b.get() } }", "b.get :B"},
		{"a.rs", "fn f(b: Vec<B>) { b.get() }", "b.get :Vec"},
		{"a.rs", "fn f() { let b = m::B::new(); b.get() }", "b.get :m::B"},
		{"a.rb", "class A\n  def f\n    @b.get\n  end\nend", "b.get self"},
		{"a.cpp", "void f(const B& b) { b.get(); }", "b.get :B"},
		{"a.cpp", "void f(std::vector<B> b) { b.get(); }", "b.get :std::vector"},
	} {
		f := mustParse(t, p, c.file, c.text)
		var got []string
		for _, k := range f.Calls {
			got = append(got, strings.TrimPrefix(k.Name, "@")+" "+k.On)
		}
		require.Contains(t, got, c.want, c.text)
	}
}

// TestImportsBindNames: the names that an import adds to its file, and their meaning.
func TestImportsBindNames(t *testing.T) {
	t.Parallel()
	p := parser(t)
	for _, c := range []struct {
		file, text string
		want       []parse.Bind
	}{
		{"a.go", "package a\nimport x \"e/f\"", []parse.Bind{{Local: "x"}}},
		{"a.go", "package a\nimport . \"e/f\"", []parse.Bind{{Local: "*", Name: "*"}}},
		{"a.ts", "import D, { a, b as c } from './x'", []parse.Bind{{Local: "D", Name: "default"}, {Local: "a", Name: "a"}, {Local: "c", Name: "b"}}},
		{"a.ts", "import * as n from './x'", []parse.Bind{{Local: "n"}}},
		{"a.js", "const { a, b: c } = require('./x')", []parse.Bind{{Local: "a", Name: "a"}, {Local: "c", Name: "b"}}},
		{"a.js", "const y = require('./x').y", []parse.Bind{{Local: "y", Name: "y"}}},
		{"a.js", "function f() { const x = require('./x') }", []parse.Bind{{Local: "x"}}},
		{"a.py", "import a.b as c", []parse.Bind{{Local: "c"}}},
		{"a.py", "from .x import (y as z, w)", []parse.Bind{{Local: "z", Name: "y"}, {Local: "w", Name: "w"}}},
		{"A.java", "import static a.B.*;", []parse.Bind{{Local: "*", Name: "*"}}},
		{"a.cs", "using Z = Q.W;", []parse.Bind{{Local: "Z"}}},
		{"a.php", "<?php use A\\{B, C as D};", []parse.Bind{{Local: "B", From: "A\\B"}, {Local: "D", From: "A\\C"}}},
		{"a.rs", "use a::{self, b::{C as D, e::*}, super::x};", []parse.Bind{{Local: "a", Name: "a"}, {Local: "D", Name: "C", From: "a::b"}, {Local: "*", Name: "*", From: "a::b::e"},
			{Local: "x", Name: "x", From: "a::super"}}},
		{"a.rs", "mod m { use super::y; use super::super::z; }", []parse.Bind{{Local: "y", Name: "y", From: "self"}}},
	} {
		f := mustParse(t, p, c.file, c.text)
		require.NotEmpty(t, f.Imports, c.text)
		require.Equal(t, c.want, f.Imports[0].Binds, c.text)
	}
}

// TestRepairsAreBounded: a text that is written to make the second parse expensive costs no more than the limit of a parse.
func TestRepairsAreBounded(t *testing.T) {
	t.Parallel()
	p := parser(t)
	for _, c := range []struct{ file, head, unit string }{
		{"a.cs", "class {", "class A("}, {"a.cs", "class {", "class A(int x) : B(x) "}, {"a.cs", "class {", "class A;"}, {"a.cs", "class {", "\"\"\" class A("},
		{"a.php", "<?php class {", "const "}, {"a.php", "<?php class {", "enum a {"}, {"a.php", "<?php class {", "enum a "}, {"a.php", "<?php class {", "$a="},
		{"a.php", "<?php class {", "$a {get;"}, {"a.php", "<?php class {", "enum a { const B = "}, {"a.php", "<?php class {", "$a { /* */ "},
		{"a.c", "int f( {", "#if a\n{\n#else\n}\n"}, {"a.c", "int f( {", "#if a\n{\n"}, {"a.c", "int f( {", "#endif\n#if a\n{\n#endif\n"},
	} {
		began := time.Now()
		_, err := p.Parse(context.Background(), c.file, c.head+strings.Repeat(c.unit, 200_000/len(c.unit)), parse.Options{Timeout: time.Second})
		require.True(t, err == nil || errors.Is(err, parse.ErrTimeout), err)
		require.Less(t, time.Since(began), 20*time.Second, "%s %q", c.file, c.unit)
	}
}
