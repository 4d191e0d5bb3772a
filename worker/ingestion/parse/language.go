package parse

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-enry/go-enry/v2"
)

// byExtension decides the extensions that enry considers ambiguous, and the common ones without calling enry.
var byExtension = map[string]string{
	".go": "go", ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx", ".js": "javascript",
	".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".py": "python", ".pyi": "python", ".java": "java",
	".rs": "rust", ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp", ".hxx": "cpp",
	".cs": "csharp", ".php": "php", ".phtml": "php", ".rb": "ruby", ".rake": "ruby", ".gemspec": "ruby", ".sql": "sql",
	".md": "markdown", ".markdown": "markdown", ".mdx": "markdown", ".json": "json", ".yaml": "yaml", ".yml": "yaml",
	".toml": "toml", ".ini": "ini", ".cfg": "ini", ".conf": "ini", ".properties": "properties", ".env": "dotenv",
	".txt": "text", ".html": "html", ".htm": "html", ".css": "css", ".svg": "svg", ".xml": "xml", ".sh": "shell", ".s": "assembly",
	".m": "objective-c", ".pl": "perl", ".r": "r", ".rst": "restructuredtext", ".adoc": "asciidoc", ".tf": "hcl", ".proto": "protocol-buffer",
	".jsonc": "jsonc", ".json5": "json5", ".webmanifest": "json", ".geojson": "json", ".lock": "text",
}

var byName = map[string]string{
	"makefile": "makefile", "gnumakefile": "makefile", "dockerfile": "dockerfile", ".env": "dotenv", ".editorconfig": "ini",
	".gitconfig": "ini", "gemfile": "ruby", "rakefile": "ruby", "package-lock.json": "json", "go.mod": "go-module", "go.sum": "go-checksums",
	"composer.lock": "json", "cargo.lock": "toml", "poetry.lock": "toml", "pipfile": "toml", "license": "text", "readme": "text",
	"tsconfig.json": "jsonc", "codeowners": "text", "cmakelists.txt": "cmake", "pipfile.lock": "json", "flake.lock": "json", "deno.lock": "json",
}

// usual is the default language of an extension that several languages share. It applies if the content does not decide, or is not known
// yet.
var usual = map[string]string{
	".sol": "solidity", ".f": "fortran", ".for": "fortran", ".v": "verilog", ".inc": "php", ".pp": "puppet", ".cl": "common-lisp", ".frm": "visual-basic-6.0",
	".bas": "vba", ".cls": "vba", ".sls": "saltstack", ".d": "d", ".fs": "fsharp", ".ex": "elixir", ".t": "perl", ".ls": "livescript", ".gd": "gdscript", ".gs": "javascript", ".ml": "ocaml",
	".e": "eiffel", ".sc": "scala", ".as": "actionscript", ".l": "lex", ".pro": "prolog", ".st": "smalltalk", ".b": "brainfuck", ".x": "linker-script", ".mod": "modula-2",
	".asc": "asciidoc", ".ms": "roff", ".n": "roff", ".lsp": "common-lisp", ".lisp": "common-lisp", ".asm": "assembly", ".i": "assembly", ".spec": "rpm-spec", ".tst": "gap",
	".cp": "cpp", ".cgi": "perl", ".fcgi": "perl", ".properties": "properties", ".res": "rescript", ".fr": "frege", ".j": "objective-j", ".mc": "monkey-c", ".p": "openedge-abl",
	".1": "roff", ".tpl": "smarty", ".ncl": "ncl", ".nl": "newlisp", ".g": "gap", ".rno": "roff", ".txt": "text",
}

// disputed are extensions that byExtension assigns to the usual language although others share them; only clear signs of another language
// override it.
var disputed = map[string]*regexp.Regexp{
	".m":  regexp.MustCompile(`(?m)^[ \t]*(?:%|function\b|end\b|:- |\(\*|[ \t]*;)`),
	".pl": regexp.MustCompile(`(?m)^[^#\n]*:-|^use v6|^(?:multi|class|role)\b`),
	".r":  regexp.MustCompile(`(?im)^[ \t]*rebol\b|^rez\b|^#include`),
	".rs": regexp.MustCompile(`(?m)^#pragma (?:version|rs)|^<\?xml`),
	".ts": regexp.MustCompile(`\A\s*(?:<\?xml|<!DOCTYPE TS|<TS\b)`),
	".cs": regexp.MustCompile(`(?m)methodsFor:`),
	".md": regexp.MustCompile(`(?m)^\(define_`),
}

// contentBytes is how much of a text is read to detect its language.
const contentBytes = 64 << 10

