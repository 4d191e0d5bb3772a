package optimize_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/chunk"
)

// inner is text of another language inside strings: its white space is part of the enclosing program.
const inner = "services:\n  web:\n    image: shop \n\n\n\n    ports: [80]\n      # odd\n\tend\n"

// holders put text into a string of their language, indented by four spaces as usual for such files. %s is the text.
var holders = []struct{ path, text string }{
	{"shell.sh", "if true; then\n    cat > file <<EOF\n%sEOF\n    echo 'it''s' # don't\nfi\n"},
	{"dash.sh", "f() {\n    cat <<-\"END\" | tee x\n%s\tEND\n    x=\"$(printf '%%s' \"don't\")\"\n}\n"},
	{"single.sh", "g() {\n    awk '\n%s'\n    run\n}\n"},
	{"heredoc.php", "<?php\nfunction f() {\n    $x = <<<TEXT\n%sTEXT;\n    return $x;\n}\n"},
	{"nowdoc.php", "<?php\nfunction f() {\n    $x = <<<'TEXT'\n%sTEXT;\n    return $x;\n}\n"},
	{"outside.php", "<?php if ($a): ?>\n%s<?php endif;\n"},
	{"squiggle.rb", "def f\n    x = <<~TEXT\n%s    TEXT\n    x\nend\n"},
	{"percent.rb", "def f\n    x = %%q(\n%s)\n    x\nend\n__END__\n    data\n  more   \n"},
	{"template.js", "function f() {\n    const a = `\n%s`;\n    return a + `${b(`x`)}`;\n}\n"},
	{"template.ts", "export class A {\n    private a = sql`\n%s`;\n    f(): number {\n        return 1;\n    }\n}\n"},
	{"type.ts", "export interface A {\n    f(): `\n%s`;\n    g(): number;\n}\n"},
	{"raw.go", "package a\n\nfunc f() string {\n\tx := `\n%s`\n\treturn x\n}\n"},
	{"triple.py", "def f():\n    x = \"\"\"\n%s\"\"\"\n    return x\n"},
	{"raw.cpp", "int main() {\n    auto x = R\"yaml(\n%s)yaml\";\n    return 0;\n}\n"},
	{"raw.rs", "fn main() {\n    let x = r#\"\n%s\"#;\n    f('\"', x);\n}\n"},
	{"plain.rs", "fn main() {\n    let x = \"\n%s\";\n    f(x);\n}\n"},
	{"verbatim.cs", "class A {\n    string x = @\"\n%s\";\n    void F() {\n        G();\n    }\n}\n"},
	{"raw.cs", "class A {\n    string x = \"\"\"\"\n%s\"\"\"\";\n    void F() {\n        G();\n    }\n}\n"},
	{"Block.java", "class A {\n    String x = \"\"\"\n%s\"\"\";\n    void f() {\n        g();\n    }\n}\n"},
	{"block.kt", "class A {\n    val x = \"\"\"\n%s\"\"\"\n    fun f() {\n        g('\"')\n    }\n}\n"},
	{"block.swift", "class A {\n    let x = #\"\"\"\n%s\"\"\"#\n    func f() {\n        g()\n    }\n}\n"},
	{"block.scala", "class A {\n    val x = \"\"\"\n%s\"\"\"\n    def f() =\n        g()\n}\n"},
	{"block.groovy", "class A {\n    def x = '''\n%s'''\n    def f() {\n        g()\n    }\n}\n"},
	{"block.dart", "class A {\n    var x = '''\n%s''';\n    f() {\n        g();\n    }\n}\n"},
	{"long.lua", "function f()\n    local x = [==[\n%s]==]\n    return x\nend\n"},
	{"here.tf", "resource \"a\" \"b\" {\n    x = <<EOT\n%sEOT\n    y = 1\n}\n"},
	{"here.ps1", "function F {\n    $x = @\"\n%s\"@\n    return $x\n}\n"},
	{"doc.ex", "defmodule A do\n    @doc \"\"\"\n%s\"\"\"\n    def f do\n        g()\n    end\nend\n"},
	{"long.toml", "[a]\n    x = '''\n%s'''\n    y = 1\n"},
	{"doc.graphql", "type A {\n    \"\"\"\n%s\"\"\"\n    x: Int\n}\n"},
	{"sigil.ex", "defmodule A do\n    def f, do: ~r/\"/\n    def g do\n        ~s(\n%s)\n    end\nend\n"},
	{"chars.jl", "function f()\n    c = '\"'\n    x = \"\"\"\n%s\"\"\"\nend\n"},
	{"copy.sql", "CREATE TABLE a (b text);\nCOPY a FROM stdin;\n%s\\.\nSELECT\n    1;\n"},
	{"list.lisp", "(defun f ()\n    (g \"\n%s\")\n    (h))\n"},
	{"here.pl", "sub f {\n    print <<\"EOT\";\n%sEOT\n    g();\n}\n"},
	{"dollar.sql", "CREATE FUNCTION f() RETURNS text AS $body$\n%s$body$ LANGUAGE sql;\nSELECT 1;\n"},
	{"quote.sql", "INSERT INTO a VALUES ('\n%s');\nSELECT\n    1;\n"},
	{"pre.html", "<div>\n    <pre>\n%s</pre>\n    <p>x</p>\n</div>\n"},
	{"cdata.xml", "<a>\n    <b><![CDATA[\n%s]]></b>\n    <c/>\n</a>\n"},
	{"comment.c", "int f(void) {\n    /*\n%s*/\n    return 0;\n}\n"},
	{"fence.md", "# A\n\n- b\n\n```yaml\n%s```\n"},
	{"unknown.zzz", "begin\n    x = '\n%s'\nend\n"},
	{"data.csv", "a,b\n%s"},
	{"make.mk", "define X\n%sendef\n"},
}

