package secret

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"kijko/worker/token"
)

// document is a text with the properties that follow from its path.
type document struct {
	path, text string
	code       bool // an unquoted value is an expression
	lines      bool // an unquoted value reaches to the end of its line
	yaml       bool
	netrc      bool
	seen       int // end of the last checked name
	manifests  int // end of the last checked manifest
	entered    int // checked bytes of manifest entries
	commands   int // end of the last command that was checked for a user
	programs   int // end of the text that was checked for a password after -p
	listed     int // start of the last list member
	line       int // start of the line of place, or 4 KB before
	place      int
	region     region
}

var codeEnds = wordSet(`.go .py .pyi .js .mjs .cjs .ts .mts .cts .jsx .tsx .java .kt .kts .c .h .cc .cpp .cxx .hpp .hh .cs .php .rb .rs .swift .scala .m .mm .pl .pm .lua
	.dart .ex .exs .erl .hs .ml .mli .clj .cljs .groovy .gradle .vue .svelte .sql .r .jl .zig .nim .css .scss .less .fs .fsx .vb .pas .d .v .sol .proto .graphql .el .lisp .scm`)
var lineEnds = wordSet(`.env .yaml .yml .properties .ini .cfg .conf .cnf .netrc .npmrc .pypirc .service .desktop .envrc .s3cfg .tfvars`)

func newDocument(p, text string) *document {
	base := strings.ToLower(path.Base(p))
	ext := path.Ext(base)
	return &document{path: p, text: text, code: codeEnds[ext],
		lines: lineEnds[ext] || base == ".env" || strings.HasPrefix(base, ".env.") || strings.HasPrefix(base, "env.") || base == "credentials" || base == "config" ||
			base == "dockerfile" || ext == ".dockerfile" || strings.HasPrefix(base, "dockerfile."),
		yaml: ext == ".yaml" || ext == ".yml", netrc: base == "netrc" || base == ".netrc" || base == "_netrc" || strings.HasSuffix(base, ".netrc")}
}

const (
	longestName = 80
	longestGap  = 160  // from a name to its value
	longestBare = 1024 // without quotes
	// longestStart is the largest column at which a name may stand whose value takes the rest of the line.
	longestStart = 512
	listLength   = 200 // values of a list that are checked
	pieceCount   = 64  // pieces of a concatenated value
)

// region is a value in which names occur, so its tails are values too. The work over all tails is bounded; short tails are always
// checked.
type region struct {
	to, size int // where it ends, and its length
	work     int // checked bytes
}

const (
	tails     = 3  // how many times the length of a region its tails may cost
	shortTail = 48 // bytes
)

// tired reports whether enough of a region was checked before a value of the given size at from.
func (d *document) tired(from, to, size int) bool {
	r := &d.region
	if from >= r.to {
		*r = region{to: to, size: size}
	}
	r.work += size
	return size > shortTail && r.work > tails*max(r.size, size)
}

// piece is a part of the text. A value is one piece, or several that are concatenated.
type piece struct{ from, to int }

