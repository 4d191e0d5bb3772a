package parse

import (
	"regexp"
	"strings"
)

var creates = regexp.MustCompile(`(?is)^create\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+|unlogged\s+|unique\s+|materialized\s+|constraint\s+)*` +
	`(table|view|type|domain|function|procedure|trigger|schema|index|sequence|extension|role|policy|aggregate|package(?:\s+body)?)\s+` +
	`(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?([\w."$\[\]` + "`" + `]+)`)

var createKinds = map[string]Kind{
	"table": Struct, "view": Type, "type": Type, "domain": Type, "function": Function, "procedure": Function, "trigger": Function,
	"aggregate": Function, "schema": Module, "package": Module,
}

// splitSQL replaces the declarations and cuts of a file whose dialect the grammar does not know: it cuts at semicolons
// that stand outside quotes, dollar quotes, comments and parentheses.
func splitSQL(text string, ln lines, f *File) {
	f.Decls, f.Cuts = nil, nil
	start := -1 // of the statement's own first word
	head := -1  // of the comments before it
	flush := func(end int) {
		if start < 0 {
			return
		}
		d := Decl{Kind: Statement, StartByte: head, EndByte: end, NameByte: start, StartLine: ln.at(head), EndLine: ln.at(max(head, end-1))}
		body := text[start:end]
		if m := creates.FindStringSubmatch(body[:min(len(body), 2000)]); m != nil {
			d.Kind = Variable
			if k, ok := createKinds[strings.ToLower(strings.Fields(m[1])[0])]; ok {
				d.Kind = k
			}
			d.Name = clip(m[2], maxName)
		} else {
			d.Name = clip(strings.Join(strings.Fields(clip(body, 80)), " "), 60)
		}
		d.Qualified = d.Name
		d.Signature = clip(strings.Join(strings.Fields(clip(body, maxSignature)), " "), maxSignature)
		if start > head {
			d.Doc = cleanDoc(text[head:start])
		}
		f.Decls = append(f.Decls, d)
		if at, ok := ln.lineStart(text, head); ok && at > 0 {
			f.Cuts = append(f.Cuts, Cut{Byte: at, Decl: true})
		}
		start, head = -1, -1
	}
	depth := 0
	for i := 0; i < len(text); {
		c := text[i]
		if strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "/*") {
			if head < 0 && ln.startsLine(text, i) {
				head = i
			}
			i = endOfComment(text, i)
			continue
		}
		if strings.IndexByte(" \t\r\n", c) >= 0 {
			if start < 0 && head >= 0 && c == '\n' && strings.HasPrefix(strings.TrimLeft(text[i+1:min(len(text), i+81)], " \t\r"), "\n") {
				head = -1 // a blank line: the comment stands for itself
			}
			i++
			continue
		}
		if start < 0 {
			start = i
			if head < 0 {
				head = i
			}
		}
		switch c {
		case '\'', '"', '`':
			i = endOfQuote(text, i)
			continue
		case '$':
			i = endOfDollar(text, i)
			continue
		case '(':
			depth++
		case ')':
			depth = max(0, depth-1)
		case ';':
			if depth == 0 {
				flush(i + 1)
			}
		}
		i++
	}
	flush(len(strings.TrimRight(text, " \t\r\n")))
}

func endOfComment(text string, i int) int {
	mark, skip := "\n", 0
	if text[i] == '/' {
		mark, skip = "*/", 2
	}
	if k := strings.Index(text[i:], mark); k >= 0 {
		return i + k + skip
	}
	return len(text)
}

func endOfQuote(text string, i int) int {
	if k := strings.IndexByte(text[i+1:], text[i]); k >= 0 {
		return i + k + 2
	}
	return len(text)
}

// endOfDollar returns the end of a dollar-quoted string at i, or i+1 if there is none.
func endOfDollar(text string, i int) int {
	e := i + 1
	for e < len(text) && isWord(text[e]) {
		e++
	}
	if e >= len(text) || text[e] != '$' {
		return i + 1
	}
	tag := text[i : e+1]
	if k := strings.Index(text[e+1:], tag); k >= 0 {
		return e + 1 + k + len(tag)
	}
	return len(text)
}
