package ingest

import (
	"path"
	"slices"
	"strings"
)

// pathIndex finds the files that an import means. It knows the project's own paths and nothing of package managers: what does not
// lead to a file of the project is outside.
type pathIndex struct {
	r      *run
	byName map[string]int32   // full name
	byStem map[string][]int32 // last path segment without ending
	byDir  map[string][]int32 // last segment of the directory
}

// maxDirFiles bounds how many files of a directory one import of the directory links to.
const maxDirFiles = 50

func (x *pathIndex) build(r *run) {
	x.r = r
	x.byName = make(map[string]int32, len(r.files))
	x.byStem = make(map[string][]int32, len(r.files))
	x.byDir = map[string][]int32{}
	for i, f := range r.files {
		name := r.name(f)
		x.byName[name] = int32(i)
		stem := stemOf(path.Base(name))
		x.byStem[stem] = append(x.byStem[stem], int32(i))
		dir := path.Base(path.Dir(name))
		x.byDir[dir] = append(x.byDir[dir], int32(i))
	}
}

func stemOf(base string) string {
	stem, _, _ := strings.Cut(base, ".")
	return stem
}

// resolve gives the files of the project that an import in file i means, or none.
func (x *pathIndex) resolve(i int, language, imported string) []int {
	name := x.r.name(x.r.files[i])
	switch language {
	case "go":
		return x.directory(imported, ".go")
	case "typescript", "tsx", "javascript", "jsx":
		if strings.HasPrefix(imported, ".") {
			return x.relative(path.Join(path.Dir(name), imported), ".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".d.ts", ".json", "/index.ts", "/index.tsx",
				"/index.js", "/index.jsx")
		}
		return nil
	case "python":
		return x.python(name, imported)
	case "c", "cpp", "objc":
		if found := x.relative(path.Join(path.Dir(name), imported)); found != nil {
			return found
		}
		return x.suffix(imported)
	case "java", "kotlin", "scala", "csharp", "php":
		return x.suffix(strings.NewReplacer(".", "/", "\\", "/").Replace(strings.Trim(imported, "\\")))
	case "ruby":
		if strings.HasPrefix(imported, ".") {
			return x.relative(path.Join(path.Dir(name), imported), ".rb")
		}
		return x.suffix(imported)
	case "rust":
		return x.rust(imported)
	}
	return nil
}

// relative tries a path as it is and with endings.
func (x *pathIndex) relative(name string, endings ...string) []int {
	for _, ending := range append([]string{""}, endings...) {
		if i, ok := x.byName[name+ending]; ok {
			return []int{int(i)}
		}
	}
	// TypeScript names the compiled file: ./a.js means ./a.ts.
	if stem, ok := strings.CutSuffix(name, ".js"); ok && len(endings) > 0 {
		for _, ending := range []string{".ts", ".tsx"} {
			if i, ok := x.byName[stem+ending]; ok {
				return []int{int(i)}
			}
		}
	}
	return nil
}

// suffix finds the only file whose path, with or without its ending, ends in the given segments.
func (x *pathIndex) suffix(wanted string) []int {
	wanted = strings.Trim(wanted, "/")
	if wanted == "" || !strings.Contains(wanted, "/") && !strings.Contains(wanted, ".") {
		return nil
	}
	var found []int
	for _, i := range x.byStem[stemOf(path.Base(wanted))] {
		name := x.r.name(x.r.files[i])
		bare := path.Join(path.Dir(name), stemOf(path.Base(name)))
		if hasTail(name, wanted) || hasTail(bare, wanted) {
			if found = append(found, int(i)); len(found) > 1 {
				return nil
			}
		}
	}
	return found
}

func hasTail(name, tail string) bool {
	return name == tail || strings.HasSuffix(name, "/"+tail)
}

// directory finds the files of the directory that an import path ends in: example.com/mod/pkg/x is the directory pkg/x, if the
// project has one with as many of its segments.
func (x *pathIndex) directory(imported, ending string) []int {
	best, bestDir := 0, ""
	for _, i := range x.byDir[path.Base(imported)] {
		name := x.r.name(x.r.files[i])
		dir := path.Dir(name)
		if dir == bestDir || !strings.HasSuffix(name, ending) {
			continue
		}
		// One of the two must be the tail of the other, or a short name would match anything of the same name.
		if hasTail(imported, dir) || hasTail(dir, imported) {
			if n := strings.Count(dir, "/") + 1; n > best {
				best, bestDir = n, dir
			}
		}
	}
	if best == 0 {
		return nil
	}
	var found []int
	for _, i := range x.byDir[path.Base(imported)] {
		name := x.r.name(x.r.files[i])
		if path.Dir(name) == bestDir && strings.HasSuffix(name, ending) && !strings.HasSuffix(name, "_test"+ending) && len(found) < maxDirFiles {
			found = append(found, int(i))
		}
	}
	return found
}

func (x *pathIndex) python(name, imported string) []int {
	bare := strings.TrimLeft(imported, ".")
	up := len(imported) - len(bare)
	wanted := strings.ReplaceAll(bare, ".", "/")
	if up > 0 {
		dir := path.Dir(name)
		for range up - 1 {
			dir = path.Dir(dir)
		}
		return x.relative(path.Join(dir, wanted), ".py", "/__init__.py")
	}
	for _, try := range []string{wanted + ".py", wanted + "/__init__.py"} {
		if i, ok := x.byName[try]; ok {
			return []int{int(i)}
		}
	}
	if i, ok := x.byName[path.Join(path.Dir(name), wanted)+".py"]; ok {
		return []int{int(i)}
	}
	if strings.Contains(wanted, "/") {
		return x.suffix(wanted + ".py")
	}
	return nil
}

// rust resolves crate::a::b and a::b to a/b.rs, a/b/mod.rs, or, where b is something inside, a.rs.
func (x *pathIndex) rust(imported string) []int {
	var segments []string
	for s := range strings.SplitSeq(imported, "::") {
		if s = strings.Trim(s, "{}* "); s != "" && s != "crate" && s != "self" && s != "super" {
			segments = append(segments, s)
		}
	}
	for len(segments) > 0 {
		wanted := strings.Join(segments, "/")
		for _, tail := range []string{wanted + ".rs", wanted + "/mod.rs", "src/" + wanted + ".rs"} {
			var found []int
			for _, i := range x.byStem[stemOf(path.Base(tail))] {
				if hasTail(x.r.name(x.r.files[i]), tail) {
					found = append(found, int(i))
				}
			}
			if len(found) == 1 {
				return found
			}
		}
		segments = slices.Clip(segments[:len(segments)-1])
	}
	return nil
}