// assigned finds the secrets that are assigned to the name around a keyword at text[at:end].
func (d *document) assigned(at, end int, add func(from, to int)) {
	if at < d.seen {
		return
	}
	t := d.text
	from, to := at, end
	for from > 0 && isName(t[from-1]) && at-from <= longestName {
		from--
	}
	for to < len(t) && isName(t[to]) && to-end <= longestName {
		to++
	}
	d.seen = to
	if to-from > longestName {
		return
	}
	if from > 0 && t[from-1] == '\\' && from < at && strings.IndexByte("nrt", t[from]) >= 0 {
		from++ // a line end inside a string
	} else if from > 0 && (t[from-1] == '/' || t[from-1] == '\\') && t[from] != '-' {
		return // a part of a path
	}
	if strings.HasSuffix(t[:from], mark) || d.sourceName(t[from:to]) {
		return
	}
	if n := to - from; n >= 16 && !strings.ContainsAny(t[from:to], "_-.") && float64(n) < 2.2*float64(token.Count(t[from:to])) {
		return // a part of a random string in which a keyword occurs
	}
	// Trim the dot at the end of a sentence and the dashes of a flag.
	c := nameClass(strings.Trim(t[from:to], "-."))
	if c == noSecret {
		return
	}
	if to < len(t) && t[to] == ':' && strings.EqualFold(t[from:to], "pass") && !d.lines {
		return // the result of a test
	}
	g := gap{d: d, class: c, from: from, i: to, flag: t[from] == '-'}
	if strings.HasSuffix(t[:from], "variable \"") { // Terraform's
		if m := defaultValue.FindStringIndex(t[to:min(len(t), to+512)]); m != nil {
			g.i, g.sign, g.closed = to+m[1], true, true
		}
	}
	g.run(func(from, to int) {
		d.seen = max(d.seen, to) // a keyword inside a secret is no name
		add(from, to)
	})
}

// sourceName reports whether a name is that of a file.
func (d *document) sourceName(s string) bool {
	k := strings.LastIndexByte(s, '.')
	return k > 0 && (codeEnds[strings.ToLower(s[k:])] && len(s)-k > 2 || s[k:] == ".json" || s[k:] == ".md" || s[k:] == ".txt" || s[k:] == ".html" || s[k:] == ".whl" || s[k:] == ".jar")
}

// gap walks from a name to its value.
type gap struct {
	d       *document
	class   rank
	from, i int // the beginning of the name; the current position
	flag    bool
	sign    bool // an assignment sign was seen
	closed  bool // the quote around the name was closed
	list    bool // an opening bracket stands right before
	block   bool // the value is on the next lines
	joined  bool // the line continues on the next one
	tag     bool // of an element that was closed
	ternary bool
	scheme  bool // Bearer and the like
	typed   bool // a type follows the name, so a literal without a sign is a tag
	words   int
	breaks  int
}

// quote returns the kind of the quote at i and its length; kind 0 means no quote. A quote may be escaped, once or more often, or be
// an entity.
func (d *document) quote(i int) (kind byte, size int) {
	t := d.text
	if i >= len(t) {
		return 0, 0
	}
	switch c := t[i]; c {
	case '"', '\'', '`':
		return c, 1
	case '\\':
		k := i
		for k < len(t) && t[k] == '\\' && k-i < 8 {
			k++
		}
		if k < len(t) && (t[k] == '"' || t[k] == '\'') {
			return t[k], k + 1 - i
		}
	case '&':
		for _, e := range [...]string{"&quot;", "&#34;", "&#39;", "&apos;", "&#x27;"} {
			if strings.HasPrefix(t[i:], e) {
				return '&', len(e)
			}
		}
	}
	return 0, 0
}

// endsName reports whether a quote at i closes a string that the name began, such as "token=".
func (g *gap) endsName(i int, kind byte, size int) bool {
	t := g.d.text
	return g.from >= size && t[g.from-size:g.from] == t[i:i+size] && kind != '`'
}

// firstOfPair reports whether the quoted name is the first argument of a call or the first member of a list.
func (g *gap) firstOfPair() bool {
	t := g.d.text
	i := g.from - 1
	for i > 0 && (t[i] == '"' || t[i] == '\'' || t[i] == '`' || t[i] == '\\' || t[i] == ' ' || t[i] == '\t') {
		i--
	}
	if i < 0 || strings.IndexByte("([{,", t[i]) < 0 {
		return false
	}
	if t[i] != ',' {
		return true
	}
	// The name is a later argument: then the value is the last argument.
	line := t[g.i:min(len(t), g.i+longestGap)]
	if k := strings.IndexByte(line, '\n'); k >= 0 {
		line = line[:k]
	}
	return lastArgument.MatchString(line)
}

// asks matches names of functions that look up or make a key; their arguments are no keys.
var asks = regexp.MustCompile(`^(?:create|get|parse|find|has|delete|remove|is|validate|verify|lookup|expect|match|read|next|peek|test|make|new)[A-Z_]`)

