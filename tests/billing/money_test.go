package billing

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/tests/testdb"
)

// TestNoFloatIsOnTheMoneyPath looks at the columns that hold money, at every function of db/code/billing as Postgres knows it, and at the Go
// code. A binary float cannot hold most rates, and sums of it drift.
func TestNoFloatIsOnTheMoneyPath(t *testing.T) {
	t.Parallel()
	d := testdb.New(t)
	const floats = "('real'::regtype, 'double precision'::regtype, 'money'::regtype)"
	require.Empty(t, testdb.Value[string](d, `select coalesce(string_agg(a.attrelid::regclass || '.' || a.attname, ', '), '') from pg_attribute a
		where a.attrelid = any ('{public.invoices, public.payment_methods, public.subscriptions, public.plans, public.vat_rates, public.billing_details, private.stripe_events,
			private.stripe_subscriptions, private.stripe_customers, private.stripe_prices, private.checkout_sessions}'::regclass[])
		and a.attnum > 0 and a.atttypid in `+floats))
	name := regexp.MustCompile(`(?m)^create (?:or replace )?function (\w+)\.(\w+)`)
	comment := regexp.MustCompile(`--[^\n]*|'[^']*'`)
	word := regexp.MustCompile(`(?i)\b(real|double precision|float[48]?|money)\b`)
	functions := 0
	files, err := fs.Glob(db.Files(), "code/billing/*.sql")
	require.NoError(t, err)
	require.Greater(t, len(files), 8)
	for _, file := range files {
		raw, err := fs.ReadFile(db.Files(), file)
		require.NoError(t, err)
		require.Empty(t, word.FindString(comment.ReplaceAllString(string(raw), "")), file)
		for _, m := range name.FindAllStringSubmatch(string(raw), -1) {
			functions++
			require.Empty(t, testdb.Value[string](d, `select coalesce(string_agg(p.oid::regprocedure::text, ', '), '') from pg_proc p join pg_namespace n on n.oid = p.pronamespace
				where n.nspname = $1 and p.proname = $2 and (p.prorettype in `+floats+` or exists (select from unnest(p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}')) a where a in `+floats+`))`, m[1], m[2]))
		}
	}
	require.Greater(t, functions, 60)
	for _, folder := range []string{"../../server/billing", "../../worker/billing"} {
		require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					require.NotContains(t, []string{"float32", "float64", "ParseFloat", "Float64"}, n.Name, path)
				case *ast.BasicLit:
					require.NotEqual(t, token.FLOAT, n.Kind, "%s: %s", path, n.Value)
				}
				return true
			})
			return nil
		}))
	}
}
