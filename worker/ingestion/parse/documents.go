package parse

import "strings"

// section makes a declaration that begins at the start of a line and lasts until it is closed.
func section(kind Kind, name string, start, line int) Decl {
	name = clip(strings.TrimSpace(name), maxName)
	return Decl{Kind: kind, Name: name, Qualified: name, Signature: name, StartByte: start, NameByte: start, StartLine: line}
}

// frontMatter returns the end of Markdown's front matter, which is between two lines of three signs; 0 if there is none.
func frontMatter(text string) int {
	offset, mark := 0, ""
	for l := range strings.Lines(text) {
		offset += len(l)
		l = strings.TrimRight(l, " \t\r\n")
		switch {
		case mark == "" && (l == "---" || l == "+++"):
			mark = l
		case mark == "":
			return 0
		case l == mark || mark == "---" && l == "...":
			return offset
		}
	}
	return 0
}

// fenceAfter returns the fence of the code block that is open after a line of Markdown; fence is the one that was open
// before it.
func fenceAfter(fence, l string) string {
	l = strings.TrimSpace(l)
	if l == "" || l[0] != '`' && l[0] != '~' {
		return fence
	}
	n := len(l) - len(strings.TrimLeft(l, l[:1]))
	switch {
	case fence == "" && n >= 3 && (l[0] == '~' || strings.IndexByte(l[n:], '`') < 0):
		return l[:n]
	case fence != "" && n == len(l) && strings.HasPrefix(l, fence):
		return ""
	}
	return fence
}

// htmlBlock returns the end mark of the HTML block that begins with a line of Markdown; such a block contains no headings.
// It returns "" for other lines.
func htmlBlock(l string) string {
	if strings.HasPrefix(l, "<!--") {
		return "-->"
	}
	if l == "" || l[0] != '<' {
		return ""
	}
	l = strings.ToLower(l[:min(len(l), 12)])
	for _, tag := range [...]string{"pre", "script", "style", "textarea"} {
		if rest, ok := strings.CutPrefix(l, "<"+tag); ok && (rest == "" || !isWord(rest[0])) {
			return "</" + tag + ">"
		}
	}
	return ""
}

// atx returns level and title of a line that begins with number signs; level 0 for other lines.
func atx(l string) (level int, title string) {
	n := len(l) - len(strings.TrimLeft(l, "#"))
	if n == 0 || n > 6 || n == len(l) || l[n] != ' ' && l[n] != '\t' {
		return 0, ""
	}
	title = strings.TrimSpace(l[n:])
	if bare := strings.TrimRight(title, "#"); bare == "" || strings.HasSuffix(bare, " ") || strings.HasSuffix(bare, "\t") {
		title = strings.TrimSpace(bare)
	}
	return n, title
}

// headings reads Markdown: a heading lasts until the next one of its level or above. Front matter, fenced code and HTML
// blocks are skipped.
func headings(text string, f *File) {
	type open struct {
		level int
		decl  Decl
	}
	var stack []open
	shut := func(level, end, line int) {
		for k := len(stack) - 1; k >= 0 && stack[k].level >= level; k-- {
			d := stack[k].decl
			d.EndByte, d.EndLine = end, max(d.StartLine, line)
			stack = stack[:k]
			if k > 0 {
				up := &stack[k-1].decl
				up.Children = append(up.Children, d)
			} else {
				f.Decls = append(f.Decls, d)
			}
		}
	}
	fence, html := "", ""
	offset, line := 0, 0
	matter := frontMatter(text)
	previous, previousAt := "", 0
	for l := range strings.Lines(text) {
		line++
		at := offset
		offset += len(l)
		trimmed := strings.TrimSpace(l)
		if at < matter {
			continue
		}
		flush := strings.TrimLeft(l, " ") // up to three blanks are no indentation
		if len(l)-len(flush) > 3 {
			flush = ""
		}
		inside := fence != "" || html != ""
		if html == "" {
			fence = fenceAfter(fence, l)
		}
		if fence == "" && !inside {
			html = htmlBlock(flush)
		}
		if html != "" && strings.Contains(strings.ToLower(l), html) {
			inside, html = true, ""
		}
		if inside || fence != "" || html != "" {
			previous = ""
			continue
		}
		start, first := at, line
		level, title := atx(flush)
		if level == 0 && previous != "" && flush != "" && trimmed != "" &&
			(strings.Trim(trimmed, "=") == "" || strings.Trim(trimmed, "-") == "" && len(trimmed) > 1) {
			level, title, start, first = 2, previous, previousAt, line-1
			if trimmed[0] == '=' {
				level = 1
			}
		}
		previous, previousAt = trimmed, at
		if flush == "" || strings.HasPrefix(trimmed, "|") || strings.HasPrefix(trimmed, "-") {
			previous = ""
		}
		if level == 0 {
			continue
		}
		shut(level, start, first-1)
		d := section(Heading, title, start, first)
		if k := len(stack); k > 0 {
			d.Qualified = clip(stack[k-1].decl.Qualified+"."+d.Name, 2*maxName)
		}
		stack = append(stack, open{level, d})
		if start > 0 {
			f.Cuts = append(f.Cuts, Cut{Byte: start, Level: level - 1, Decl: true})
		}
		previous = ""
	}
	shut(0, len(text), line)
}

// keyed fills a file with keys that begin at the given lines and last until the next.
func keyed(keys []Decl, text string, f *File) {
	lines := strings.Count(text, "\n")
	if text != "" && text[len(text)-1] != '\n' {
		lines++
	}
	for i := range keys {
		end, line := len(text), lines
		if i+1 < len(keys) {
			end, line = keys[i+1].StartByte, keys[i+1].StartLine-1
		}
		keys[i].EndByte, keys[i].EndLine = end, max(line, keys[i].StartLine)
		if at := keys[i].StartByte; at > 0 && text[at-1] == '\n' {
			f.Cuts = append(f.Cuts, Cut{Byte: at, Decl: true})
		}
	}
	f.Decls = keys
}