var lastArgument = regexp.MustCompile("^,[ \\t]*(?:\"[^\"]*\"|'[^']*'|`[^`]*`)[ \\t]*\\)")

var (
	// types are words that may stand between a name and its value.
	types = wordSet(`string str char text varchar const static let var final nsstring auto any bytes byte object option optional std wchar_t literal unicode mut cstring
		securestring u8 uint8_t uint8 field`)
	// joints are words that connect a name to its value.
	joints  = wordSet(`or is are was be with to as value values val default identified by set new plain eq equals content data`)
	schemes = wordSet(`bearer basic token apikey digest key`)
)

func (g *gap) run(add func(from, to int)) {
	t := g.d.text
	limit := min(len(t), g.i+longestGap)
	start := g.i
	for g.i < limit {
		i := g.i
		c := t[i]
		if kind, size := g.d.quote(i); kind != 0 {
			blank := i > start && (t[i-1] == ' ' || t[i-1] == '\t')
			if g.sign && !g.closed && g.endsName(i, kind, size) || g.typed && !g.sign {
				return
			}
			switch {
			case g.sign, g.closed && blank, !g.closed && blank && strings.Trim(t[start:i], " \t") == "":
				if next, more := g.quoted(i, kind, size, add); more {
					g.i = next
					continue
				}
				return
			case g.closed:
				return
			}
			g.closed = true
			g.i += size
			continue
		}
		switch {
		case c == ' ' || c == '\t':
			g.i++
			continue
		case c == '\n' || c == '\r':
			if !g.lineEnd() {
				return
			}
			continue
		case isAlnum(c) || c == '_' || c >= 0x80 || c == '-' && g.sign:
			if !g.word(add) {
				return
			}
			continue
		}
		if !g.punctuation(c, add) {
			return
		}
	}
}

// lineEnd moves to the next line if the value may stand there.
func (g *gap) lineEnd() bool {
	t := g.d.text
	if !g.sign {
		// - name: API_KEY, next line value: ...
		rest := strings.TrimLeft(t[g.i:min(len(t), g.i+80)], " \t\r\n,\"'")
		if !strings.HasPrefix(rest, "value") {
			return false
		}
		g.i += strings.Index(t[g.i:], "value") + len("value")
		return true
	}
	if t[g.i] == '\n' {
		if g.breaks++; g.breaks > 2 {
			return false
		}
	}
	g.i++
	return true
}

