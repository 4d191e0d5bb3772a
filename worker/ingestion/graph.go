package ingestion

import (
	"context"

	"kijko/worker/graph"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/source"
)

// indexGraph makes the graph of the run's files, unless it is made. It becomes visible when the run does.
func (r *run) indexGraph(ctx context.Context) error {
	if r.graph != nil {
		return nil
	}
	s, err := newGraphSource(r)
	if err != nil {
		return err
	}
	r.graph, err = graph.Build(ctx, r.t.ProjectID, s)
	return err
}

// graphSource is the run's files as the graph takes them: without binary ones and those that the context's settings leave out.
type graphSource struct {
	r     *run
	files []int // numbers of files of the run
	paths []string
}

func newGraphSource(r *run) (*graphSource, error) {
	takes, err := r.t.Enriched.Compile()
	if err != nil {
		return nil, err
	}
	s := &graphSource{r: r}
	for i, f := range r.files {
		bytes := f.Size
		if text := r.parse.Texts[i]; text != nil {
			bytes = text.Bytes
		}
		if path := r.name(f); takes(path, bytes) {
			s.files, s.paths = append(s.files, i), append(s.paths, path)
		}
	}
	return s, nil
}

func (s *graphSource) Paths() []string { return s.paths }

func (s *graphSource) Text(_ context.Context, i int) (string, error) {
	var p parsedFile
	_, err := s.r.record(s.files[i], &p)
	return p.Text, err
}

// Each decodes ahead.
func (s *graphSource) Each(ctx context.Context, visit func(i int, f *parse.File) error) error {
	return ordered(ctx, len(s.files), s.r.workers(), func(_ context.Context, i int) (*parsedFile, error) {
		var p parsedFile
		_, err := s.r.record(s.files[i], &p)
		return &p, err
	}, func(i int, p *parsedFile) error {
		switch p.Failed {
		case "":
			return visit(i, &p.File)
		case source.ErrBinary.Error():
			return nil
		}
		return visit(i, nil)
	})
}
