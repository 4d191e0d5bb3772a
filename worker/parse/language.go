package parse

import (
	"path"
	"strings"

	"github.com/go-enry/go-enry/v2"
)

// byExtension decides the extensions that enry finds ambiguous, and the common ones without asking it.
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
	"tsconfig.json": "jsonc", "codeowners": "text",
}

var renamed = map[string]string{"C#": "csharp", "C++": "cpp", "F#": "fsharp", "Objective-C++": "objective-cpp"}

// Language returns the id of a file's language by its name, its extension or its shebang, and "text" where none tells.
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
	if id, ok := byExtension[ext]; ok {
		return id
	}
	if name, _ := enry.GetLanguageByFilename(base); name != "" {
		return id(name)
	}
	if ext != "" {
		if name, _ := enry.GetLanguageByExtension(base); name != "" {
			return id(name)
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

// header tells C++'s headers from C's by words that C has not.
func header(text string) string {
	for l := range strings.Lines(text[:min(len(text), 64<<10)]) {
		l = strings.TrimSpace(l)
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