// punctuation moves past a sign; false ends the walk.
func (g *gap) punctuation(c byte, add func(from, to int)) bool {
	t := g.d.text
	i := g.i
	next := byte(0)
	if i+1 < len(t) {
		next = t[i+1]
	}
	list := false
	switch c {
	case '\\':
		if next != '\n' && next != '\r' {
			return false
		}
		g.joined = true
	case '=', ':', '+':
		if c == ':' && next == '/' || c == '+' && (!g.d.code || g.from > 0 && t[g.from-1] == '{') && (g.sign || g.takesBlank()) && next > ' ' && strings.IndexByte("=\"'", next) < 0 {
			return g.bareFrom(add)
		}
		g.sign = true
	case '>':
		g.block = g.sign && g.d.yaml
		g.sign = true
	case '|':
		if !g.sign && next != '|' && t[max(0, i-1)] != '|' && !strings.HasSuffix(g.d.path, ".md") {
			return false
		}
		g.block = g.sign
		g.sign = true
	case '?':
		g.sign, g.ternary = true, true
	case '~':
		if g.sign {
			return g.bareFrom(add)
		}
		g.sign = true
	case ',':
		// The value is an argument or a member of a pair, and not the next of many names.
		rest := strings.TrimLeft(t[i+1:min(len(t), i+12)], " \t")
		if !g.sign && !g.closed && (strings.HasPrefix(rest, "value:") || strings.HasPrefix(rest, "value =")) { // {name: API_KEY, value: ...}
			g.i += strings.Index(t[i:], "value") + len("value")
			return true
		}
		if rest == "" || rest[0] == '\n' || rest[0] == '\r' || g.words > 0 || g.closed && !g.firstOfPair() && !strings.HasPrefix(strings.TrimLeft(rest, "\"'\\"), "val") {
			return false
		}
		if k, _ := g.d.quote(len(t[:i+1]) + len(t[i+1:min(len(t), i+12)]) - len(rest)); k == 0 && !g.closed {
			return false
		}
		g.sign = true
	case '(', '[', '{':
		if next == '{' || c == '{' && next == '%' || g.words > 0 && !g.sign {
			return false
		}
		if c == '[' && strings.HasPrefix(t[i:], mark) {
			return false
		}
		if c == '(' && !g.sign && next != ')' && asks.MatchString(t[g.from:i]) {
			return false
		}
		if c != '[' || g.sign { // key[33] = is no list
			g.sign = true
		}
		list = true
	case ')', ']':
		if g.sign && i > 0 && t[i-1] != '(' && t[i-1] != '[' {
			return false
		}
		g.closed = true
	case '<':
		if next == '-' && !g.sign { // R's assignment
			g.sign = true
			g.i += 2
			return true
		}
		return g.element(add)
	case '@', '$':
		if k, _ := g.d.quote(i + 1); k == 0 {
			return g.bareFrom(add)
		}
	case '!':
		if g.d.yaml && next == '!' { // a tag
			for g.i < len(t) && t[g.i] > ' ' {
				g.i++
			}
			return true
		}
		if next != '=' {
			return g.bareFrom(add)
		}
	case '&':
		if g.sign && (next == '&' || !strings.HasPrefix(t[i+1:], "str") && !strings.HasPrefix(t[i+1:], "'static") && !strings.HasPrefix(t[i+1:], "mut")) {
			return g.bareFrom(add)
		}
		if strings.HasPrefix(t[i+1:], "'static") {
			g.i += len("'static")
		}
		if next == '&' {
			return false
		}
	case '*', '^', '#', '%', '/', '.', '-':
		return g.bareFrom(add)
	default:
		return false
	}
	g.list = list
	g.i++
	for g.block && g.i < len(t) && strings.IndexByte("-+0123456789", t[g.i]) >= 0 { // how a block scalar ends
		g.i++
	}
	return true
}

// element moves past a tag: </key><string> of a property list, or CDATA.
func (g *gap) element(add func(from, to int)) bool {
	t := g.d.text
	rest := t[g.i:min(len(t), g.i+60)]
	if strings.HasPrefix(rest, "<![CDATA[") {
		g.i += len("<![CDATA[")
		g.sign = true
		return true
	}
	e := strings.IndexByte(rest, '>')
	if e < 0 {
		return false
	}
	if strings.HasPrefix(rest, "</") && !g.sign {
		g.sign, g.tag = true, true
		g.i += e + 1
		return true
	}
	if g.tag && (rest[:e] == "<string" || rest[:e] == "<data" || rest[:e] == "<value") {
		g.i += e + 1
		return true
	}
	return g.bareFrom(add)
}

