package secret

import (
	"path"
	"regexp"
	"strings"
)

var stopsOfURL = setOf("\"'<>`")

// userinfo finds the password, or the token without a user, in a URL whose scheme ends at text[:end].
func (d *document) userinfo(_, end int, add func(from, to int)) {
	t := d.text
	stop := end
	for stop < len(t) && stop-end < 1024 && t[stop] > ' ' && !stopsOfURL.has(t[stop]) {
		if t[stop] == '\\' && (stop+1 == len(t) || t[stop+1] != '/') {
			break // a string ends here, escaped
		}
		stop++
	}
	all := t[end:stop]
	authority := all
	if k := strings.IndexAny(all, "/?#\\"); k >= 0 {
		authority = all[:k]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		// A base64 password may contain a slash.
		k := strings.IndexByte(authority, ':')
		at = strings.IndexByte(all, '@')
		if k < 0 || at < k || d.tired(end+k+1, end+at, at-k-1) || !secretValue(all[k+1:at], password, bare) || digits(authority[k+1:]) {
			return
		}
	}
	if at+1 >= len(all) {
		return
	}
	if c := all[at+1]; !isAlnum(c) && c < 0x80 && strings.IndexByte("[${<%_-.(", c) < 0 {
		return // no host
	}
	if strings.Contains(all[:at], mark) || strings.Contains(all[:at], "&lt;") || strings.ContainsAny(all[:at], "[]") {
		return
	}
	user, word, both := strings.Cut(all[:at], ":")
	if both && word != "" && !placeholder(word) {
		from := end + len(user) + 1
		add(from, from+len(word))
	}
	if len(user) >= 16 && secretValue(user, strong, bare) {
		add(end, end+len(user))
	}
}

// flag finds the password after curl's -u or --user.
func (d *document) flag(_, end int, add func(from, to int)) {
	if end < d.commands {
		return // the same command
	}
	part := command(d.text[end:min(len(d.text), end+longestCommand)])
	d.commands = end + len(part)
	for _, m := range userFlag.FindAllStringSubmatchIndex(part, -1) {
		for g := 2; g < len(m); g += 2 {
			if m[g] < 0 {
				continue
			}
			user, word, ok := strings.Cut(part[m[g]:m[g+1]], ":")
			quote := len(word) > 2 && word[len(word)-1] == word[0] && (word[0] == '"' || word[0] == '\'')
			switch from := end + m[g]; {
			case strings.Contains(user, mark):
			case ok && word == "" && secretValue(user, password, bare):
				add(from, from+len(user)) // a key instead of a user
			case ok && len(word) > 2 && !placeholder(word) && !placeholder(user) && !weakWord.MatchString(word):
				if quote {
					add(from+len(user)+2, end+m[g+1]-1)
				} else {
					add(from+len(user)+1, end+m[g+1])
				}
			}
		}
	}
}

const longestCommand = 4096

// command returns the text up to the first line end without a backslash before it.
func command(s string) string {
	for i := 0; ; i++ {
		k := strings.IndexByte(s[i:], '\n')
		if k < 0 {
			return s
		}
		if i += k; !strings.HasSuffix(strings.TrimSuffix(s[:i], "\r"), "\\") {
			return s[:i]
		}
	}
}

// shortFlag finds the password after -p of sshpass and MySQL's programs.
func (d *document) shortFlag(_, end int, add func(from, to int)) {
	if end < d.programs {
		return // the flag was already handled for an earlier program
	}
	line := d.text[end:min(len(d.text), end+longestCommand)]
	if k := strings.IndexByte(line, '\n'); k >= 0 {
		line = line[:k]
	}
	d.programs = end + len(line)
	if m := passwordFlag.FindStringSubmatchIndex(line); m != nil {
		d.programs = end + m[0]
		for g := 2; g < len(m); g += 2 {
			if m[g] >= 0 && secretValue(line[m[g]:m[g+1]], password, bare) {
				add(end+m[g], end+m[g+1])
			}
		}
	}
}