func TestLinesInsideOfStringsStay(t *testing.T) {
	t.Parallel()
	for _, h := range holders {
		files := []source{{h.path, fmt.Sprintf(h.text, inner)}}
		l := optimized(t, files, chunk.Semantic)
		r := l.results[h.path]
		require.Contains(t, stored(r), inner, h.path)
		l.checkAll()
	}
	macro := "#define MESSAGE \"one \\\n      two\"\n"
	l := optimized(t, []source{{"a.c", "int f(void) {\n    return 1;\n}\n" + macro}}, chunk.Semantic)
	require.Contains(t, stored(l.results["a.c"]), macro)
	block := "a:\n    run: |\n" + strings.ReplaceAll("      if x; then\n        y  \n\n\n      fi\n", "\t", " ") + "    b: \"one\n\n\n      two\"\n    c: >-\n       x\n         y\n"
	l = optimized(t, []source{{"a.yaml", block + "\n\n\nz: 1   \n"}}, chunk.Semantic)
	require.True(t, strings.HasPrefix(stored(l.results["a.yaml"]), block))
}

func TestChunksThatDifferInWhatWhiteSpaceSaysAreNoDuplicates(t *testing.T) {
	t.Parallel()
	pad := func(comment string) (b string) {
		for i := range 8 {
			b += fmt.Sprintf("%s a comment of line %d that makes the text longer than a marker would be\n", comment, i)
		}
		return b
	}
	for _, c := range []struct{ ext, comment, a, b string }{
		{"py", "#", "def f(x):\n    for y in x:\n        if y:\n            return False\n    return True\n", "def f(x):\n    for y in x:\n        if y:\n            return False\n        return True\n"},
		{"yaml", "#", "a:\n  b: 1\n  c: 2\n", "a:\n  b: 1\nc: 2\n"},
		{"hs", "--", "f x = do\n  a\n  b\n", "f x = do\n  a\n b\n"},
		{"fs", "//", "let f x =\n    a\n    b\n", "let f x =\n    a\nb\n"},
		{"nim", "#", "proc f =\n  a\n  b\n", "proc f =\n  a\nb\n"},
		{"coffee", "#", "f = ->\n  a\n  b\n", "f = ->\n  a\nb\n"},
		{"pug", "//-", "div\n  p x\n  p y\n", "div\n  p x\np y\n"},
		{"sass", "//", "a\n  b: 1\n  c\n    d: 1\n", "a\n  b: 1\nc\n    d: 1\n"},
		{"haml", "-#", "%a\n  %b\n  %c\n", "%a\n  %b\n%c\n"},
		{"slim", "/", "a\n  b\n  c\n", "a\n  b\nc\n"},
		{"mk", "#", "a:\n\tb\n\tc\n", "a:\n\tb\nc\n"},
		{"cob", "      *", "       MOVE A TO B.\n", "           MOVE A TO B.\n"},
		{"f", "C", "      X = 1\n", "     XX = 1\n"},
		{"rst", "..", "a\n\n  b\n", "a\n\nb\n"},
		{"md", "-", "- a\n  - b\n", "- a\n- b\n"},
		{"go", "//", "package a\n\nvar x = \"a  b\"\n", "package a\n\nvar x = \"a b\"\n"},
		{"go", "//", "package a\n\nvar x = `a\n\tb`\n", "package a\n\nvar x = `a\n  b`\n"},
		{"go", "//", "package a\n\nvar x = `a\n\n\nb`\n", "package a\n\nvar x = `a\n\nb`\n"},
		{"js", "//", "const x = `a \nb`;\n", "const x = `a\nb`;\n"},
		{"js", "//", "function f() {\n  return x + ++y;\n}\n", "function f() {\n  return x++ + y;\n}\n"},
		{"js", "//", "function f() {\n  return\n    x;\n}\n", "function f() {\n  return x;\n}\n"},
		{"sh", "#", "a = b\n", "a =b\n"},
		{"sh", "#", "cat <<E\n  a\nE\n", "cat <<E\na\nE\n"},
		{"sql", "--", "select 'a  b';\n", "select 'a b';\n"},
		{"rb", "#", "x = <<~E\n  a\n    b\nE\n", "x = <<~E\n  a\n  b\nE\n"},
		{"csv", "#", "a, b\n", "a,b\n"},
	} {
		files := []source{{"a." + c.ext, pad(c.comment) + c.a}, {"b." + c.ext, pad(c.comment) + c.b}}
		l := optimized(t, files, chunk.Semantic)
		for _, f := range files {
			require.Empty(t, l.results[f.path].References, "%s: %q", f.path, f.text)
		}
		l.checkAll()
	}
	// Plain indentation in a language with braces has no meaning.
	l := optimized(t, []source{{"a.ts", pad("//") + "function f() {\n    return 1;\n}\n"}, {"b.ts", pad("//") + "function f() {\n\treturn 1;\n}\n"}}, chunk.Semantic)
	require.Len(t, l.results["b.ts"].References, 1)
}