// word moves past a word that may stand before the value, or takes it as the value.
func (g *gap) word(add func(from, to int)) bool {
	t := g.d.text
	i := g.i
	to := i
	for to < len(t) && (isAlnum(t[to]) || t[to] == '_' || t[to] == '$' || t[to] >= 0x80) && to-i < 64 {
		to++
	}
	if to == i {
		return g.bareFrom(add)
	}
	w := t[i:to]
	if (len(w) <= 2 || w == "raw") && to < len(t) && (t[to] == '"' || t[to] == '\'') && (g.sign || g.closed) { // the prefix of a string
		g.i = to
		return true
	}
	lower := strings.ToLower(w)
	after := byte('\n')
	if to < len(t) {
		after = t[to]
	}
	if schemes[lower] && after == ' ' && g.sign && len(w) > 3 && !g.block {
		g.i, g.scheme, g.class = to, true, max(g.class, strong)
		if lower == "basic" {
			g.class = password
		}
		return true
	}
	plain := strings.IndexByte(" \t\r\n\"'`\\=:>&(),;*[]{}<?!|", after) >= 0
	if plain && types[lower] {
		g.typed = !g.sign
		g.i = to
		return true
	}
	if strings.IndexByte(" \t\"'`\\:(", after) >= 0 && joints[lower] || after == '=' && (lower == "value" || lower == "default" || lower == "content") {
		if lower != "value" || g.sign {
			g.sign = g.sign || g.closed || g.words == 0 && (lower == "is" || lower == "identified" || lower == "by")
		}
		g.i = to
		return true
	}
	if g.sign || g.takesBlank() {
		return g.bareFrom(add)
	}
	if g.closed || g.words >= 3 || to-i > 20 || !plain || strings.ContainsAny(w, "0123456789$") {
		return false
	}
	g.words++
	g.i = to
	return true
}

// takesBlank reports whether a blank assigns: after a flag, in a Dockerfile's ENV, in a netrc file and in some configurations.
func (g *gap) takesBlank() bool {
	t := g.d.text
	if g.closed || g.words > 0 || g.i == 0 || t[g.i-1] != ' ' && t[g.i-1] != '\t' {
		return false
	}
	if g.flag || g.d.netrc {
		return true
	}
	line := t[max(0, g.from-200):g.from]
	if k := strings.LastIndexByte(line, '\n'); k >= 0 {
		line = line[k+1:]
	}
	start := strings.ToUpper(strings.TrimSpace(line))
	switch start {
	case "ENV", "ARG", "SETENV", "SET -GX", "SET -X", "SETX", "#DEFINE", "REQUIREPASS", "MASTERAUTH":
		return true
	case "":
		return g.d.lines && !g.d.yaml // name value
	}
	return strings.Contains(line, "login ") && strings.Contains(line, "machine ")
}

// inNetrc reports whether the name is that of a netrc entry, whose value is a password in every form.
func (g *gap) inNetrc() bool {
	if g.d.text[g.from:g.i] != "password " && strings.TrimRight(g.d.text[g.from:g.i], " \t\n\r") != "password" {
		return false
	}
	line := g.d.text[g.lineStart():g.from]
	return g.d.netrc || strings.Contains(line, "login ") && strings.Contains(line, "machine ")
}

// quoted checks a string literal at i, with the pieces that are concatenated with it or listed with it. If the literal is the name
// of the value, it returns the position where the walk continues.
func (g *gap) quoted(i int, kind byte, size int, add func(from, to int)) (int, bool) {
	t := g.d.text
	list := g.list || g.class >= strong && i > 0 && t[i-1] == '(' || g.pair(i)
	for n := 0; n < listLength; n++ {
		var pieces []piece
		next := i
		for len(pieces) < pieceCount {
			p, after, ok := g.d.literal(next, kind, size)
			if !ok {
				break
			}
			pieces = append(pieces, p)
			next = after
			k, ksize := byte(0), 0
			if at := g.d.joined(after); at > 0 {
				if k, ksize = g.d.quote(at); k == kind && ksize == size {
					next = at
					continue
				}
			}
			break
		}
		if len(pieces) == 0 {
			return 0, false
		}
		after := next
		if n == 0 && len(pieces) == 1 {
			p := pieces[0]
			if rest := strings.TrimLeft(t[after:min(len(t), after+8)], " \t"); rest != "" && !g.ternary && (rest[0] == ':' && !strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, "=>")) {
				// This literal is the name of another value.
				if joints[strings.ToLower(t[p.from:p.to])] {
					return after, true
				}
				return 0, false
			}
			if p.from == p.to {
				return 0, false
			}
		}
		if n == 1 && g.pair(0) {
			g.class = password
		}
		g.check(pieces, literal, add)
		if !list {
			return 0, false
		}
		// This is the next literal of a list.
		rest := t[after:min(len(t), after+120)]
		trimmed := strings.TrimLeft(rest, " \t\r\n")
		if !strings.HasPrefix(trimmed, ",") {
			return 0, false
		}
		trimmed = strings.TrimLeft(trimmed[1:], " \t\r\n")
		if i = after + len(rest) - len(trimmed); i <= g.d.listed {
			return 0, false // part of a list that was checked already
		}
		g.d.listed = i
		if kind, size = g.d.quote(i); kind == 0 {
			return 0, false
		}
	}
	return 0, false
}

