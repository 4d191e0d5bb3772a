package ingestion

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/source"
)

// The phases, in order.
const (
	phaseFetch = iota
	phaseParse
	phaseChunk
	phaseOptimize
	phaseIndex
	phases
)

// phaseInfo holds the worker's constants of a phase: the pauses between attempts, its texts, and its share of a run's time.
type phaseInfo struct {
	name  string
	base  time.Duration
	limit time.Duration
	start string // message
	doing string // for a failure's message
	share float64
}

// phaseRule is the part of a phase's rules that the database sets.
type phaseRule struct {
	Code     string `json:"code"` // error code for failures without a more specific one
	Attempts int    `json:"attempts"`
}

var phaseInfos = [phases]phaseInfo{
	{"repository_fetch", 2 * time.Second, 16 * time.Second, "Fetching sources", "fetching the sources", 0.2},
	{"parsing", 3 * time.Second, 12 * time.Second, "Parsing files", "parsing the files", 0.3},
	{"chunking", 2 * time.Second, 8 * time.Second, "Cutting files into chunks", "cutting the files into chunks", 0.15},
	{"optimization", time.Second, 8 * time.Second, "Optimizing chunks", "optimizing the chunks", 0.2},
	{"indexing", 2 * time.Second, 16 * time.Second, "Indexing chunks", "indexing", 0.15},
}

