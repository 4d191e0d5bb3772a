package ingestion

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
)

// insightLimit bounds how many items are remembered to find repetitions.
const insightLimit = 200_000

// parseStage counts the progress of phase 2. Safe for concurrent use.
type parseStage struct {
	mu        sync.Mutex
	began     time.Time
	total     int
	done      int
	out       parseOutcome
	types     map[string]*typeCount
	bodies    map[uint64]bool // functions, by name and signature
	repeated  int
	imports   map[string]int
	generated int
	secrets   int
	markers   int
}

type typeCount struct{ total, done, classes, functions, modules int }

func newParseStage(r *run) *parseStage {
	s := &parseStage{began: time.Now(), total: len(r.files), types: map[string]*typeCount{}, bodies: map[uint64]bool{}, imports: map[string]int{},
		out: parseOutcome{Languages: map[string]int{}, Texts: make([]*content, len(r.files))}}
	for _, f := range r.files {
		s.typeOf(languageOf(f.Name)).total++
	}
	// The result comes from the disk: the phase is complete already.
	if r.parsed != nil {
		s.out, s.done = r.parse, len(r.files)
		for _, t := range s.types {
			t.done = t.total
		}
	}
	return s
}

func (s *parseStage) typeOf(language string) *typeCount {
	t := s.types[language]
	if t == nil {
		t = &typeCount{}
		s.types[language] = t
	}
	return t
}

func (s *parseStage) failed(name, language string, large bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	s.typeOf(language).done++
	if large {
		s.out.TooLarge = append(s.out.TooLarge, name)
		return
	}
	s.out.Failed = append(s.out.Failed, name)
}

// summary is what the figures of the whole project need of a file.
type summary struct {
	Text      content
	Classes   int
	Functions int
	Modules   int
	Bodies    []uint64 // of functions, with their names and signatures
	Imports   []string
	Generated bool
	Secrets   int
	Markers   int
}

func summarize(p *parsedFile) summary {
	// The figures of all files stay in memory. A slice of the hash, or a piece of the text, would hold the whole parse result.
	s := summary{Text: content{bytes.Clone(p.Hash[:]), int64(p.Bytes), int64(p.Tokens), p.File.Language}, Imports: importPaths(&p.File), Generated: p.File.Generated,
		Secrets: p.Secrets, Markers: len(p.File.Markers)}
	p.File.Walk(func(d *parse.Decl) {
		switch d.Kind {
		case parse.Function, parse.Method:
			s.Functions++
			s.Bodies = append(s.Bodies, xxhash.Sum64String(d.Name+"\x00"+p.Text[d.NameByte:d.EndByte]))
		case parse.Class, parse.Interface, parse.Struct, parse.Enum:
			s.Classes++
		case parse.Module:
			s.Modules++
		}
	})
	return s
}

func (s *parseStage) add(i int, name string, p *summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	s.out.Files++
	s.out.Tokens += p.Text.Tokens
	s.out.Bytes += p.Text.Bytes
	s.out.Languages[p.Text.Language]++
	text := p.Text
	s.out.Texts[i] = &text
	t := s.typeOf(languageOf(name))
	t.done++
	t.functions += p.Functions
	t.classes += p.Classes
	t.modules += p.Modules
	for _, h := range p.Bodies {
		if s.bodies[h] {
			s.repeated++
		} else if len(s.bodies) < insightLimit {
			s.bodies[h] = true
		}
	}
	for _, path := range p.Imports {
		if _, known := s.imports[path]; known {
			s.imports[path]++
		} else if len(s.imports) < insightLimit {
			s.imports[strings.Clone(path)] = 1
		}
	}
	if p.Generated {
		s.generated++
	}
	s.secrets += p.Secrets
	s.markers += p.Markers
}

func (s *parseStage) reused(q *chunk.Quality) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Reused++
	s.out.Known.Merge(q)
}

// outcome is final, and the same for every order of the files.
func (s *parseStage) outcome() parseOutcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.out.Failed)
	slices.Sort(s.out.TooLarge)
	s.out.Insights = s.insights()
	return s.out
}

