package source_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/source"
)

func TestFilterPath(t *testing.T) {
	repo := source.Rules{Kind: source.Repository}
	smart := source.Rules{Kind: source.Upload, Smart: source.SmartFilters{ExcludeNodeModules: true, ExcludeBuildArtifacts: true, ExcludeTests: true}}
	open := source.Rules{Kind: source.Upload, Smart: source.SmartFilters{IncludeDocumentation: true}}
	with := func(r source.Rules, change func(*source.Rules)) source.Rules { change(&r); return r }
	stronger := with(repo, func(r *source.Rules) { r.Stronger = true })
	tests := []struct {
		name  string
		rules source.Rules
		path  string
		want  source.Reason
	}{
		{"GitFolderIsNeverRead", open, "a/.git/config", source.GitFolder},
		{"GitignoreIsRead", repo, ".gitignore", source.Kept},

		{"RepositoryVendorAtTheRoot", repo, "vendor/x.go", source.Dependency},
		{"RepositoryNodeModulesDeepDown", repo, "a/node_modules/b/c.js", source.Dependency},
		{"RepositoryVenv", repo, ".venv/lib/x.py", source.Dependency},
		{"RepositoryDist", repo, "web/dist/x.js", source.BuildArtifact},
		{"RepositorySegmentMustBeEqual", repo, "distance/builder/outer.go", source.Kept},
		{"RepositoryPackagesAreKept", repo, "packages/core/index.ts", source.Kept},
		{"RepositoryMinified", repo, "a/jquery.min.js", source.BuildArtifact},
		{"RepositoryMinifiedStyle", repo, "a/x.min.css", source.BuildArtifact},
		{"RepositoryTestsAreKept", repo, "a/__tests__/x.test.ts", source.Kept},
		{"RepositoryDocsAreKept", repo, "docs/index.md", source.Kept},

		{"SmartPackagesIsADependency", smart, "My/Packages/x.ts", source.Dependency},
		{"SmartContainsAlsoInsideANameAsPreviewed", smart, "src/vendors.ts", source.Dependency},
		{"SmartVenvInsideAName", smart, "adventure/venvy.py", source.Dependency},
		{"SmartDistNeedsSlashesAround", smart, "dist/x.js", source.Kept},
		{"SmartDist", smart, "app/DIST/x.js", source.BuildArtifact},
		{"SmartMinified", smart, "app/A.MIN.JS", source.BuildArtifact},
		{"SmartTestFile", smart, "app/a.test.ts", source.Test},
		{"SmartSpecFile", smart, "app/a.Spec.ts", source.Test},
		{"SmartTestFolder", smart, "app/tests/a.ts", source.Test},
		{"SmartTestFolderAtTheRootIsKept", smart, "tests/a.ts", source.Kept},
		{"SmartDocumentation", smart, "README.MD", source.Documentation},
		{"SmartDocsFolder", smart, "app/docs/a.txt", source.Documentation},
		{"SmartMdxIsKept", smart, "a.mdx", source.Kept},
		{"SwitchesOff", open, "x/node_modules/dist/a.test.md", source.Kept},
		{"SmartFiltersAreForUploadsOnly", with(smart, func(r *source.Rules) { r.Kind = source.Repository }), "a.test.md", source.Kept},
		{"RepositorySegmentsAreForRepositoriesOnly", open, "target/x", source.Kept},

		{"IncludePathsNameOthers", with(repo, func(r *source.Rules) { r.IncludePaths = []string{"src/**"} }), "lib/a.go", source.NotIncluded},
		{"IncludePathsMatch", with(repo, func(r *source.Rules) { r.IncludePaths = []string{"lib", "src/**"} }), "src/a/b.go", source.Kept},
		{"ExcludePathsWinOverIncludePaths", with(repo, func(r *source.Rules) { r.IncludePaths, r.ExcludePaths = []string{"src/"}, []string{"src/gen/"} }), "src/gen/b.go", source.ExcludedPath},
		{"PathListsAreForRepositoriesOnly", with(open, func(r *source.Rules) { r.IncludePaths = []string{"src/**"} }), "lib/a.go", source.Kept},
		{"SegmentsComeBeforeExcludePaths", with(repo, func(r *source.Rules) { r.ExcludePaths = []string{"**"} }), "vendor/a.go", source.Dependency},
		{"ExcludePatterns", with(open, func(r *source.Rules) { r.ExcludePatterns = []string{"*.csv"} }), "data/x.csv", source.ExcludedPattern},
		{"LanguagePatternsNameOthers", with(open, func(r *source.Rules) { r.LanguagePatterns = []string{"*.go"} }), "x.py", source.OtherLanguage},
		{"ExcludePatternsComeBeforeLanguagePatterns", with(repo, func(r *source.Rules) { r.ExcludePatterns, r.LanguagePatterns = []string{"x*"}, []string{"*.go"} }), "x.go", source.ExcludedPattern},
		{"ExclusionsOfRecoveryAreExact", with(repo, func(r *source.Rules) { r.Excluded = []string{"a/b.go"} }), "a/b.go", source.Recovery},
		{"ExclusionsOfRecoveryAreNoPatterns", with(repo, func(r *source.Rules) { r.Excluded = []string{"a/*.go"} }), "a/b.go", source.Kept},

		{"TypedTextEscapesSmartFiltersAndPatterns", source.Rules{Kind: source.Text, Smart: smart.Smart, LanguagePatterns: []string{"*.go"}, Stronger: true}, "x.lock", source.Kept},
		{"TypedTextCanBeExcludedByName", source.Rules{Kind: source.Text, Excluded: []string{"note.md"}}, "note.md", source.Recovery},

		{"LockFilesStayNormally", repo, "yarn.lock", source.Kept},
		{"StrongerPackageLock", stronger, "a/package-lock.json", source.LockFile},
		{"StrongerGoSum", stronger, "go.sum", source.LockFile},
		{"StrongerCargoLock", stronger, "Cargo.lock", source.LockFile},
		{"StrongerPnpm", stronger, "pnpm-lock.yaml", source.LockFile},
		{"StrongerSnapshot", stronger, "a/x.snap", source.Snapshot},
		{"StrongerSnapshotFolder", stronger, "a/__snapshots__/x.ts", source.Snapshot},
		{"StrongerProtobuf", stronger, "a/x.pb.go", source.Generated},
		{"StrongerGeneratedName", stronger, "a/x_generated.ts", source.Generated},
		{"StrongerDart", stronger, "a/x.g.dart", source.Generated},
		{"StrongerOrdinary", stronger, "a/lock.go", source.Kept},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := source.NewFilter(tt.rules)
			require.NoError(t, err)
			require.Equal(t, tt.want, f.Path(tt.path, 1))
		})
	}
	t.Run("EmptyFilesAreNeverRead", func(t *testing.T) {
		f, err := source.NewFilter(repo)
		require.NoError(t, err)
		require.Equal(t, source.Empty, f.Path("a.go", 0))
	})
	t.Run("InvalidPatternIsNamedWithItsList", func(t *testing.T) {
		_, err := source.NewFilter(source.Rules{LanguagePatterns: []string{"*.go", "[a"}})
		require.EqualError(t, err, `languagePatterns: "[a" is not a valid pattern`)
	})
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool
	}{
		{"*.ts", "a/b/c.ts", true},
		{"*.ts", "a/b.ts/c.go", false},
		{"?.go", "x/a.go", true},
		{"?.go", "x/ab.go", false},
		{"[a-c].go", "b.go", true},
		{"[!a-c].go", "b.go", false},
		{"Makefile", "a/Makefile", true},
		{"docs", "a/docs/b/c.md", true},
		{"docs", "a/docsy/c.md", false},
		{"docs/*", "docs/a.md", true},
		{"docs/*", "docs/a/b.md", false},
		{"docs/**", "docs/a/b.md", true},
		{"/docs/**", "docs/a/b.md", true},
		{"./docs", "docs/a/b.md", true},
		{"docs/", "docs/a/b.md", true},
		{"docs/", "docs", false},
		{"docs/", "a/docs/b.md", false},
		{"/README.md", "README.md", true},
		{"/README.md", "a/README.md", false},
		{"**/x/*.go", "a/b/x/c.go", true},
		{"**/x/*.go", "x/c.go", true},
		{"src/*/gen", "src/a/gen/b/c.go", true},
		{"src/*/", "src/a/b.go", true},
		{"src/*/", "src/b.go", false},
		{"**/test_*/", "a/test_b/c/d.py", true},
		{"*.{ts,tsx}", "a/b.tsx", true},
		{"a{b", "a{b", false},
		{"*", "any/thing", true},
		{"**", "any/thing", true},
		{"A.go", "a.go", false},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.pattern+" on "+tt.path, "/", "|"), func(t *testing.T) {
			f, err := source.NewFilter(source.Rules{Kind: source.Upload, Smart: source.SmartFilters{IncludeDocumentation: true}, LanguagePatterns: []string{tt.pattern}})
			if !source.ValidGlob(tt.pattern) {
				require.Error(t, err)
				require.False(t, tt.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, f.Path(tt.path, 1) == source.Kept)
		})
	}
}