func TestImportsKeepWhatTheySay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, text, header string
		stays              []string
	}{
		"Go": {"a.go", "package a\n\nimport (\n\t\"fmt\"\n\t_ \"embed\"\n\t. \"strings\"\n\tm \"math\"\n)\n\nimport \"os\"\n\nfunc F() {}\n",
			"fmt, embed as _, strings as ., math as m, os", nil},
		"CgoKeepsItsProgram": {"a.go", "package a\n\n// #include <stdio.h>\nimport \"C\"\nimport \"encoding/json\"\nimport \"net/http\"\n", "encoding/json net/http",
			[]string{"// #include <stdio.h>\nimport \"C\"\n"}},
		"GoComments": {"a.go", "package a\n\nimport (\n\t\"fmt\"\n\t// registers itself\n\t_ \"example.com/driver\"\n)\n", "", []string{"// registers itself"}},
		"Python": {"a.py", "import os\nimport pandas as pd, json\nfrom typing import (\n    List,\n    Dict as D,\n)\nfrom . import helpers\nfrom .x import *\n\nprint(pd)\n",
			"os, pandas as pd, json, typing(List, Dict as D), .(helpers), .x(*)", nil},
		"PythonConditions": {"a.py", "from __future__ import annotations\nimport os\nimport sys\nimport json\n\nif TYPE_CHECKING:\n    import typed\ntry:\n    import fast\nexcept ImportError:\n    import slow as fast\n\ndef f():\n    import late\n",
			"os sys json", []string{"from __future__ import annotations\n", "if TYPE_CHECKING:\n    import typed\n", "try:\n    import fast\nexcept ImportError:\n    import slow as fast\n", "    import late\n"}},
		"PythonOrder":    {"a.py", "import sys\nimport os.path\nimport collections\nsys.path.insert(0, 'lib')\nimport own\n", "sys os.path collections", []string{"sys.path.insert(0, 'lib')\nimport own\n"}},
		"PythonComments": {"a.py", "import sys\nimport collections.abc\nimport encodings.idna\n\n# must come first\nimport gevent\nimport x  # noqa\n", "sys collections.abc encodings.idna", []string{"# must come first\nimport gevent\nimport x  # noqa\n"}},
		"TypeScript": {"a.ts", "import \"./polyfill\";\nimport React, { useState as use, type FC } from \"react\";\nimport * as path from \"node:path\";\nimport type { A } from \"./a\";\nimport d = require(\"d\");\nimport j from \"./j.json\" with { type: \"json\" };\nexport { b } from \"./b\";\n\nexport const x = 1;\n",
			"react(default as React, useState as use, type FC), node:path(* as path), type ./a(A)", []string{"import \"./polyfill\";\n", "import d = require(\"d\");\n", "import j from \"./j.json\" with { type: \"json\" };\n", "export { b } from \"./b\";\n"}},
		"JavaScriptErrors": {"a.js", "import { a, type B } from \"./first\";\nimport { c, d } from \"./second\";\nimport { e } from \"./third\";\n\nf();\n", "./second(c, d) ./third(e)", []string{"import { a, type B } from \"./first\";\n"}},
		"Rust": {"a.rs", "use std::collections::{HashMap, HashSet as Set};\nuse std::io::Read;\nuse std::fmt::Display;\n#[cfg(unix)]\nuse std::os::unix::fs::PermissionsExt;\npub use inner::Api;\n#[macro_use]\nextern crate log;\n\n#[cfg(windows)]\nmod win {\n    use std::x;\n}\n\npub fn mode() {}\n",
			"std::collections::{HashMap, HashSet as Set}, std::io::Read, std::fmt::Display", []string{"#[cfg(unix)]\nuse std::os::unix::fs::PermissionsExt;\n", "pub use inner::Api;\n", "#[macro_use]\nextern crate log;\n", " use std::x;\n"}},
		"C": {"a.c", "#include <stdio.h>\n#include \"own.h\"\n#include <string.h>\n#ifdef _WIN32\n#include <winsock2.h>\n#else\n#include <sys/socket.h>\n#endif\n#include <errno.h>\n\nint x;\n",
			"<stdio.h> \"own.h\" <string.h>", []string{"#ifdef _WIN32\n#include <winsock2.h>\n#else\n#include <sys/socket.h>\n#endif\n#include <errno.h>\n"}},
		"CMacros": {"a.c", "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#define _GNU_SOURCE\n#include <fcntl.h>\n\nint x;\n", "<stdio.h> <stdlib.h> <string.h>", []string{"#define _GNU_SOURCE\n#include <fcntl.h>\n"}},
		"Java":    {"A.java", "package a;\n\nimport static a.B.c;\nimport java.util.*;\nimport java.io.File;\nimport java.io.Reader;\n\nclass A {}\n", "static a.B.c, java.util.*, java.io.File, java.io.Reader", nil},
		"CSharp": {"A.cs", "global using System;\nusing System.Text;\nusing System.Linq;\nusing static System.Math;\nusing Short = A.B.C;\n#if NET\nusing System.Net;\n#endif\n\nclass A {}\n",
			"System.Text, System.Linq, static System.Math, Short = A.B.C", []string{"global using System;\n", "#if NET\nusing System.Net;\n#endif\n"}},
		"PHP": {"a.php", "<?php\nnamespace A;\n\nuse App\\Models\\User as U;\nuse function App\\f;\nuse const App\\C;\nuse App\\{B, D as E};\n\nclass X { use Trait1; }\n",
			"App\\Models\\User as U, function App\\f, const App\\C, App\\{B, D as E}", []string{"use Trait1;"}},
		"Ruby": {"a.rb", "require \"json\"\nrequire 'net/http'\nrequire 'set'\nrequire_relative \"b\"\nrequire \"win32\" if windows?\nrequire \"late\"\n\nX = 1\n", "json, net/http, set, require_relative b", []string{"require \"win32\" if windows?\nrequire \"late\"\n"}},
	} {
		l := optimized(t, []source{{c.path, c.text}}, chunk.Semantic)
		r := l.results[c.path]
		want := ""
		if c.header != "" {
			want = "imports: " + c.header + "\n"
		}
		require.Equal(t, want, r.Header, "%s: %q", name, stored(r))
		for _, s := range c.stays {
			require.Contains(t, stored(r), s, name)
		}
		require.Zero(t, r.LostTokens, name)
		l.checkAll()
	}
}