func phaseIndexOf(name string) (int, error) {
	for i, p := range phaseInfos {
		if p.name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("ingest: unknown phase %q", name)
}

// metrics are IngestionMetrics.
type metrics struct {
	FilesProcessed    int64 `json:"filesProcessed"`
	TotalFiles        int64 `json:"totalFiles"`
	TokensProcessed   int64 `json:"tokensProcessed"`
	BytesProcessed    int64 `json:"bytesProcessed"`
	ChunksCreated     int64 `json:"chunksCreated"`
	ErrorsEncountered int64 `json:"errorsEncountered"`
}

// task is a claimed run, as private.claim_run returns it.
type task struct {
	RunID          uuid.UUID  `json:"runId"`
	OrganizationID uuid.UUID  `json:"organizationId"`
	ProjectID      uuid.UUID  `json:"projectId"`
	Phase          string     `json:"phase"`
	Attempt        int        `json:"attempt"`
	Restarts       int        `json:"restarts"`
	StartedAt      time.Time  `json:"startedAt"`
	ParentRunID    *uuid.UUID `json:"parentRunId"`
	StartedBy      *uuid.UUID `json:"startedBy"`
	Metrics        metrics    `json:"metrics"`
	Options        struct {
		Force        bool     `json:"force"`
		Exclusions   []string `json:"exclusions"`
		Memory       string   `json:"memory"`
		ApplyFilters bool     `json:"applyFilters"`
	} `json:"options"`
	Checkpoint        checkpoint `json:"checkpoint"`
	Strategy          string     `json:"strategy"`
	AnonymizeSecrets  bool       `json:"anonymizeSecrets"`
	IncludeMetadata   bool       `json:"includeMetadata"`
	MetadataOptions   metaOpts   `json:"metadataOptions"`
	OutputFormat      string     `json:"outputFormat"`
	PatternFilters    patterns   `json:"patternFilters"`
	ProcessingOptions struct {
		Parallel bool `json:"parallelProcessing"`
	} `json:"processingOptions"`
	FileFilters struct {
		NodeModules    bool `json:"excludeNodeModules"`
		BuildArtifacts bool `json:"excludeBuildArtifacts"`
		Tests          bool `json:"excludeTests"`
		Documentation  bool `json:"includeDocumentation"`
	} `json:"fileFilters"`
	WebhookURL    string       `json:"webhookUrl"`
	WebhookSecret string       `json:"webhookSecret"` // sealed
	Repositories  []repository `json:"repositories"`
	Files         []storedFile `json:"files"`
	Manual        string       `json:"manualContent"`
	// IsVerbatim: no technique changes the files that this run brings.
	IsVerbatim bool `json:"isVerbatim"`
	// Enriched chooses the files of the graph.
	Enriched source.Choice `json:"lsp"`
	Scope    scope         `json:"scope"`
	// prefixes are those that repositories of the project have already.
	prefixes map[string]bool
	// Phases are the rules of each phase, by its name.
	Phases map[string]phaseRule `json:"phases"`
}

func (t *task) rule(phase int) phaseRule { return t.Phases[phaseInfos[phase].name] }

type metaOpts struct {
	Signatures  bool `json:"functionSignatures"`
	Imports     bool `json:"importDependencies"`
	History     bool `json:"gitHistory"`
	Structure   bool `json:"fileStructure"`
	Annotations bool `json:"customAnnotations"`
}

type patterns struct {
	Languages []string `json:"languagePatterns"`
	Excludes  []string `json:"excludePatterns"`
}

type repository struct {
	ID       uuid.UUID         `json:"id"`
	Provider gitfetch.Provider `json:"provider"`
	URL      string            `json:"url"`
	Name     string            `json:"name"`
	Branch   string            `json:"branch"`
	Include  []string          `json:"includePaths"`
	Exclude  []string          `json:"excludePaths"`
	// Prefix stands in front of the repository's paths; nil before its first ingestion.
	Prefix *string `json:"prefix"`
}

// scope says which sources a run reads. The zero value is all of them.
type scope struct {
	Repositories []uuid.UUID `json:"repositoryIds"`
	Files        []uuid.UUID `json:"fileIds"`
	Manual       bool        `json:"manual"`
	// Rollback and Refresh read no source: the current set is indexed again as it is.
	Rollback *int `json:"rollback"`
	Refresh  bool `json:"refresh"`
}

func (s *scope) none() bool { return s.Rollback != nil || s.Refresh }

func (s *scope) all() bool { return !s.none() && s.Repositories == nil && s.Files == nil && !s.Manual }

// narrow drops the sources that the run does not read.
func (t *task) narrow() {
	t.prefixes = map[string]bool{}
	for _, r := range t.Repositories {
		if r.Prefix != nil {
			t.prefixes[*r.Prefix] = true
		}
	}
	if t.Scope.all() {
		return
	}
	t.Repositories = slices.DeleteFunc(t.Repositories, func(r repository) bool { return !slices.Contains(t.Scope.Repositories, r.ID) })
	t.Files = slices.DeleteFunc(t.Files, func(f storedFile) bool { return !slices.Contains(t.Scope.Files, f.ID) })
	if !t.Scope.Manual {
		t.Manual = ""
	}
}

type storedFile struct {
	ID     uuid.UUID `json:"id"`
	Path   string    `json:"path"`
	Origin string    `json:"origin"`
	Size   int64     `json:"size"`
	Key    string    `json:"key"`
	// Checksum tells whether the content is the same as before; the key is another one after each upload.
	Checksum string `json:"checksum"`
}

// checkpoint is the state that the row keeps for a worker on another machine that takes the run over.
type checkpoint struct {
	// Work names the directory: the id of the first run of a chain of recoveries.
	Work         uuid.UUID                 `json:"work,omitzero"`
	Repositories map[uuid.UUID]fetchedRepo `json:"repositories,omitempty"`
	Branches     []string                  `json:"branches,omitempty"`
	Optimized    *optimizeOutcome          `json:"optimized,omitempty"`
	// Prefixes are those that this run gives to repositories.
	Prefixes map[uuid.UUID]string `json:"prefixes,omitempty"`
	// Settings is the fingerprint of what made the index, for the next run.
	Settings string `json:"settings,omitempty"`
}

// fetchedRepo is a fetched repository. Branch is set only if it differs from the requested branch.
type fetchedRepo struct {
	Commit string `json:"commit"`
	Branch string `json:"branch,omitempty"`
	Files  int    `json:"files"`
}

func parseTask(data []byte) (*task, error) {
	var t task
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("ingest: claimed run: %w", err)
	}
	if !t.IncludeMetadata {
		t.MetadataOptions = metaOpts{}
	}
	if t.Checkpoint.Work == uuid.Nil {
		t.Checkpoint.Work = t.RunID
	}
	if t.Checkpoint.Repositories == nil {
		t.Checkpoint.Repositories = map[uuid.UUID]fetchedRepo{}
	}
	if t.Checkpoint.Prefixes == nil {
		t.Checkpoint.Prefixes = map[uuid.UUID]string{}
	}
	t.narrow()
	return &t, nil
}

// id makes the id of a run's item from its position: the first ten bytes are the run's, the rest are kind and number. Ids ascend
// with the numbers, and a repeated run makes the same ids.
func (t *task) id(kind byte, n int) uuid.UUID {
	u := t.RunID
	u[10] = kind
	for i := 15; i > 10; i-- {
		u[i] = byte(n)
		n >>= 8
	}
	return u
}

// The kinds of ids.
const (
	kindFile  = 1
	kindChunk = 2
)