// pair reports whether the literal at i, or any literal, is the first of user and password, as in auth=("user", "password").
func (g *gap) pair(i int) bool {
	t := g.d.text
	if i > 0 && t[i-1] != '(' {
		return false
	}
	end := g.from
	for end < len(t) && isName(t[end]) {
		end++
	}
	name := strings.ToLower(t[g.from:end])
	return strings.HasSuffix(name, "auth") || strings.HasSuffix(name, "credential") || strings.HasSuffix(name, "credentials")
}

// joined returns the position of the next piece of a literal that ended at i, or 0.
func (d *document) joined(i int) int {
	t := d.text
	k := i
	sign, line := false, false
	for ; k < len(t) && k < i+120; k++ {
		switch c := t[k]; {
		case c == ' ' || c == '\t' || c == '\r':
		case c == '\n':
			line = true
		case (c == '+' || c == '.' || c == '\\' || c == '&' && k+1 < len(t) && t[k+1] == ' ') && !sign:
			sign = true
		default:
			if (sign || line && d.code) && k > i {
				return k
			}
			return 0
		}
	}
	return 0
}

// literal returns the inside of a literal at i and its end.
func (d *document) literal(i int, kind byte, size int) (p piece, after int, ok bool) {
	t := d.text
	from := i + size
	if size == 1 && kind != '`' && from+1 < len(t) && t[from] == kind && t[from+1] == kind { // three quotes
		from += 2
		e := strings.Index(t[from:min(len(t), from+longestValue)], t[i:from])
		if e < 0 {
			return p, 0, false
		}
		return piece{from, from + e}, from + e + 3, true
	}
	if size > 1 {
		stop := t[i : i+size]
		part := t[from:min(len(t), from+longestValue)]
		if k := strings.IndexByte(part, '\n'); k >= 0 {
			part = part[:k]
		}
		e := strings.Index(part, stop)
		if e < 0 {
			return p, 0, false
		}
		return piece{from, from + e}, from + e + size, true
	}
	for escapes := true; ; escapes = false {
		k := from
		for ; k < len(t) && k < from+longestValue && (t[k] != '\n' || kind == '`') && t[k] != kind; k++ {
			if t[k] == '\\' && kind != '`' && escapes {
				k++
			}
		}
		if k < len(t) && t[k] == kind {
			return piece{from, k}, k + 1, true
		}
		if !escapes || kind == '`' {
			return p, 0, false
		}
	}
}

// The characters that end an unquoted value, besides blanks.
var (
	stopsBare      = setOf("\"'`<>;,|)}]\\")
	stopsInCode    = setOf("\"'`<>;,|)}]\\({[:@#$%&*!?")
	stopsInBraces  = setOf("}\"'")
	stopsInURL     = setOf("&\"'`<>;,|)}]\\#")
	stopsInElement = setOf("<")
)

