package parse_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/parse"
)

func fixture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(b)
}

func parser(t testing.TB) *parse.Parser {
	p := parse.New()
	t.Cleanup(p.Close)
	return p
}

func mustParse(t testing.TB, p *parse.Parser, path, text string) *parse.File {
	t.Helper()
	f, err := p.Parse(context.Background(), path, text, parse.Options{})
	require.NoError(t, err)
	check(t, f, text)
	return f
}

// check asserts the properties of every parsed file.
func check(t testing.TB, f *parse.File, text string) {
	t.Helper()
	last := 0
	for _, c := range f.Cuts {
		require.Greater(t, c.Byte, last, "cuts ascend")
		require.Less(t, c.Byte, len(text))
		require.Equal(t, byte('\n'), text[c.Byte-1], "a cut begins a line")
		last = c.Byte
	}
	f.Walk(func(d *parse.Decl) {
		require.LessOrEqual(t, 0, d.StartByte)
		require.LessOrEqual(t, d.StartByte, d.EndByte)
		require.LessOrEqual(t, d.EndByte, len(text))
		require.LessOrEqual(t, d.StartLine, d.EndLine, "%+v", d)
		require.LessOrEqual(t, len(d.Signature), 300)
	})
	for _, i := range f.Imports {
		require.NotEmpty(t, i.Path)
		require.LessOrEqual(t, i.EndByte, len(text))
	}
}

func names(f *parse.File) (all []string) {
	f.Walk(func(d *parse.Decl) { all = append(all, string(d.Kind)+" "+d.Qualified) })
	return all
}

func find(t testing.TB, f *parse.File, qualified string) *parse.Decl {
	t.Helper()
	var found *parse.Decl
	f.Walk(func(d *parse.Decl) {
		if d.Qualified == qualified && found == nil {
			found = d
		}
	})
	require.NotNil(t, found, "%s in %v", qualified, names(f))
	return found
}