// stated finds the password of SQL's IDENTIFIED BY, and of PowerShell's ConvertTo-SecureString.
func (d *document) stated(_, end int, add func(from, to int)) {
	if m := statement.FindStringSubmatchIndex(d.text[end:min(len(d.text), end+longestName+256)]); m != nil {
		for g := 2; g < len(m); g += 2 {
			if m[g] >= 0 && secretValue(d.text[end+m[g]:end+m[g+1]], password, literal) {
				add(end+m[g], end+m[g+1])
			}
		}
	}
}

var (
	statement    = regexp.MustCompile(`^(?i:[ \t]+(?:with[ \t]+\S{1,40}[ \t]+)?by(?:[ \t]+password|[ \t]+values)?|(?:[ \t]+-(?:string|asplaintext|force))*)[ \t]+(?:"([^"\n]{4,255})"|'([^'\n]{4,255})')`)
	passwordFlag = regexp.MustCompile(`[ \t]-p[ \t]?(?:"([^"]{4,255})"|'([^']{4,255})'|([^\s"'` + "`" + `]{4,255}))`)
	userFlag     = regexp.MustCompile(`[ \t](?:-u|--user|--proxy-user|-U)(?:=|[ \t]{0,5})(?:\\?"([^"\n]{3,255}?)\\?"|'([^'\n]{3,255})'|([^\s"'\\` + "`" + `<>]{3,255}(?:'[^'\n]+'|"[^"\n]+")?))`)
	weakWord     = regexp.MustCompile(`^(?i:change(?:it|me)|pass(?:word)?|pwd|test|token|\.\.\.|\$.*)$`)
)

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// placeholder reports whether a text in the place of a password is not a password.
func placeholder(s string) bool {
	return reference(s) || strings.Contains(s, mark) || strings.Trim(s, s[:1]) == "" && len(s) > 2 || strings.Trim(s, "*.x") == "" || strings.HasPrefix(s, "${") ||
		strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[") || strings.HasPrefix(s, "<") || strings.HasPrefix(s, "$(") || strings.HasPrefix(s, "#{")
}

// driver finds the password in user:password@tcp(host), as the MySQL driver of Go writes it.
func (d *document) driver(at, _ int, add func(from, to int)) {
	t := d.text
	from := at
	for from > 0 && at-from < 256 && t[from-1] > ' ' && strings.IndexByte("\"'`<>", t[from-1]) < 0 {
		from--
	}
	user, word, ok := strings.Cut(t[from:at], ":")
	if ok && word != "" && !placeholder(word) && user != "" {
		add(at-len(word), at)
	}
}

var (
	kindSecret  = regexp.MustCompile(`^\\?["']?[ \t]*:[ \t]*\\?["']?Secret\b`)
	dataBlock   = regexp.MustCompile(`(?m)^([ \t]*)(?:- )?(data|stringData):[ \t]*(?:#.*)?\r?$`)
	dataObject  = regexp.MustCompile(`"(data|stringData)"[ \t\r\n]*:[ \t\r\n]*\{([^{}]*)\}`)
	dataMember  = regexp.MustCompile(`"[^"\n]*"[ \t\r\n]*:[ \t\r\n]*"((?:[^"\\\n]|\\.)*)"`)
	dataEntry   = regexp.MustCompile(`^[ \t]*(?:"[^"\n]+"|'[^'\n]+'|[\w./-]+)[ \t]*:[ \t]*(?:!!\w+[ \t]+)?(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s#'"|>{&*][^\n]*?))[ \t]*(?:[ \t]#.*)?\r?$`)
	dataScalar  = regexp.MustCompile(`^[ \t]*(?:"[^"\n]+"|'[^'\n]+'|[\w./-]+)[ \t]*:[ \t]*[|>][-+0-9]*[ \t]*\r?$`)
	encodedLine = regexp.MustCompile(`^[A-Za-z0-9+/]+={0,2}$`)
)

// manifest finds the values of a Kubernetes Secret whose kind begins at text[at:end]: all values of data, which are only encoded,
// and the values of stringData that are not plain words. Names of entries stay.
func (d *document) manifest(at, end int, add func(from, to int)) {
	t := d.text
	if at < d.manifests || !kindSecret.MatchString(t[end:min(len(t), end+40)]) || at > 0 && isName(t[at-1]) {
		return
	}
	from, to := 0, len(t)
	if k := strings.LastIndex(t[:at], "\n---"); k >= 0 {
		from = k + 1
	}
	if k := strings.Index(t[end:], "\n---"); k >= 0 {
		to = end + k + 1
	}
	from, to = max(from, at-longest), min(to, end+longest)
	d.manifests = to
	part := t[from:to]
	for _, m := range dataObject.FindAllStringSubmatchIndex(part, 64) {
		encoded := m[3]-m[2] == len("data")
		for _, v := range dataMember.FindAllStringSubmatchIndex(part[m[4]:m[5]], 256) {
			a, b := m[4]+v[2], m[4]+v[3]
			if d.entry(part[a:b], encoded) {
				add(from+a, from+b)
			}
		}
	}
	for _, m := range dataBlock.FindAllStringSubmatchIndex(part, 64) {
		encoded := m[5]-m[4] == len("data")
		d.block(from+m[1], m[3]-m[2], to, encoded, add)
	}
}

// block walks over the entries of a mapping that begins after at and is indented more than its name.
func (d *document) block(at, indent, end int, encoded bool, add func(from, to int)) {
	t := d.text
	own := -1       // indentation of the entries
	scalar := false // inside a block scalar
	for i := at; i < end && d.entered <= 4*len(t); {
		if t[i] == '\n' {
			i++
			continue
		}
		e := strings.IndexByte(t[i:end], '\n')
		if e < 0 {
			e = end - i
		}
		line := t[i : i+e]
		d.entered += e
		text := strings.TrimLeft(line, " \t")
		depth := len(line) - len(text)
		switch {
		case strings.TrimSpace(text) == "" || text[0] == '#' || strings.HasPrefix(text, "{{"):
		case depth <= indent:
			return
		case own < 0 || depth <= own:
			own, scalar = depth, dataScalar.MatchString(line)
			if m := dataEntry.FindStringSubmatchIndex(line); m != nil && !scalar {
				for g := 2; g < len(m); g += 2 {
					if m[g] >= 0 && d.entry(line[m[g]:m[g+1]], encoded) {
						add(i+m[g], i+m[g+1])
					}
				}
			}
		case scalar && encoded:
			if v := strings.TrimRight(text, " \t\r"); encodedLine.MatchString(v) {
				add(i+depth, i+depth+len(v))
			}
		}
		i += e + 1
	}
}

// entry reports whether a value of a Kubernetes Secret is a secret.
func (d *document) entry(v string, encoded bool) bool {
	if v == "" || placeholder(v) || strings.Contains(v, "{{") || strings.Contains(v, "${") {
		return false
	}
	if encoded {
		return encodedLine.MatchString(v) && len(v) >= 4
	}
	return secretValue(v, password, literal) || len(v) >= 6 && strings.ContainsAny(v, "0123456789!@#$%^&*") && !strings.ContainsAny(v, " /:")
}

// passwordFiles are files in which every line ends in a password, after the given number of colons.
var passwordFiles = map[string]int{".pgpass": 4, "pgpass": 4, "pgpass.conf": 4, ".htpasswd": 1, "htpasswd": 1, ".htdigest": 2}

// entries finds the passwords of such a file.
func (d *document) entries(add func(from, to int)) {
	colons := passwordFiles[strings.ToLower(path.Base(d.path))]
	if colons == 0 {
		return
	}
	at := 0
	for line := range strings.Lines(d.text) {
		next := at + len(line)
		line = strings.TrimRight(line, "\r\n")
		from, n := 0, 0
		for from < len(line) && n < colons {
			if line[from] == '\\' {
				from++
			} else if line[from] == ':' {
				n++
			}
			from++
		}
		if n == colons && from < len(line) && line[0] != '#' && !placeholder(line[from:]) {
			add(at+from, at+len(line))
		}
		at = next
	}
}
