package ingestion

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/secret"
	"kijko/worker/ingestion/source"
)

// textVersion changes when the code that makes texts of files changes: decoding and the rules of discovery.
const textVersion = "1"

// rememberedFile is what an earlier run found at a path of a source.
type rememberedFile struct {
	Key      []byte
	Verdict  string
	Encoding string
	content
}

// memory is what is known of one source.
type memory struct {
	r       *run
	origin  *origin
	known   map[string]rememberedFile
	changes map[string]gitfetch.Change
	keys    map[string][]byte // of the files that no filter excludes by its path
}

// textInput is the part of a file's key that is the same for all files of the run.
func (r *run) textInput() string {
	masking := ""
	if r.t.AnonymizeSecrets {
		masking = secret.Version()
	}
	return fingerprint("text", textVersion, masking, r.fileLimit(), r.t.Options.ApplyFilters)
}

// recall returns which files need not be read, because nothing that decides their text has changed.
func (m *memory) recall(configs []source.Entry) source.Recall {
	base := m.r.textInput()
	for _, c := range configs {
		base += "\n" + c.Path + " " + m.r.identity(c.Ref)
	}
	return func(e source.Entry) (source.Reason, string, bool) {
		change := m.changes[e.Path]
		var at string
		if !change.Date.IsZero() {
			at = change.Date.UTC().String() + change.Author
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s\x00%s", m.identity(e), e.Size, at, base))
		key := sum[:16]
		m.keys[e.Path] = key
		k, ok := m.known[e.Path]
		if !ok || string(k.Key) != string(key) {
			return "", "", false
		}
		return source.Reason(k.Verdict), k.Encoding, true
	}
}

// identity names the content of an entry: the blob of a repository, the checksum of an upload and the place in it.
func (m *memory) identity(e source.Entry) string {
	if m.origin.kind == "manual" {
		sum := sha256.Sum256([]byte(m.r.t.Manual))
		return string(sum[:])
	}
	return m.r.identity(e.Ref)
}

func (r *run) identity(ref string) string {
	if sum, ok := r.checksums[ref]; ok {
		return sum
	}
	if key, place, ok := strings.Cut(ref, "!"); ok && r.checksums[key] != "" {
		return r.checksums[key] + "!" + place
	}
	return ref
}

// remembered reads what earlier runs know of the run's sources; nothing if the run is to do everything again.
func (r *run) remembered(ctx context.Context) (map[string]map[string]rememberedFile, error) {
	all := map[string]map[string]rememberedFile{}
	var names []string
	for _, o := range r.origins {
		names = append(names, o.memory)
		all[o.memory] = map[string]rememberedFile{}
	}
	if r.t.Options.Force || len(names) == 0 {
		return all, nil
	}
	err := r.store.retry(ctx, "read sources", func(ctx context.Context) error {
		rows, err := r.store.pool.Query(ctx, "select source, path, key, verdict, encoding, hash, bytes, tokens, language from private.read_sources($1, $2, $3)",
			r.store.run, r.store.owner, names)
		if err != nil {
			return err
		}
		var source, path string
		var f rememberedFile
		_, err = pgx.ForEachRow(rows, []any{&source, &path, &f.Key, &f.Verdict, &f.Encoding, &f.Hash, &f.Bytes, &f.Tokens, &f.Language}, func() error {
			all[source][path] = f
			return nil
		})
		return err
	})
	return all, err
}

// others returns the files with a text that the run keeps as they are, by name, and how many there are without one.
func (s *store) others(ctx context.Context) (files []file, binaries int, err error) {
	err = s.retry(ctx, "read the current set", func(ctx context.Context) error {
		files, binaries = nil, 0
		rows, err := s.pool.Query(ctx, "select path, hash, origin, repository_id, language, is_binary, bytes, tokens, last_change from private.other_files($1, $2)", s.run, s.owner)
		if err != nil {
			return err
		}
		var f file
		var c content
		var repository pgtype.UUID
		var binary bool
		var change *lastChange
		_, err = pgx.ForEachRow(rows, []any{&f.Name, &c.Hash, &f.Kind, &repository, &c.Language, &binary, &c.Bytes, &c.Tokens, &change}, func() error {
			if binary {
				binaries++
				return nil
			}
			one, text := f, c
			one.Origin, one.Path, one.Size, one.Stored, one.Repository, one.Change = -1, f.Name, c.Bytes, &text, nil, change
			if repository.Valid {
				id := uuid.UUID(repository.Bytes)
				one.Repository = &id
			}
			files = append(files, one)
			return nil
		})
		return err
	})
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.Name, b.Name) })
	return files, binaries, err
}
