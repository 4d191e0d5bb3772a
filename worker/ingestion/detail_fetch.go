package ingestion

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/source"
)

// fetchStage holds the data of phase1Data. Safe for concurrent use: git reports from its own goroutines.
type fetchStage struct {
	mu        sync.Mutex
	label     string
	items     [3]stageItem
	repos     int
	bytes     int64 // received by earlier repositories
	current   int64
	percent   int
	files     int
	size      int64
	languages map[string]bool
	left      leftOut
}

type stageItem struct {
	status string
	began  time.Time
	took   time.Duration
	err    string
}

// The items of phase1Data.
const (
	itemAuth = iota
	itemClone
	itemDiscovery
)

var itemNames = [3]string{"authenticating", "cloning", "file_discovery"}
var itemLabels = [3]string{"Authenticating", "Cloning repository", "Discovering files"}

func newFetchStage(repos int) *fetchStage {
	s := &fetchStage{repos: repos, languages: map[string]bool{}}
	for i := range s.items {
		s.items[i].status = "pending"
	}
	return s
}

func (s *fetchStage) set(item int, status string) {
	it := &s.items[item]
	if it.status == status {
		return
	}
	switch status {
	case "in_progress":
		if it.began.IsZero() {
			it.began = time.Now()
		}
	case "completed":
		if !it.began.IsZero() {
			it.took = time.Since(it.began)
		}
	}
	it.status = status
}

func (s *fetchStage) begin(repo *repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.label = withoutScheme(repo.URL)
	s.bytes += s.current
	s.current, s.percent = 0, 0
	s.set(itemAuth, "in_progress")
}

func (s *fetchStage) authenticated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(itemAuth, "completed")
	s.set(itemClone, "in_progress")
}

func (s *fetchStage) received(p gitfetch.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.percent = p.ReceivedBytes, p.Percent
}

func (s *fetchStage) failed(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.items {
		if s.items[i].status == "in_progress" {
			s.items[i].status, s.items[i].err = "error", message
		}
	}
}

func (s *fetchStage) fetched() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.percent = 100
	s.set(itemAuth, "completed")
	s.set(itemClone, "completed")
	s.set(itemDiscovery, "in_progress")
}

func (s *fetchStage) looking(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.label = label
}

func (s *fetchStage) add(d source.Discovery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files += len(d.Files)
	s.size += d.Bytes
	for _, f := range d.Files {
		if l := languageOf(f.Path); l != "" && l != "text" {
			s.languages[l] = true
		}
	}
}

func (s *fetchStage) leftOut(l leftOut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = l
}

func (s *fetchStage) discovered(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files, s.size = len(r.files), 0
	for _, f := range r.files {
		s.size += f.Size
		if l := languageOf(f.Path); l != "" && l != "text" {
			s.languages[l] = true
		}
	}
	s.set(itemDiscovery, "completed")
}

func (s *fetchStage) json() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]map[string]any, len(s.items))
	for i, it := range s.items {
		items[i] = map[string]any{"item": itemNames[i], "status": it.status, "label": itemLabels[i]}
		if it.status == "completed" {
			items[i]["duration"] = int(it.took.Round(time.Second) / time.Second)
		}
		if it.err != "" {
			items[i]["errorMessage"] = it.err
		}
	}
	downloaded := megabytes(s.bytes + s.current)
	total := 0.0
	if s.percent == 100 {
		total = downloaded
	}
	return map[string]any{"repositoryUrl": s.label, "statusItems": items,
		"cloneProgress": map[string]any{"downloadedMB": downloaded, "totalMB": total, "percentage": s.percent},
		"earlyStats": map[string]any{"filesFound": s.files, "languagesDetected": append([]string{}, slices.Sorted(maps.Keys(s.languages))...),
			"repositorySizeMB": megabytes(s.size)},
		"leftOut": s.left.json()}
}

func (r *run) showFetch(stage *fetchStage, percent int) {
	r.progress.update(func(p *progress) {
		p.percent = max(p.percent, percent)
		stage.mu.Lock()
		switch {
		case stage.items[itemDiscovery].status == "completed":
			p.message = fmt.Sprintf("Found %d files", stage.files)
		case stage.items[itemDiscovery].status == "in_progress":
			p.message = "Looking for files in " + stage.label
		default:
			p.message = "Fetching " + stage.label
		}
		stage.mu.Unlock()
		p.detail = func() (string, any) { return "phase1Data", stage.json() }
	})
}