// TestMarkersLeadToStoredText has the same imports, licenses and bodies in many files, so that the target of a marker might itself have
// been replaced.
func TestMarkersLeadToStoredText(t *testing.T) {
	t.Parallel()
	imports := "import (\n\t\"own%d\"\n\t\"example.com/shop/internal/billing/invoices\"\n\t\"example.com/shop/internal/billing/payments\"\n\t\"example.com/shop/internal/customers/addresses\"\n\t\"example.com/shop/internal/warehouse/stock\"\n\t\"example.com/shop/internal/warehouse/pickers\"\n)\n"
	var files []source
	for i := range 4 {
		files = append(files, source{fmt.Sprintf("%c/a.go", 'a'+i), fmt.Sprintf("package %c\n\n"+imports+"\nfunc F%d() {}\n", 'a'+i, i, i)})
	}
	l := optimized(t, files, chunk.Semantic)
	for _, f := range files {
		for _, path := range []string{"invoices", "payments", "addresses", "stock", "pickers"} {
			require.Contains(t, stored(l.results[f.path]), path, f.path)
		}
	}
	l.checkAll()

	// The body at a duplicate's first place contains a license that an earlier file contains, too.
	body := license + "package p\n\nfunc Same(values []int) (total int) {\n\tfor _, v := range values {\n\t\ttotal += v * v\n\t}\n\treturn total\n}\n"
	l = optimized(t, []source{{"a.go", license + "package a\n\nfunc Other() {}\n"}, {"b.go", body}, {"c.go", body}}, chunk.Semantic)
	require.Equal(t, "[same as b.go:1-12]\n", stored(l.results["c.go"]))
	require.Contains(t, stored(l.results["b.go"]), "governed by a license", "one step leads to all of it")
	l.checkAll()
}