// insights returns up to five findings, ordered by their effect on size.
func (s *parseStage) insights() []string {
	var found []string
	if s.repeated > 0 {
		found = append(found, fmt.Sprintf("%d functions are word for word the same as another one", s.repeated))
	}
	most, times, shared := "", 0, 0
	for path, n := range s.imports {
		if n >= 3 {
			shared++
		}
		if n > times || n == times && path < most {
			most, times = path, n
		}
	}
	if times >= 3 {
		found = append(found, fmt.Sprintf("%d imports are repeated in three files or more; %q in %d", shared, most, times))
	}
	if s.generated > 0 {
		found = append(found, fmt.Sprintf("%d files say that they are generated", s.generated))
	}
	if s.secrets > 0 {
		found = append(found, fmt.Sprintf("%d secrets were masked", s.secrets))
	}
	if s.markers > 0 {
		found = append(found, fmt.Sprintf("%d TODO and similar notes in comments", s.markers))
	}
	return found
}

func (s *parseStage) json() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	type row struct {
		name string
		*typeCount
	}
	var rows []row
	for name, t := range s.types {
		rows = append(rows, row{name, t})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(b.total-a.total, cmp.Compare(a.name, b.name)) })
	breakdown := make([]map[string]any, 0, len(rows))
	for _, t := range rows {
		breakdown = append(breakdown, map[string]any{"fileType": t.name, "label": languageLabel(t.name), "filesProcessed": t.done, "totalFiles": t.total,
			"percentage": percentOf(t.done, t.total), "isComplete": t.done >= t.total,
			"extractedEntities": map[string]int{"classes": t.classes, "functions": t.functions, "modules": t.modules}})
	}
	insights := s.out.Insights
	if insights == nil {
		insights = s.insights()
	}
	if insights == nil {
		insights = []string{}
	}
	speed := 0.0
	if sec := time.Since(s.began).Seconds(); sec > 0.05 {
		speed = math.Round(float64(s.done)/sec*10) / 10
	}
	return map[string]any{"overallProgress": percentOf(s.done, s.total), "fileTypeBreakdown": breakdown,
		"metrics":        map[string]any{"tokensProcessed": s.out.Tokens, "currentReduction": 0, "speedFilesPerSec": speed},
		"memoryInsights": insights, "leftOut": tooLargeFiles(s.out.TooLarge).json()}
}

func percentOf(part, whole int) int {
	if whole == 0 {
		return 100
	}
	return part * 100 / whole
}

// languageLabel is the usual name of a language, or the id if there is no other name.
func languageLabel(id string) string {
	if label, ok := languageLabels[id]; ok {
		return label
	}
	if id == "" {
		return "Other"
	}
	return strings.ToUpper(id[:1]) + id[1:]
}

var languageLabels = map[string]string{"typescript": "TypeScript", "tsx": "TypeScript (TSX)", "javascript": "JavaScript", "csharp": "C#", "cpp": "C++",
	"c": "C", "php": "PHP", "sql": "SQL", "json": "JSON", "jsonc": "JSON", "json5": "JSON", "yaml": "YAML", "toml": "TOML", "ini": "INI", "html": "HTML", "css": "CSS",
	"scss": "SCSS", "xml": "XML", "text": "Text", "dotenv": "Environment"}

// showParsed shows the counts; percent -1 computes it.
func (r *run) showParsed(s *parseStage, percent int) {
	r.progress.update(func(p *progress) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if percent < 0 {
			percent = percentOf(s.done, s.total)
		}
		p.percent = max(p.percent, percent)
		p.message = fmt.Sprintf("Parsed %d of %d files", s.done, s.total)
		p.metrics.FilesProcessed = int64(s.done)
		p.metrics.TokensProcessed = s.out.Tokens
		p.metrics.BytesProcessed = s.out.Bytes
		p.metrics.ErrorsEncountered = int64(len(s.out.Failed))
		p.detail = func() (string, any) { return "phase2Data", s.json() }
	})
}

// languages returns the names of the detected languages, most files first.
func (o parseOutcome) languages() []string {
	names := slices.Collect(maps.Keys(o.Languages))
	names = slices.DeleteFunc(names, func(n string) bool { return n == "text" })
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(o.Languages[b]-o.Languages[a], cmp.Compare(a, b)) })
	return names
}