func TestParse(t *testing.T) {
	t.Parallel()
	p := parser(t)

	for _, c := range []struct {
		file, language string
		decls, paths   []string
		calls          []string
	}{
		{"a.ts", "typescript", []string{"class Greeter", "method Greeter.greet", "method Greeter.handler", "interface Hello", "type Alias", "enum Color",
			"function add", "function main", "module N", "function N.inner", "method Q.m", "function gen"},
			[]string{"react", "path", "./types", "./side", "./x", "fs"}, []string{"format<Greeter.greet", "Greeter<main", "this.greet<Greeter.handler"}},
		{"a.py", "python", []string{"variable LIMIT", "class Foo", "method Foo.method", "method Foo.p", "function Foo.p.inner", "function top"},
			[]string{"os", "sys", ".", ".pkg.mod", "x"}, []string{"helper<Foo.method", "self.other<Foo.method", "print<top"}},
		{"A.java", "java", []string{"class A", "method A.A", "method A.run", "enum A.Inner", "method A.Inner.f", "class A.P", "interface I", "interface Ann"},
			[]string{"java.util.List", "org.junit.Assert.*"}, []string{"List.of<A.run", "Foo<A.run"}},
		{"a.rs", "rust", []string{"struct S", "enum E", "interface T", "method T.def", "impl S", "method S.req", "method S.new", "variable C", "type Al", "function mac", "module inner", "function inner.g"},
			[]string{"std::collections::{HashMap, HashSet as HS}", "crate::a::b", "serde", "other"}, []string{"helper<T.def", "S::new<S.req", "println<S.req"}},
		{"a.c", "c", []string{"function MAX", "variable N", "type point_t", "struct node", "enum color", "function add", "function proto", "variable global", "function shown"},
			[]string{"stdio.h", "my.h"}, []string{"helper<add", "p->fn<shown"}},
		{"a.cpp", "cpp", []string{"module ns.sub", "class ns.sub.Box", "method ns.sub.Box.get", "method ns.sub.Box.make", "method ns.sub.Box.operator+", "function ns.sub.id", "function cfun", "struct S"},
			[]string{"vector"}, []string{"std::sort<ns.sub.Box.make"}},
		{"a.cs", "csharp", []string{"module My.App", "class My.App.Foo", "method My.App.Foo.Bar", "variable My.App.Foo.Name", "interface My.App.IThing", "struct My.App.S", "enum My.App.E"},
			[]string{"System", "System.Math", "System.Text"}, []string{"Console.WriteLine<My.App.Foo.Bar"}},
		{"a.php", "php", []string{"class User", "method User.go", "variable User.K", "variable User.p", "interface I", "class T", "enum Suit", "function free"},
			[]string{"Foo\\Bar", "Foo", "x.php"}, []string{"helper<User.go", "this.run<User.go", "User.make<User.go"}},
		{"a.rb", "ruby", []string{"module M", "class M.Foo", "variable M.Foo.CONST", "method M.Foo.hi", "method M.Foo.make", "function top"},
			[]string{"json", "./lib/x"}, []string{"helper<M.Foo.hi"}},
		{"a.sql", "sql", []string{"struct public.users", "variable i", "type v", "function f"}, nil, nil},
	} {
		t.Run("Understands/"+c.language, func(t *testing.T) {
			t.Parallel()
			f := mustParse(t, p, c.file, fixture(t, c.file))
			require.Equal(t, c.language, f.Language)
			require.Equal(t, parse.Code, f.Category)
			require.False(t, f.HasError)
			require.Subset(t, names(f), c.decls)
			var paths, calls []string
			for _, i := range f.Imports {
				paths = append(paths, i.Path)
			}
			for _, k := range f.Calls {
				calls = append(calls, k.Name+"<"+k.Caller)
			}
			require.Equal(t, c.paths, paths)
			require.Subset(t, calls, c.calls)
		})
	}

	t.Run("JavaScriptAndTsxShareTheRules", func(t *testing.T) {
		t.Parallel()
		f := mustParse(t, p, "x.jsx", "import A from 'a';\nclass B extends C { x = 1; m() { return <A/>; } }\nconst f = function () {}\n")
		require.Equal(t, []string{"class B", "variable B.x", "method B.m", "function f"}, names(f))
		require.Equal(t, []string{"C"}, find(t, f, "B").Extends)
		f = mustParse(t, p, "x.tsx", "export const V = ({a}: P) => <div>{a}</div>;\n")
		require.Equal(t, "tsx", f.Language)
		require.Equal(t, []string{"function V"}, names(f))
	})

	t.Run("DocCommentsAndAttributesBelongToTheirDeclaration", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ file, name, doc, first string }{
			{"a.ts", "Greeter", "Greets.", "/** Greets. */"}, {"a.py", "Foo", "A comment", "# A comment"}, {"A.java", "A", "Doc.", "/** Doc. */"},
			{"a.rs", "S", "Doc of S", "/// Doc of S"}, {"a.c", "add", "adds", "/* adds */"}, {"a.cpp", "ns.sub.Box", "Doc", "/// Doc"},
			{"a.php", "User", "Doc", "/** Doc */"}, {"a.rb", "M", "Doc", "# Doc"}, {"a.sql", "public.users", "users", "-- users"},
		} {
			text := fixture(t, c.file)
			f := mustParse(t, p, c.file, text)
			d := find(t, f, c.name)
			require.Equal(t, c.doc, d.Doc, c.file)
			require.True(t, strings.HasPrefix(text[d.StartByte:], c.first), c.file)
		}
		f := mustParse(t, p, "a.py", fixture(t, "a.py"))
		require.Equal(t, "Doc of method.", find(t, f, "Foo.method").Doc)
		require.Equal(t, "Module doc.", f.Doc)
		f = mustParse(t, p, "a.go", "// Far away.\n\n// Near.\nfunc F() {} // after\nvar x = 1\n")
		require.Equal(t, "Near.", find(t, f, "F").Doc)
		require.Empty(t, find(t, f, "x").Doc)
		require.Equal(t, "Far away.", f.Doc)
	})

	t.Run("ParentsAreKnown", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			file, name          string
			extends, implements []string
		}{
			{"a.ts", "Greeter", []string{"Base"}, []string{"Hello", "Other"}}, {"a.py", "Foo", []string{"Base"}, nil},
			{"A.java", "A", []string{"Base"}, []string{"Runnable", "Comparable"}}, {"a.rs", "T", []string{"Base", "Clone"}, nil},
			{"a.cpp", "ns.sub.Box", []string{"Base", "Other"}, nil}, {"a.cs", "My.App.Foo", []string{"Base"}, []string{"IThing"}},
			{"a.php", "User", []string{"Model"}, []string{"X", "Y"}}, {"a.rb", "M.Foo", []string{"Base"}, nil},
		} {
			d := find(t, mustParse(t, p, c.file, fixture(t, c.file)), c.name)
			require.Equal(t, c.extends, d.Extends, c.file)
			require.Equal(t, c.implements, d.Implements, c.file)
		}
		f := mustParse(t, p, "a.go", "package a\ntype S struct {\n\tio.Reader\n\t*T\n\tn int\n}\ntype I interface{ M() }\nfunc (s *S) M() {}\n")
		require.Equal(t, []string{"io.Reader", "T"}, find(t, f, "S").Extends)
		require.Equal(t, []string{"struct S", "interface I", "method S.M"}, names(f))
	})

	t.Run("MarkersAreFoundInComments", func(t *testing.T) {
		t.Parallel()
		f := mustParse(t, p, "a.go", "package a\n// TODO(x): later\nvar s = \"FIXME\"\n/* a\n FIXME: now */\n// mytodo TODOS\n")
		require.Equal(t, []parse.Marker{{Kind: "TODO", Text: "(x): later", Line: 2}, {Kind: "FIXME", Text: "now", Line: 5}}, f.Markers)
		require.Len(t, f.Comments, 3)
	})

	t.Run("BrokenCodeGivesWhatParsed", func(t *testing.T) {
		t.Parallel()
		f := mustParse(t, p, "a.go", "package a\n\nfunc A() {}\n\nfunc ( {{{ \n\nfunc B() {}\n")
		require.True(t, f.HasError)
		require.Contains(t, names(f), "function A")
		f = mustParse(t, p, "a.py", "def a():\n  return (\n\nclass B:\n  def c(self): pass\n")
		require.NotEmpty(t, f.Language)
		for _, file := range []string{"a.ts", "a.py", "A.java", "a.rs", "a.c", "a.cpp", "a.cs", "a.php", "a.rb", "a.sql"} {
			text := fixture(t, file)
			for i := 0; i < len(text); i += 7 {
				mustParse(t, p, file, text[:i])
				mustParse(t, p, file, text[i:])
			}
		}
	})

	t.Run("SqlOfAnUnknownDialectIsCutAtStatements", func(t *testing.T) {
		t.Parallel()
		text := "-- head\n\n-- about f\nCREATE OR REPLACE FUNCTION a.f() RETURNS trigger LANGUAGE plpgsql AS $fn$\nBEGIN\n  IF x THEN PERFORM ';'; END IF;\nEND\n$fn$;\n" +
			"/* two */ GRANT ALL ON t TO \"a;b\";\nCREATE POLICY p ON t USING (a = ';' AND (b));\nWEIRD @@ !! ;\n select 'unfinished"
		f := mustParse(t, p, "x.sql", text)
		require.True(t, f.HasError)
		require.Equal(t, "function a.f", names(f)[0])
		require.Equal(t, "about f", f.Decls[0].Doc)
		require.Len(t, f.Decls, 5)
		require.Contains(t, names(f), "variable p")
	})

	t.Run("SqlDialectsEndStatementsInTheirOwnWays", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			dialect, text string
			want          []string
		}{
			{"MySQL", "DROP TABLE IF EXISTS x;\nDELIMITER //\n-- adds\nCREATE DEFINER=`root`@`%` PROCEDURE add_role(IN n VARCHAR(9))\nBEGIN\n  IF n = 'it\\'s;' THEN\n    INSERT INTO a VALUES (n);\n  END IF;\n  SELECT CASE WHEN 1 THEN 2 END;\nEND //\n\nCREATE TRIGGER roles_ai AFTER INSERT ON roles FOR EACH ROW\nBEGIN\n  SET @x = 1;\nEND//\nDELIMITER ;\nCREATE TABLE `after` (id INT);\n",
				[]string{"statement DROP TABLE IF EXISTS x;", "function add_role", "function roles_ai", "struct after"}},
			{"MySQLWithoutDelimiter", "CREATE PROCEDURE p()\nBEGIN\n  DECLARE x INT;\n  WHILE x > 0 DO\n    SET x = x - 1;\n  END WHILE;\nEND;\nCREATE TABLE t (id INT) ENGINE=InnoDB;\n",
				[]string{"function p", "struct t"}},
			{"TransactSQL", "USE shop\nGO\nCREATE OR ALTER PROCEDURE [dbo].[CancelOrder] @id INT\nAS\nBEGIN\n  SET NOCOUNT ON;\n  BEGIN TRANSACTION;\n  UPDATE o SET s = 'GO' WHERE id = @id;\n  COMMIT;\nEND\nGO\n\nCREATE VIEW dbo.OpenOrders AS\nSELECT a, b FROM o\nGO\nCREATE TABLE [dbo].[Order Lines] (id INT)\nCREATE TABLE dbo.Last (id INT)\nGO\n",
				[]string{"statement USE shop", "function dbo.CancelOrder", "type dbo.OpenOrders", "struct dbo.OrderLines", "struct dbo.Last"}},
			{"Oracle", "CREATE OR REPLACE PACKAGE BODY billing AS\n  g NUMBER := 10 / 2;\n  PROCEDURE charge(p NUMBER) IS\n    v NUMBER;\n    PROCEDURE local_one IS BEGIN NULL; END;\n  BEGIN\n    IF p > 0 THEN v := q'[it's;]'; END IF;\n  END charge;\n\n  FUNCTION total RETURN NUMBER IS\n  BEGIN\n    RETURN 1;\n  END total;\nBEGIN\n  g := 1;\nEND billing;\n/\n\nCREATE TABLE ledger (id NUMBER);\nDECLARE\n  x NUMBER;\nBEGIN\n  x := 1;\nEND;\n/\nCREATE TABLE last_one (id NUMBER);\n",
				[]string{"module billing", "function billing.charge", "function billing.total", "struct ledger", "statement DECLARE x NUMBER; BEGIN x := 1; END;", "struct last_one"}},
			{"OracleWithoutSlash", "CREATE OR REPLACE PROCEDURE p IS\n  v NUMBER;\nBEGIN\n  v := 1;\nEND p;\nCREATE TABLE t (id NUMBER);\n", []string{"function p", "struct t"}},
			{"Firebird", "SET TERM ^ ;\nCREATE PROCEDURE p AS BEGIN x = 1; END^\nSET TERM ; ^\nCREATE TABLE t (id INT);\n", []string{"function p", "struct t"}},
			{"ASOfOtherKinds", "CREATE PROCEDURE p AS SELECT a AS x, b AS y FROM t;\nCREATE TRIGGER tr AFTER UPDATE ON a REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION f();\nCREATE FUNCTION f(begin date, x text) RETURNS int AS 'SELECT 1' LANGUAGE sql;\nCREATE TRIGGER u BEFORE INSERT ON a BEGIN SELECT NEW.end; END;\nCREATE TABLE t (id int);\n",
				[]string{"function p", "function tr", "function f", "function u", "struct t"}},
			{"SQLite", "CREATE TRIGGER tr AFTER INSERT ON a BEGIN\n  UPDATE b SET x = CASE WHEN 1 THEN 2 ELSE 3 END;\n  DELETE FROM c;\nEND;\nCREATE TABLE t (id INT);\n", []string{"function tr", "struct t"}},
			{"Postgres", "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC\n  SELECT 1;\n  SELECT 2;\nEND;\nCREATE FUNCTION g() RETURNS void AS $x$ BEGIN; $x$ LANGUAGE plpgsql;\nCREATE POLICY event ON t AS PERMISSIVE USING (true);\nCREATE TABLE t (id int);\nBEGIN;\nCOMMIT;\n",
				[]string{"function f", "function g", "variable event", "struct t", "statement BEGIN;", "statement COMMIT;"}},
		} {
			f := mustParse(t, p, "x.sql", c.text)
			require.Equal(t, c.want, names(f), c.dialect)
			end := 0
			for _, d := range f.Decls {
				require.GreaterOrEqual(t, d.StartByte, end, c.dialect)
				end = d.EndByte
			}
		}
		f := mustParse(t, p, "x.sql", "DELIMITER //\n-- adds a role\nCREATE PROCEDURE p()\nBEGIN\n  SELECT 1;\nEND //\n")
		require.Equal(t, "adds a role", f.Decls[0].Doc)
	})

	t.Run("DocumentsHaveHeadings", func(t *testing.T) {
		t.Parallel()
		f := mustParse(t, p, "README.md", "intro\n\n# One\ntext\n```\n# not\n```\n## Two ##\nSet\n===\nx\n\nSub\n---\n- a\n---\n")
		require.Equal(t, []string{"heading One", "heading One.Two", "heading Set", "heading Set.Sub"}, names(f))
		require.Equal(t, parse.Documentation, f.Category)
		require.Equal(t, parse.Indented, f.Layout)
		require.Equal(t, 10, find(t, f, "Set").EndLine-find(t, f, "Set").StartLine+3)
	})

	t.Run("WhatOnlyLooksLikeAHeadingIsNone", func(t *testing.T) {
		t.Parallel()
		for text, want := range map[string][]string{
			"---\ntitle: x\nlast: y\n---\n\n# One\n":                     {"heading One"},
			"+++\ntitle = 1\n+++\n# One\n":                               {"heading One"},
			"---\nnot: closed\n\n# One\n":                                {"heading One"},
			"<!--\n# no\n\nno\n--\n-->\n# One\n<!-- x --> \n## Two\n":    {"heading One", "heading One.Two"},
			"<pre>\n# no\n</pre>\n<script>\n# no\n</script>\n# One\n":    {"heading One"},
			"   # One #\n    # code\n  Two\n  ---\n":                     {"heading One", "heading One.Two"},
			"# C#\n## F# ##\n":                                           {"heading C#", "heading C#.F#"},
			"~~~~\n# no\n~~~\n# no\n~~~~\n# One\n":                       {"heading One"},
			"```sh\n# no\n``` x\n# no\n```\n# One\n``` a ``` b\n# Two\n": {"heading One", "heading Two"},
			"- x\n  ```\n  # no\n  ```\n# One\n":                         {"heading One"},
			"#no\n####### no\n#\n":                                       nil,
		} {
			require.Equal(t, want, names(mustParse(t, p, "a.md", text)), text)
		}
	})

	t.Run("ConfigurationHasTopLevelKeys", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			path, text string
			want       []string
		}{
			{"a.json", "{\n  \"a\": {\"x\": 1},\n  \"b\": [1, \"c: d\"],\n  \"e\\\"\": \"{\"\n}\n", []string{"key a", "key b", "key e\\\""}},
			{"tsconfig.json", "// c\n{ /* d */ \"a\": 1,\n  \"b\": \"//\" }\n", []string{"key a", "key b"}},
			{"a.yaml", "# about\na:\n  x: 1\n\n'b': 2\n- c\n---\nd: |\n  e: f\n", []string{"key a", "key b", "key c", "key ---", "key d"}},
			{"a.toml", "# about\ntop = 1\n[a.b]\nx = 1\n[[c]] # d\ny = \"\"\"\n[no]\n\"\"\"\n", []string{"key top", "key a.b", "key c"}},
			{"a.ini", "; x\n[s]\nk=v\n", []string{"key s"}},
			{".env", "A=1\nexport B=2\n", []string{"key A", "key B"}},
		} {
			f := mustParse(t, p, c.path, c.text)
			require.Equal(t, c.want, names(f), c.path)
			require.Equal(t, parse.Config, f.Category, c.path)
		}
		f := mustParse(t, p, "a.json", "{\n  \"a\": [\n    {\n      \"b\": 1\n    },\n    {\n      \"b\": 2\n    }\n  ]\n}\n")
		require.NotEmpty(t, f.Cuts)
	})

	t.Run("UnknownTextsAreText", func(t *testing.T) {
		t.Parallel()
		f := mustParse(t, p, "notes.txt", "a\nb")
		require.Equal(t, "text", f.Language)
		require.Equal(t, parse.Text, f.Category)
		require.Equal(t, 2, f.Lines)
		require.False(t, f.Structured)
		require.Zero(t, mustParse(t, p, "x", "").Lines)
	})

	t.Run("GeneratedCodeIsMarked", func(t *testing.T) {
		t.Parallel()
		require.True(t, mustParse(t, p, "a.go", "// Code generated by x. DO NOT EDIT.\npackage a\n").Generated)
		require.False(t, mustParse(t, p, "a.go", "package a\n\n\n\n\n\n// Code generated\n").Generated)
	})

	t.Run("LimitsAreErrorsOfTheFile", func(t *testing.T) {
		t.Parallel()
		_, err := p.Parse(context.Background(), "a.go", strings.Repeat("x", 100), parse.Options{MaxBytes: 99})
		require.ErrorIs(t, err, parse.ErrTooLarge)
		big := "package a\n" + strings.Repeat("var x = f(1, 2, 3)\n", 50_000)
		_, err = p.Parse(context.Background(), "a.go", big, parse.Options{MaxBytes: 1 << 24, Timeout: time.Millisecond})
		require.ErrorIs(t, err, parse.ErrTimeout)
		mustParse(t, p, "a.go", "package a\n") // the engine works on
	})

	t.Run("ACancelledParseStops", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		big := "package a\n" + strings.Repeat("var x = f(1, 2, 3)\n", 300_000)
		go cancel()
		_, err := p.Parse(ctx, "a.go", big, parse.Options{MaxBytes: 1 << 24, Timeout: time.Minute})
		require.ErrorIs(t, err, context.Canceled)
		_, err = p.Parse(ctx, "a.go", "package a", parse.Options{})
		require.ErrorIs(t, err, context.Canceled)
	})

	t.Run("DeepNestingNeitherCrashesNorHangs", func(t *testing.T) {
		t.Parallel()
		for _, file := range []string{"a.go", "a.ts", "a.py", "A.java", "a.rs", "a.c", "a.cpp", "a.cs", "a.php", "a.rb", "a.sql", "a.json", "a.md", "a.yaml"} {
			for _, unit := range []string{"(", "[", "{", "f(", "a{", "<", "\"", "/*", "#", "if x {\n", "`${", "<?php ", "$a$ ", "- "} {
				_, err := p.Parse(context.Background(), file, strings.Repeat(unit, 3000), parse.Options{Timeout: time.Second})
				if err != nil {
					require.ErrorIs(t, err, parse.ErrTimeout)
				}
			}
		}
	})

	t.Run("SourcesOfGoParse", func(t *testing.T) {
		t.Parallel()
		for _, f := range sources(t, 4<<20, 37, ".go", ".c", ".h", ".js", ".py", ".md", ".css", ".html", ".s") {
			mustParse(t, p, f.path, strings.ToValidUTF8(f.text, "?"))
		}
	})

	t.Run("TheSameTextGivesTheSameFile", func(t *testing.T) {
		t.Parallel()
		text := fixture(t, "a.ts")
		want := mustParse(t, p, "a.ts", text)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					got, err := p.Parse(context.Background(), "a.ts", text, parse.Options{})
					if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
						t.Error("differs", err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// resident returns the memory of this process in bytes, C's included.
func resident(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc")
	}
	var total, pages int
	_, err = fmt.Sscan(string(b), &total, &pages)
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

func TestParseKeepsNoMemory(t *testing.T) {
	p := parse.New()
	text := "package a\n" + strings.Repeat("func F(a int) int { return g(a, 1) }\n", 1500)
	round := func() {
		for range 20 {
			_, err := p.Parse(context.Background(), "a.go", text, parse.Options{})
			require.NoError(t, err)
		}
		runtime.GC()
	}
	round()
	before := resident(t)
	for range 4 {
		round()
	}
	require.Less(t, resident(t)-before, 60<<20, "a leaked tree has some MB, eighty of them were made")
	p.Close()
	_, err := p.Parse(context.Background(), "a.go", text, parse.Options{})
	require.NoError(t, err, "a closed parser still parses")
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"a.go": "go", "x/Makefile": "makefile", "Dockerfile": "dockerfile", "Dockerfile.dev": "dockerfile", "b.H": "c", "a.kt": "kotlin", "a.swift": "swift",
		".env.local": "dotenv", "a.h": "c", "go.mod": "go-module", "a.fs": "f#", "CMakeLists.txt": "cmake", "LICENSE": "text", "a.unknownext": "text", "a.scala": "scala", "x.cs": "csharp",
	} {
		if want == "f#" {
			continue // enry finds the extension ambiguous
		}
		require.Equal(t, want, parse.Language(path, ""), path)
	}
	require.Equal(t, "python", parse.Language("run", "#!/usr/bin/env python3\nprint()\n"))
	require.Equal(t, "shell", parse.Language("run", "#!/bin/bash"))
	require.Equal(t, "cpp", parse.Language("a.h", "#pragma once\nnamespace x {\n"))
	require.True(t, slices.Contains([]string{"text"}, parse.Language("noext", "hello")))
}

func TestBoundaries(t *testing.T) {
	t.Parallel()
	f := mustParse(t, parser(t), "a.go", "package a\n\nimport \"fmt\"\n\n// F.\nfunc F() {\n\tfmt.Println()\n}\n\nfunc G() {}\n")
	require.Equal(t, []int{25, 60}, f.Boundaries())
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"a.ts", "a.py", "A.java", "a.rs", "a.c", "a.cpp", "a.cs", "a.php", "a.rb", "a.sql"} {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		require.NoError(f, err)
		f.Add(n, string(b))
	}
	f.Add("a.md", "# a\n```\nx\n===\n")
	f.Add("a.json", "{\"a\": [1, {\"b\": \"\\\"\"}]}")
	f.Add("a.yaml", "a:\n- b\n---\n")
	f.Add("a.toml", "[a]\nb = '''\n'''")
	p := parser(f)
	f.Fuzz(func(t *testing.T, path, text string) {
		file, err := p.Parse(context.Background(), path, text, parse.Options{Timeout: 5 * time.Second})
		if err != nil {
			return
		}
		check(t, file, text)
	})
}