func TestValidGlob(t *testing.T) {
	for _, good := range []string{"*", "a", "**/*.go", "[a-z]?", "{a,b}/{c,d}", `\[x`, "{a,b,c,d}{a,b,c,d}{a,b,c,d}"} {
		require.True(t, source.ValidGlob(good), good)
	}
	for _, bad := range []string{"", " ", "/", "//", "[", "[a", "{a", `a\`, strings.Repeat("{a,b}", 7), "{a,{b,c}}"} {
		require.False(t, source.ValidGlob(bad), bad)
	}
	t.Run("StarsWithoutEndAreCheap", func(t *testing.T) {
		pattern := strings.Repeat("**/*a", 30) + "b"
		require.True(t, source.ValidGlob(pattern))
		f, err := source.NewFilter(source.Rules{Kind: source.Upload, LanguagePatterns: []string{pattern}})
		require.NoError(t, err)
		require.Equal(t, source.OtherLanguage, f.Path(strings.Repeat("aaaa/", 150)+"c", 1))
	})
}

func TestFilterContent(t *testing.T) {
	line := strings.Repeat("x", 501)
	tests := []struct {
		name     string
		stronger bool
		data     string
		want     source.Reason
	}{
		{"OrdinaryTextIsKept", true, "package a\n", source.Kept},
		{"MarkIsNoContent", false, "\xEF\xBB\xBF", source.Empty},
		{"NULIsBinary", false, "a\x00b", source.Binary},
		{"LongLinesStayNormally", false, line, source.Kept},
		{"LongLinesAreMinified", true, line, source.Minified},
		{"LineOf500IsKept", true, strings.Repeat("x", 500), source.Kept},
		{"AverageCounts", true, line + "\n\n\n", source.Kept},
		{"CharactersCountNotBytes", true, strings.Repeat("ü", 400), source.Kept},
		{"MarkerInLine5", true, "\n\n\n\n// Code generated by x. DO NOT EDIT.\n", source.Generated},
		{"MarkerInLine6IsKept", true, "\n\n\n\n\n// Code generated by x. DO NOT EDIT.\n", source.Kept},
		{"MarkerStaysNormally", false, "// @generated\n", source.Kept},
		{"MarkerInUTF16", true, "\xFF\xFE@\x00g\x00e\x00n\x00e\x00r\x00a\x00t\x00e\x00d\x00", source.Generated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := source.NewFilter(source.Rules{Kind: source.Repository, Stronger: tt.stronger})
			require.NoError(t, err)
			content, err := source.Inspect(strings.NewReader(tt.data))
			require.NoError(t, err)
			require.Equal(t, tt.want, f.Content(content))
		})
	}
}

func BenchmarkFilterPath(b *testing.B) {
	rules := source.Rules{Kind: source.Repository, ExcludePaths: []string{"testdata/**", "*.csv", "third_party"}, LanguagePatterns: []string{"*.go", "*.ts", "*.py"}}
	f, err := source.NewFilter(rules)
	require.NoError(b, err)
	paths := make([]string, 1000)
	for i := range paths {
		paths[i] = fmt.Sprintf("pkg/area%d/deep/er/file%d.py", i%37, i)
	}
	for i := 0; b.Loop(); i++ {
		f.Path(paths[i%1000], 1)
	}
}
