package parse

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRepairOfHostileTextsIsLinear: the repair of a text that a grammar failed on takes at most a few passes.
func TestRepairOfHostileTextsIsLinear(t *testing.T) {
	t.Parallel()
	for _, part := range []string{
		`\"`, `\'`, `\\\"`, `"`, `'`, `@"`, `"""`, `/*`, `//`, "#", "(", "{", "class A(", "class A(/*", "class A(\"", "struct A;", "interface A { ", "enum A {", "enum A { const B = ", "const ",
		"const A = ", "const A B = ", "$a { get", "$a = ", "$a { get { ", "public $a { get => 1; }", "private(set) ", "#if A\n", "#if A\n{\n#else\n{{\n#endif\n", "#else\n", "#endif\n", "#if A \\\n", " ", "\n", "a",
	} {
		for _, language := range []string{"csharp", "php", "c", "cpp"} {
			for _, text := range []string{strings.Repeat(part, hostileSize/len(part)), "enum E { " + strings.Repeat(part, hostileSize/len(part)) + " }", "\"" + strings.Repeat(part, hostileSize/len(part))} {
				began := time.Now()
				better, _ := repaired(language, text)
				require.Less(t, time.Since(began), 5*time.Second, "%q in %s", part, language)
				require.Len(t, better, len(text)+1)
			}
		}
	}
}

// TestRepairKeepsStrings: outside of strings a quote after a backslash begins no string; inside a string it does not end
// it.
func TestRepairKeepsStrings(t *testing.T) {
	t.Parallel()
	text := `class A { string a = "\"class B(int x);\" \\"; char c = '\''; } class C(int x);` + "\n"
	better, changed := repaired("csharp", text)
	require.True(t, changed)
	require.Equal(t, strings.Replace(text, "class C(int x);\n", "class C(int x){}", 1)+"\n", better)
}