var renamed = map[string]string{"C#": "csharp", "C++": "cpp", "F#": "fsharp", "Objective-C++": "objective-cpp"}

// Language returns the id of a file's language by its name, its extension or its shebang, and "text" if none decides.
func Language(file, text string) string {
	base := path.Base(file)
	lower := strings.ToLower(base)
	if id, ok := byName[lower]; ok {
		return id
	}
	if strings.HasPrefix(lower, ".env.") || strings.HasPrefix(lower, "dockerfile.") {
		return map[byte]string{'.': "dotenv", 'd': "dockerfile"}[lower[0]]
	}
	ext := path.Ext(lower)
	if ext == ".h" {
		return header(text)
	}
	head := text[:min(len(text), contentBytes)]
	if id, ok := byExtension[ext]; ok {
		if sign := disputed[ext]; sign != nil && sign.MatchString(head) {
			return shared(base, ext, head, id)
		}
		return id
	}
	if name, _ := enry.GetLanguageByFilename(base); name != "" {
		return id(name)
	}
	if ext != "" {
		switch names := enry.GetLanguagesByExtension(base, nil, nil); len(names) {
		case 0:
		case 1:
			return id(names[0])
		default:
			return shared(base, ext, head, cmp.Or(usual[ext], id(names[0])))
		}
	}
	if strings.HasPrefix(text, "#!") {
		line, _, _ := strings.Cut(text[:min(len(text), 256)], "\n")
		if name, _ := enry.GetLanguageByShebang([]byte(line + "\n")); name != "" {
			return id(name)
		}
	}
	return "text"
}

func id(name string) string {
	if r, ok := renamed[name]; ok {
		return r
	}
	return strings.ReplaceAll(strings.ToLower(name), " ", "-")
}

// shared returns the language of an extension that several languages share: by an editor line in the text, by features that only one
// language has, and by its words, as far as enry knows any. It returns fallback if none decides.
func shared(base, ext, head, fallback string) string {
	if strings.TrimSpace(head) == "" {
		return fallback
	}
	if strings.Contains(head[:min(len(head), 4096)], "<?php") {
		return "php"
	}
	content := []byte(head)
	names := enry.GetLanguagesByExtension(base, nil, nil)
	if m := enry.GetLanguagesByModeline(base, content, nil); len(m) == 1 {
		return id(m[0])
	}
	lower := base[:len(base)-len(ext)] + ext // enry's rules expect lower case
	if found := enry.GetLanguagesByContent(lower, content, names); len(found) == 1 {
		return id(found[0])
	} else if len(found) > 1 {
		names = found
	}
	if byExtension[ext] != "" || len(strings.Fields(head)) < 8 {
		return fallback
	}
	if name, _ := enry.GetLanguageByClassifier(content, names); name != "" && slices.Contains(names, name) {
		return id(name)
	}
	return fallback
}

// header distinguishes headers of C++ and Objective-C from those of C by words that C does not have.
func header(text string) string {
	for l := range strings.Lines(text[:min(len(text), 64<<10)]) {
		l = strings.TrimSpace(l)
		for _, w := range [...]string{"@interface ", "@protocol ", "@class ", "#import "} {
			if strings.HasPrefix(l, w) {
				return "objective-c"
			}
		}
		for _, w := range [...]string{"class ", "namespace ", "template <", "template<", "using ", "public:", "private:", "protected:"} {
			if strings.HasPrefix(l, w) {
				return "cpp"
			}
		}
	}
	return "c"
}

var languageCategory = map[string]Category{
	"markdown": Documentation, "restructuredtext": Documentation, "asciidoc": Documentation, "org": Documentation, "tex": Documentation,
	"text": Text, "json": Config, "jsonc": Config, "json5": Config, "yaml": Config, "toml": Config, "ini": Config, "properties": Config,
	"dotenv": Config, "hcl": Config, "go-module": Config, "go-checksums": Config, "xml": Config, "csv": Text, "git-attributes": Config,
	"ignore-list": Config, "nix": Config, "dockerfile": Config, "java-properties": Config, "git-config": Config, "editorconfig": Config,
}

// nature returns the category of a file.
func nature(file, language string) Category {
	c, ok := languageCategory[language]
	if !ok {
		c = Code
	}
	if c == Text {
		base := strings.ToLower(path.Base(file))
		lower := "/" + strings.ToLower(file)
		for _, w := range [...]string{"readme", "license", "licence", "changelog", "contributing", "authors", "notice", "copying"} {
			if strings.HasPrefix(base, w) {
				c = Documentation
			}
		}
		if strings.Contains(lower, "/docs/") || strings.Contains(lower, "/doc/") {
			c = Documentation
		}
	}
	return c
}