// bareFrom checks the unquoted value that begins at the current position.
func (g *gap) bareFrom(add func(from, to int)) bool {
	t := g.d.text
	if !g.sign && !g.takesBlank() {
		return false
	}
	from := g.i
	if m := otherwise.FindString(t[from:min(len(t), from+longestName)]); m != "" {
		from += len(m) // ${OTHER:-value}
		g.from, g.i = from-len(m)+2, from
		if from == len(t) {
			return false
		}
	} else if strings.HasPrefix(t[from:], "${") || strings.HasPrefix(t[from:], "$(") || strings.HasPrefix(t[from:], "$[") {
		return false
	}
	style := bare
	if g.d.code {
		style = inCode
	}
	if g.breaks > 0 && !g.block && !g.joined && !g.tag {
		return false // the value is empty, and the text belongs to what follows
	}
	if g.block && g.breaks > 0 {
		g.check(g.d.blockAt(from), style, add)
		return false
	}
	stops := &stopsBare
	before := byte(0)
	if g.from > 0 {
		before = t[g.from-1]
	}
	if style == inCode && g.list {
		return false // a member's name
	}
	inPlace := before == '{' && g.from > 1 && t[g.from-2] == '$' // ${key:value} in a literal
	if style == inCode && (inPlace || before == '?' || before == '&' || before == '#') {
		style = bare // of a URL
	}
	switch {
	case style == inCode:
		stops = &stopsInCode
	case before == '{': // ${KEY:-value}
		stops = &stopsInBraces
		if t[from] == '-' && t[from-1] == ':' {
			from++
		}
	case before == '?' || before == '&' || before == '#' || strings.HasPrefix(t[max(0, g.from-5):g.from], "&amp;"):
		stops = &stopsInURL
	case g.inElement():
		stops = &stopsInElement
	case g.d.lines && !g.scheme && g.startsLine():
		stops = nil
	}
	to := from
	for to < len(t) && t[to] > ' ' && t[to] != 0x7f && (stops == nil || !stops.has(t[to])) && to-from <= longestBare {
		to++
	}
	if style == inCode && to < len(t) && strings.IndexByte("({[:@.", t[to]) >= 0 {
		if m := decodes.FindString(t[from:min(len(t), from+longestName)]); m != "" && g.class >= strong {
			if kind, size := g.d.quote(from + len(m)); kind != 0 {
				g.quoted(from+len(m), kind, size, add)
			}
		}
		return false // a call, an index, a member
	}
	if stops == nil {
		if k := g.lineStart(); strings.ContainsAny(t[k:g.from], "{[") { // inside a flow mapping
			if e := strings.IndexAny(t[from:to], ",}]"); e >= 0 {
				to = from + e
			}
		}
	}
	for to > from && strings.IndexByte(",;", t[to-1]) >= 0 {
		to--
	}
	switch {
	case to == from:
	case g.inNetrc():
		if v := t[from:to]; !placeholder(v) && len(v) > 2 {
			add(from, to)
		}
	default:
		g.check([]piece{{from, to}}, style, add)
	}
	return false
}

// inElement reports whether the value is the content of an XML element; then only the element's end ends it.
func (g *gap) inElement() bool {
	t := g.d.text
	return g.i > 0 && t[g.i-1] == '>' && strings.Contains(t[g.from:g.i], ">") && strings.IndexByte(t[g.i:min(len(t), g.i+longestValue)], '<') >= 0 && strings.LastIndexByte(t[g.lineStart():g.from], '<') >= 0
}

// startsLine reports whether the name is the first of its line, so that the value takes the rest of the line.
func (g *gap) startsLine() bool {
	start := g.lineStart()
	if g.from-start > longestStart {
		return false
	}
	before := strings.TrimSpace(g.d.text[start:g.from])
	switch before = strings.Trim(before, "\"'"); before {
	case "", "-", "export", "set", "ENV", "ARG", "env", "arg", "- export":
		return true
	}
	return strings.HasSuffix(before, ":") || strings.HasPrefix(before, "machine ") || g.d.netrc || !strings.ContainsAny(before, ";=?&,")
}

var defaultValue = regexp.MustCompile(`^"[ \t]*\{[^{}]*?\n[ \t]*default[ \t]*=[ \t]*`)

var otherwise = regexp.MustCompile(`^\$\{[\w.]+(?::?[-=]|:)`)

