package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/editorconfig/editorconfig-core-go/v2"
)

// LeftOut is a file that a run does not read.
type LeftOut struct {
	Path   string
	Reason Reason
}

// leftOutPaths bounds the recorded paths; further files are only counted.
const leftOutPaths = 1000

// Discovery is the result of inspecting every file of a source.
type Discovery struct {
	Files    []Entry // files that the run reads, in byte order of the paths
	Bytes    int64
	Excluded map[Reason]int
	// LeftOut are the first of the files that no filter excluded but whose content could not be read.
	LeftOut []LeftOut
	// Checked are the files that were read now and that their content keeps out.
	Checked []Checked
}

// Checked is a file that its content keeps out.
type Checked struct {
	Entry
	Reason Reason
}

// Recall tells what an earlier inspection of a file found: why its content keeps it out, or Kept and its encoding.
type Recall func(Entry) (reason Reason, encoding string, ok bool)

// Memory returns the Recall for a source with these .editorconfig files, which decide how old encodings are read.
type Memory func(configs []Entry) Recall

// Discover lists a source and applies the filter. It inspects the content of files that their paths do not exclude. progress, if
// set, gets the number of inspected files and of files to inspect, from the calling goroutine, once per file.
func Discover(ctx context.Context, s Source, f *Filter, progress func(done, total int)) (Discovery, error) {
	return Rediscover(ctx, s, f, nil, progress)
}

// Rediscover is Discover with a memory: a file that it knows is not read.
func Rediscover(ctx context.Context, s Source, f *Filter, memory Memory, progress func(done, total int)) (Discovery, error) {
	entries, err := s.List(ctx)
	if err != nil {
		return Discovery{}, err
	}
	d := Discovery{Excluded: map[Reason]int{}}
	candidates := entries[:0:0]
	for _, entry := range entries {
		if reason := f.Path(entry.Path, entry.Size); reason != Kept {
			d.Excluded[reason]++
			continue
		}
		candidates = append(candidates, entry)
	}
	wanted := configsOf(entries)
	if memory != nil {
		candidates = d.recall(memory(wanted), candidates)
	}
	var settings configs
	if len(candidates) > 0 {
		if settings, err = readConfigs(ctx, s, wanted); err != nil {
			return Discovery{}, err
		}
	}
	done, look := 0, new(inspector)
	err = s.Read(ctx, candidates, func(entry Entry, r io.Reader) error {
		content, err := look.inspect(r, func() string { return settings.charset(entry.Path) })
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Path, err)
		}
		entry.Encoding = content.Encoding
		reason := f.Content(content)
		if d.take(entry, reason); reason != Kept {
			d.Checked = append(d.Checked, Checked{entry, reason})
		}
		if done++; progress != nil {
			progress(done, len(candidates))
		}
		return ctx.Err()
	})
	if err != nil {
		return Discovery{}, err
	}
	if done != len(candidates) {
		return Discovery{}, errors.New("the source gave fewer files than it listed")
	}
	d.Files = sortEntries(d.Files)
	return d, nil
}

// take adds an inspected file to the result.
func (d *Discovery) take(entry Entry, reason Reason) {
	if reason == Kept {
		d.Files = append(d.Files, entry)
		d.Bytes += entry.Size
		return
	}
	d.Excluded[reason]++
	if (reason == Binary || reason == UnknownEncoding) && len(d.LeftOut) < leftOutPaths {
		d.LeftOut = append(d.LeftOut, LeftOut{entry.Path, reason})
	}
}

// recall takes the files that are known and returns the others.
func (d *Discovery) recall(known Recall, candidates []Entry) []Entry {
	rest := candidates[:0:0]
	for _, entry := range candidates {
		reason, encoding, ok := known(entry)
		if !ok {
			rest = append(rest, entry)
			continue
		}
		entry.Encoding = encoding
		d.take(entry, reason)
	}
	return rest
}

// configsOf returns the .editorconfig files among the entries.
func configsOf(entries []Entry) []Entry {
	var wanted []Entry
	for _, entry := range entries {
		if path.Base(entry.Path) == configName && entry.Size <= configBytes && len(wanted) < configFiles {
			wanted = append(wanted, entry)
		}
	}
	return slices.Clip(wanted)
}

// readConfigs reads the .editorconfig files of a source. An invalid one is ignored.
func readConfigs(ctx context.Context, s Source, wanted []Entry) (configs, error) {
	found := configs{}
	if len(wanted) == 0 {
		return found, nil
	}
	err := s.Read(ctx, wanted, func(entry Entry, r io.Reader) error {
		text, err := Decode(r, configBytes)
		if err != nil {
			if errors.Is(err, ErrBinary) || errors.Is(err, ErrTooLarge) {
				return nil
			}
			return err
		}
		if config, err := editorconfig.Parse(strings.NewReader(text)); err == nil {
			found[path.Dir(entry.Path)] = config
		}
		return ctx.Err()
	})
	return found, err
}