// TestGeneratedProjectsSayWhatTheirSourcesSay makes projects of copies, of copies with other white space, and of strings in strings.
func TestGeneratedProjectsSayWhatTheirSourcesSay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40 / share) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		word := func() string { return fmt.Sprintf("name%d", rnd.IntN(12)) }
		lines := func(front string) string {
			var b strings.Builder
			for range 1 + rnd.IntN(9) {
				b.WriteString(front + strings.Repeat(" ", rnd.IntN(7)) + word() + strings.Repeat(" ", rnd.IntN(2)*rnd.IntN(4)) + strings.Repeat("\n", 1+rnd.IntN(2)*rnd.IntN(4)))
			}
			return b.String()
		}
		var pool []string // bodies that are used again
		for range 6 {
			pool = append(pool, lines(""))
		}
		var files []source
		holds := map[string][]string{}
		for i := range 12 {
			h := holders[rnd.IntN(len(holders))]
			var text strings.Builder
			path := fmt.Sprintf("%02d/%s", i, h.path)
			for range 1 + rnd.IntN(4) {
				content := pool[rnd.IntN(len(pool))]
				switch rnd.IntN(3) {
				case 0: // the same with other white space
					content = strings.ReplaceAll(content, "\n ", "\n  ")
				case 1:
					content = lines("")
				}
				holds[path] = append(holds[path], content)
				text.WriteString(fmt.Sprintf(h.text, content) + "\n")
			}
			files = append(files, source{path, text.String()})
		}
		for _, s := range []chunk.Strategy{chunk.Semantic, chunk.Fixed, chunk.Recursive} {
			l := optimized(t, append([]source(nil), files...), s)
			l.checkAll()
			for path, contents := range holds {
				if strings.Contains(path, "percent.rb") || strings.Contains(path, "outside.php") || strings.Contains(path, "fence.md") {
					continue // several of them in one file are no program any more
				}
				read := strings.Join(l.read(path), "")
				for _, content := range contents {
					require.Contains(t, read, content, "seed %d, %s, %s", seed, s, path)
				}
			}
		}
	}
}