// decodes matches calls that decode a text to bytes.
var decodes = regexp.MustCompile(`^(?:Buffer\.from|(?:bytes|bytearray)\.fromhex|(?:binascii\.)?unhexlify|(?:base64\.)?b64decode|base64_decode|hex2bin|hex\.DecodeString|base64\.\w+\.DecodeString|Convert\.From\w+String|atob|decodeURIComponent)\(`)

func (g *gap) lineStart() int {
	d := g.d
	low := max(0, g.from-lineEnd)
	since := low
	if g.from >= d.place && d.place > low { // names come in order, so only the new part is searched
		low = max(low, d.line)
		since = d.place
	}
	if k := strings.LastIndexByte(d.text[since:g.from], '\n'); k >= 0 {
		low = since + k + 1
	}
	d.place, d.line = g.from, low
	return low
}

// blockAt returns the lines of a block scalar that begins at i, each without its indentation.
func (d *document) blockAt(i int) []piece {
	t := d.text
	indent := 0
	for i-indent > 0 && (t[i-indent-1] == ' ' || t[i-indent-1] == '\t') {
		indent++
	}
	var pieces []piece
	for len(pieces) < pieceCount {
		to := i
		for to < len(t) && t[to] > ' ' {
			to++
		}
		if to == i || to < len(t) && (t[to] == ' ' || t[to] == '\t') {
			break // words
		}
		pieces = append(pieces, piece{i, to})
		k := to
		for k < len(t) && (t[k] == '\r' || t[k] == '\n') {
			k++
		}
		n := 0
		for k+n < len(t) && (t[k+n] == ' ' || t[k+n] == '\t') {
			n++
		}
		if n < indent || indent == 0 || k+n >= len(t) {
			break
		}
		i = k + n
	}
	return pieces
}

// check reports the pieces of a value if the value is a secret.
func (g *gap) check(pieces []piece, s style, add func(from, to int)) {
	if len(pieces) == 0 {
		return
	}
	t := g.d.text
	from, to := pieces[0].from, pieces[0].to
	v := t[from:to]
	if len(pieces) > 1 {
		var b strings.Builder
		for _, p := range pieces {
			b.WriteString(t[p.from:p.to])
		}
		v = b.String()
	} else if s == literal {
		// This handles "Bearer abc" and "token=abc" in one literal.
		for _, scheme := range [...]string{"Bearer ", "Basic ", "Token ", "bearer ", "basic ", "token ", "ApiKey ", "apikey ", "Digest "} {
			if strings.HasPrefix(v, scheme) {
				from += len(scheme)
				v = v[len(scheme):]
				g.class, g.scheme = max(g.class, strong), true
				break
			}
		}
	}
	if s == inCode && g.scheme {
		s = bare // text about a header
	}
	if g.d.tired(from, pieces[len(pieces)-1].to, len(v)) {
		return
	}
	if integrity(t, from) || strings.IndexByte(v, '\n') >= 0 && !keyLines(v) {
		return
	}
	if !secretValue(v, g.class, s) && (len(pieces) == 1 || !slices.ContainsFunc(pieces, func(p piece) bool { return secretValue(t[p.from:p.to], g.class, s) })) {
		return
	}
	if len(pieces) == 1 {
		add(from, to)
		return
	}
	for _, p := range pieces {
		if p.to > p.from {
			add(p.from, p.to)
		}
	}
}

// keyLines reports whether a literal of several lines is a key: a block of PEM, or lines without blanks.
func keyLines(v string) bool {
	if strings.Contains(v, "KEY-----") {
		return true
	}
	for line := range strings.Lines(strings.TrimSpace(v)) {
		if line = strings.TrimSpace(line); line == "" || strings.ContainsAny(line, " \t") || len(line) > 128 {
			return false
		}
	}
	return true
}

// integrity reports whether the label of a hash stands right before text[from:].
func integrity(text string, from int) bool {
	low := max(0, from-24)
	return integrityBefore.MatchString(text[low:from])
}
