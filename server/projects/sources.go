package projects

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"slices"
	"strings"

	"kijko/db"
	"kijko/server/api"
)

// ReceiveSources stores the files of a form whose extension is one of extensions, and returns the names of the others. Content with another
// extension is read and never stored.
func (f *Feature) ReceiveSources(c *api.Call, boundary string, extensions []string) (content *Content, rejected []string, err error) {
	b := f.newBatch()
	rejected = []string{}
	form := multipart.NewReader(&capped{r: c.Stream(), n: maxRequest}, boundary)
	var paths []string
	for err == nil {
		var part *multipart.Part
		if part, err = form.NextPart(); err != nil {
			break
		}
		place := partPath(part)
		switch name := path.Base(place); {
		case !slices.Contains([]string{"files", "file", "files[]"}, part.FormName()):
			_, err = io.Copy(io.Discard, part)
		case len(paths)+len(rejected) == maxFiles:
			err = api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A request carries at most 1,000 files.", "files")
		case !isStorable(name) || !slices.Contains(extensions, strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))):
			rejected = append(rejected, db.Text(name))
			_, err = io.Copy(io.Discard, part)
		default:
			paths = append(paths, place)
			err = b.add(c.Context(), name, part.Header.Get("Content-Type"), part)
		}
	}
	if !errors.Is(err, io.EOF) {
		f.discard(c, keysOf(b.files))
		return nil, nil, f.readingProblem(c, err)
	}
	b.place(paths)
	good := []*file{}
	var bad []string
	for _, one := range b.files {
		if one.reason == "" {
			good = append(good, one)
			continue
		}
		rejected = append(rejected, db.Text(one.Name))
		if one.Key != "" {
			bad = append(bad, one.Key)
		}
	}
	f.discard(c, bad)
	for _, name := range rejected {
		_, _ = b.digest.Write([]byte(name + "\n"))
	}
	c.SetFingerprint(b.digest.Sum(nil))
	return &Content{f: f, Stored: map[string]any{"files": good}, keys: keysOf(good)}, rejected, nil
}
