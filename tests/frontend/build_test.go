package frontend

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
)

const source = "../../server/client"

// modules gives the folder with the pinned npm packages. They are installed once, below .kijko.
func modules(t *testing.T) string {
	t.Helper()
	const cure = "; type: tests/tools/prepare.sh tests"
	for _, program := range []string{"node", "npm"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, program+" is missing"+cure)
	}
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		sum.Write(read(t, name))
	}
	folder := cache(t, "npm-"+hex.EncodeToString(sum.Sum(nil))[:16])
	install(t, folder, func(into string) {
		for _, name := range []string{"package.json", "package-lock.json"} {
			write(t, filepath.Join(into, name), read(t, name))
		}
		run(t, into, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	})
	return filepath.Join(folder, "node_modules")
}

// cache is a folder below .kijko.
func cache(t *testing.T, name string) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", "..", ".kijko", "frontend"))
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	return filepath.Join(folder, name)
}

// install makes a folder as a whole or not at all, also when two test runs do it at the same time.
func install(t *testing.T, folder string, fill func(into string)) {
	t.Helper()
	if _, err := os.Stat(folder); err == nil {
		return
	}
	draft, err := os.MkdirTemp(filepath.Dir(folder), "draft-")
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(draft) }()
	fill(draft)
	if err := os.Rename(draft, folder); err != nil && !errors.Is(err, os.ErrExist) {
		_, known := os.Stat(folder)
		require.NoError(t, known, "%v", err)
	}
}

var building sync.Mutex

// built gives the folder of the built package, beside the npm packages of the tests. It is built once for each state of its sources.
func built(t *testing.T) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	packages := modules(t)
	document, err := openapi.Load()
	require.NoError(t, err)
	sum := sha256.New()
	sum.Write(document.JSON)
	sum.Write([]byte(packages))
	files := map[string][]byte{"openapi.json": document.JSON}
	require.NoError(t, filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "dist") {
			return filepath.SkipDir
		}
		if err != nil || entry.IsDir() || name == filepath.Join("src", "schema.ts") {
			return err
		}
		files[name] = read(t, path)
		sum.Write([]byte(name))
		sum.Write(files[name])
		return nil
	}))
	folder := cache(t, "package-"+hex.EncodeToString(sum.Sum(nil))[:16])
	install(t, folder, func(into string) {
		for name, content := range files {
			write(t, filepath.Join(into, name), content)
		}
		require.NoError(t, os.Symlink(packages, filepath.Join(into, "node_modules")))
		run(t, into, []string{"KIJKO_OPENAPI=openapi.json"}, "npm", "run", "--silent", "build")
	})
	return folder
}

// workshop is an empty folder where scripts import the package by its name.
func workshop(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	packages := filepath.Join(folder, "node_modules")
	require.NoError(t, os.MkdirAll(filepath.Join(packages, "@kijko"), 0o755))
	require.NoError(t, os.Symlink(built(t), filepath.Join(packages, "@kijko", "client")))
	entries, err := os.ReadDir(modules(t))
	require.NoError(t, err)
	for _, entry := range entries {
		require.NoError(t, os.Symlink(filepath.Join(modules(t), entry.Name()), filepath.Join(packages, entry.Name())))
	}
	return folder
}

// bundle packs a script with what it uses of the package, as a frontend's build does.
func bundle(t *testing.T, folder, script string, flags ...string) []byte {
	t.Helper()
	out := filepath.Join(folder, strings.TrimSuffix(filepath.Base(script), filepath.Ext(script))+".out.mjs")
	run(t, folder, nil, filepath.Join(modules(t), "esbuild", "bin", "esbuild"),
		append([]string{script, "--bundle", "--format=esm", "--log-level=warning", "--outfile=" + out}, flags...)...)
	return read(t, out)
}

func run(t *testing.T, folder string, environment []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", program, strings.Join(args, " "), out)
	return string(out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func gzipped(t *testing.T, content []byte) int {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Len()
}

func TestThePackageIsSmall(t *testing.T) {
	t.Parallel()
	folder := workshop(t)
	size := func(name, script string) int {
		write(t, filepath.Join(folder, name+".mjs"), []byte(script))
		n := gzipped(t, bundle(t, folder, name+".mjs", "--minify"))
		t.Logf("%-8s %5d bytes gzipped", name, n)
		return n
	}
	nothing := size("nothing", `import "@kijko/client";`)
	one := size("one", `import { skillsApi } from "@kijko/client"; console.log(await skillsApi.listSkills());`)
	file := size("file", `import { listSkills } from "@kijko/client/skillsApi"; console.log(await listSkills());`)
	all := size("all", `export * from "@kijko/client";`)
	require.Less(t, nothing, 100, "an import alone costs nothing")
	require.Less(t, one, all/3, "an unused function is left out")
	require.Less(t, file, all/3)
	require.Less(t, all, 30<<10)
}

func TestThePackageIsWhole(t *testing.T) {
	t.Parallel()
	folder := built(t)
	packed := run(t, folder, nil, "npm", "pack", "--dry-run", "--ignore-scripts", "--json")
	for _, name := range []string{"README.md", "dist/index.js", "dist/index.d.ts", "dist/services/projectApi.js", "dist/services/projectApi.d.ts"} {
		require.Contains(t, packed, `"`+name+`"`)
	}
	require.NotContains(t, packed, `"src/`)
	require.NotContains(t, string(read(t, filepath.Join(folder, "package.json"))), `"dependencies"`)
	anything := regexp.MustCompile(`\bany\b`)
	comment := regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	require.NoError(t, filepath.WalkDir(filepath.Join(folder, "dist"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".d.ts") && entry.Name() != "schema.d.ts" {
			require.NotRegexp(t, anything, comment.ReplaceAllString(string(read(t, path)), ""), path)
		}
		return err
	}))
}
