package enrichments

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"kijko/worker/graph"
	"kijko/worker/ingestion/parse"
)

// buildGraph builds the graph of the current files, unless the run of the ingestion has built it just before.
func (r *run) buildGraph(ctx context.Context) error {
	if !r.t.Builds {
		return r.store.finish(ctx, map[string]any{})
	}
	base, err := graph.Generation(ctx, r.e.c.Pool, r.t.ProjectID)
	if err != nil {
		return err
	}
	s := &graphSource{r: r}
	err = r.pages(ctx, "Read", func(files []file) error {
		s.files = append(s.files, files...)
		return nil
	})
	if err != nil {
		return err
	}
	r.t.Files, r.percent = 2*len(s.files), 0 // two passes
	g, err := graph.Build(ctx, r.t.ProjectID, s)
	if err != nil {
		return err
	}
	err = r.store.finishGraph(ctx, r.t.ProjectID, g, base)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "40001" {
		// A newer graph came into force meanwhile, of newer files. It is the one to measure.
		return r.store.finish(ctx, map[string]any{})
	}
	return err
}

// graphSource is the current files as the graph takes them.
type graphSource struct {
	r     *run
	files []file
	done  int
}

func (s *graphSource) Paths() []string {
	paths := make([]string, len(s.files))
	for i, f := range s.files {
		paths[i] = f.Path
	}
	return paths
}

func (s *graphSource) Text(ctx context.Context, i int) (string, error) {
	texts, err := s.r.store.contents(ctx, [][]byte{s.files[i].Hash})
	return texts[string(s.files[i].Hash)], err
}

// Each parses the files that one look at the database brings at once, and visits them in order.
func (s *graphSource) Each(ctx context.Context, visit func(i int, f *parse.File) error) error {
	for from := 0; from < len(s.files); {
		to := min(from+pageFiles, len(s.files))
		err := s.r.texts(ctx, s.files[from:to], func(files []file, texts map[string]string) error {
			parsed := make([]*parse.File, len(files))
			group, parsing := errgroup.WithContext(ctx)
			group.SetLimit(s.r.e.c.Parsers)
			for i := range files {
				if text, ok := texts[string(files[i].Hash)]; ok {
					group.Go(func() (err error) {
						parsed[i], err = s.r.parse(parsing, files[i].Path, text)
						return err
					})
				}
			}
			if err := group.Wait(); err != nil {
				return err
			}
			for i := range files {
				if err := visit(from+i, parsed[i]); err != nil {
					return err
				}
			}
			from += len(files)
			s.done += len(files)
			return s.r.report(ctx, s.done, "Read")
		})
		if err != nil {
			return err
		}
	}
	return nil
}