// yamlKeys reads the keys in the first column, with the comments directly above them, and the starts of documents.
func yamlKeys(text string, f *File) {
	var keys []Decl
	offset, line := 0, 0
	held, heldLine := -1, 0
	for l := range strings.Lines(text) {
		line++
		at := offset
		offset += len(l)
		switch c := l[0]; {
		case c == '#':
			if held < 0 {
				held, heldLine = at, line
			}
			continue
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '}' || c == ']':
			held = -1
			continue
		}
		name := ""
		if k := strings.IndexByte(l, ':'); k > 0 && (k+1 == len(l) || strings.IndexByte(" \t\r\n", l[k+1]) >= 0) {
			name = strings.Trim(l[:k], `"' `)
		} else if strings.HasPrefix(l, "- ") {
			name = strings.TrimSpace(l[2:])
		} else if strings.HasPrefix(l, "---") {
			name = "---"
		}
		if name != "" {
			d := section(Key, name, at, line)
			if held >= 0 {
				d.StartByte, d.StartLine = held, heldLine
			}
			keys = append(keys, d)
		}
		held = -1
	}
	keyed(keys, text, f)
}

// assignments reads the tables of TOML and INI. Without tables, or before the first, it reads the assigned names.
func assignments(text string, f *File) {
	var keys []Decl
	offset, line := 0, 0
	held, heldLine := -1, 0
	inTable, quoted := false, ""
	for l := range strings.Lines(text) {
		line++
		at := offset
		offset += len(l)
		trimmed := strings.TrimSpace(l)
		if quoted != "" {
			if strings.Contains(trimmed, quoted) {
				quoted = ""
			}
			continue
		}
		if trimmed == "" {
			held = -1
			continue
		}
		if trimmed[0] == '#' || trimmed[0] == ';' || trimmed[0] == '!' {
			if held < 0 {
				held, heldLine = at, line
			}
			continue
		}
		name := ""
		if trimmed[0] == '[' && (l[0] == '[' || inTable) && strings.HasSuffix(strings.TrimRight(strings.SplitN(trimmed, "#", 2)[0], " \t"), "]") {
			inTable = true
			name = strings.Trim(strings.SplitN(trimmed, "#", 2)[0], "[] \t")
		} else if k := strings.IndexAny(trimmed, "=:"); k > 0 {
			if !inTable && l[0] != ' ' && l[0] != '\t' {
				name = strings.Trim(strings.TrimPrefix(trimmed[:k], "export "), `"' `)
			}
			for _, q := range [...]string{`"""`, "'''"} {
				if strings.Count(trimmed[k:], q) == 1 {
					quoted = q
				}
			}
		}
		if name != "" {
			d := section(Key, name, at, line)
			if held >= 0 {
				d.StartByte, d.StartLine = held, heldLine
			}
			keys = append(keys, d)
		}
		held = -1
	}
	keyed(keys, text, f)
}

// jsonKeys reads the members of the outermost object, or the elements of the outermost array, that begin a line. It also
// makes cuts at deeper members, for files that are one big value.
func jsonKeys(text string, ln lines, f *File) {
	var keys []Decl
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			if at, ok := ln.lineStart(text, i); ok && at > 0 && depth > 0 {
				f.Cuts = append(f.Cuts, Cut{Byte: at, Level: depth - 1, Decl: depth == 1})
			}
			depth++
		case '}', ']':
			depth = max(0, depth-1)
		case '/': // comments of JSONC
			if strings.HasPrefix(text[i:], "//") {
				if k := strings.IndexByte(text[i:], '\n'); k >= 0 {
					i += k
				} else {
					i = len(text)
				}
			} else if strings.HasPrefix(text[i:], "/*") {
				if k := strings.Index(text[i:], "*/"); k >= 0 {
					i += k + 1
				} else {
					i = len(text)
				}
			}
		case '"':
			start := i
			for i++; i < len(text) && text[i] != '"' && text[i] != '\n'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if i >= len(text) {
				continue
			}
			if depth == 0 || !colonFollows(text[i+1:]) {
				continue
			}
			at, ok := ln.lineStart(text, start)
			if depth == 1 {
				begin := start
				if ok {
					begin = at
				}
				keys = append(keys, section(Key, text[start+1:i], begin, ln.at(start)))
			}
			if ok && at > 0 && depth > 1 {
				f.Cuts = append(f.Cuts, Cut{Byte: at, Level: depth - 1})
			}
		}
	}
	deeper := f.Cuts
	f.Cuts = nil
	keyed(keys, text, f)
	f.Cuts = merge(f.Cuts, deeper)
}

func colonFollows(s string) bool {
	return strings.HasPrefix(strings.TrimLeft(s[:min(len(s), 64)], " \t\r\n"), ":")
}

// merge joins two ascending lists of cuts. Of two cuts at one offset it keeps the better one.
func merge(a, b []Cut) []Cut {
	out := make([]Cut, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		var c Cut
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Byte < b[0].Byte:
			c, a = a[0], a[1:]
		case len(a) == 0 || b[0].Byte < a[0].Byte:
			c, b = b[0], b[1:]
		default:
			c = a[0]
			c.Level, c.Decl = min(c.Level, b[0].Level), c.Decl || b[0].Decl
			a, b = a[1:], b[1:]
		}
		if k := len(out); k > 0 && out[k-1].Byte == c.Byte {
			out[k-1].Level, out[k-1].Decl = min(out[k-1].Level, c.Level), out[k-1].Decl || c.Decl
			continue
		}
		out = append(out, c)
	}
	return out
}
