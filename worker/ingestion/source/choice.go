package source

import "fmt"

// maxChosen is the largest file that is chosen where the settings have no limit: the largest limit that they can have.
const maxChosen = 10 << 20

// Choice is the part of a context's settings that says which of its files the enrichments take (contract 60, section 10.4).
type Choice struct {
	ExcludePatterns []string `json:"excludePatterns"`
	// MaxFileSize is in KB; 0 means no limit.
	MaxFileSize int64 `json:"maxFileSize"`
}

// Compile returns whether a file of the context is taken.
func (c Choice) Compile() (takes func(path string, bytes int64) bool, err error) {
	excluded, err := NewExclusion(c.ExcludePatterns)
	if err != nil {
		return nil, fmt.Errorf("exclude patterns: %w", err)
	}
	limit := int64(maxChosen)
	if c.MaxFileSize > 0 {
		limit = c.MaxFileSize << 10
	}
	return func(path string, bytes int64) bool { return bytes <= limit && !excluded.Match(path) }, nil
}
