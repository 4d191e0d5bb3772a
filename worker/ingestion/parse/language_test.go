package parse_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/parse"
)

func TestLanguageByContent(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"a.sol", "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.0;\ncontract A { uint x; }\n", "solidity"},
		{"a.sol", "", "solidity"},
		{"a.gbr.sol", "G04 Layer*\n%FSLAX24Y24*%\n%MOIN*%\nD10*\n", "gerber-image"},
		{"a.f", "      PROGRAM MAIN\n      INTEGER I\nC     COMMENT\n      END\n", "fortran"},
		{"A.FOR", "      SUBROUTINE X(A)\n      REAL A\n      RETURN\n      END\n", "fortran"},
		{"a.f90", "program main\n  print *, 1\nend program\n", "fortran-free-form"},
		{"a.v", "module counter(input clk, output reg [7:0] q);\n  always @(posedge clk) q <= q + 1;\nendmodule\n", "verilog"},
		{"a.v", "Require Import Arith.\nTheorem plus_O_n : forall n : nat, 0 + n = n.\nProof. intros n. reflexivity. Qed.\n", "rocq-prover"},
		{"a.inc", "<?php\nfunction a() { return 1; }\n", "php"},
		{"a.inc", "; macros\n%macro push 1\n  mov eax, ebx\n%endmacro\nsection .text\n", "assembly"},
		{"a.pp", "unit A;\ninterface\nuses SysUtils;\nimplementation\nend.\n", "pascal"},
		{"a.pp", "class apache {\n  package { 'httpd':\n    ensure => installed,\n  }\n}\n", "puppet"},
		{"a.cl", "__kernel void add(__global const float *a, __global float *b) {\n  int i = get_global_id(0);\n  b[i] = a[i];\n}\n", "opencl"},
		{"a.cl", "(defun add (a b)\n  \"Adds.\"\n  (+ a b))\n(defpackage :x)\n", "common-lisp"},
		{"a.frm", "VERSION 5.00\nBegin VB.Form Form1\n   Caption = \"A\"\nEnd\nAttribute VB_Name = \"Form1\"\n", "visual-basic-6.0"},
		{"a.bas", "Attribute VB_Name = \"Module1\"\nOption Explicit\nSub A()\nEnd Sub\n", "visual-basic-6.0"},
		{"CMakeLists.txt", "project(x)\n", "cmake"},
		{"sub/Pipfile.lock", "{}", "json"},
		{"a.m", "#import <Foundation/Foundation.h>\n@implementation A\n@end\n", "objective-c"},
		{"a.m", "function y = f(x)\n% doubles\ny = 2*x;\nend\n", "matlab"},
		{"a.pl", "#!/usr/bin/perl\nuse strict;\nmy $x = 1;\n", "perl"},
		{"a.pl", "parent(tom, bob).\ngrand(X, Z) :- parent(X, Y), parent(Y, Z).\n", "prolog"},
		{"a.ts", "<?xml version=\"1.0\"?>\n<!DOCTYPE TS>\n<TS version=\"2.0\"></TS>\n", "xml"},
		{"a.ts", "export const a = 1\n", "typescript"},
		{"a.rs", "fn main() {}\n", "rust"},
		{"a.h", "#import <UIKit/UIKit.h>\n@interface A : NSObject\n@end\n", "objective-c"},
		{"a.h", "int a(void);\n", "c"},
		{"a.d", "module a;\nimport std.stdio;\nvoid main() { writeln(1); }\n", "d"},
		{"a.fs", "module A\nlet add a b = a + b\nopen System\n", "fsharp"},
		{"a.t", "use Test::More;\nuse strict;\nmy $x = 1;\nok(1);\n", "perl"},
		{"top.sls", "base:\n  '*':\n    - apache\n", "saltstack"},
		{"a.unknown", "x", "text"},
	} {
		if got := parse.Language(c.file, c.text); got != c.want {
			t.Errorf("%s: %s, not %s: %q", c.file, got, c.want, c.text)
		}
	}
}

func TestIndentationHasMeaning(t *testing.T) {
	p := parse.New()
	defer p.Close()
	for file, want := range map[string]bool{"a.f": true, "a.for": true, "a.f90": true, // nothing is known of its strings
		"top.sls": true, "x.unity": true, "a.raml": true, "a.cob": true, "a.py": true, "a.go": false,
		"a.sage": true, "Snakefile": true, "a.cson": true, "a.purs": true} {
		text := "a\n"
		if file == "top.sls" {
			text = "base:\n  '*':\n    - apache\n"
		}
		f, err := p.Parse(t.Context(), file, text, parse.Options{})
		require.NoError(t, err)
		require.Equal(t, want, f.Layout < parse.Levels, file)
	}
}
