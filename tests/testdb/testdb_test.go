package testdb_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/tests/testdb"
)

func TestNewDatabaseIsMigratedAndEmpty(t *testing.T) {
	d := testdb.New(t)
	require.Equal(t, db.ExpectedVersion(), testdb.Value[int32](d, "select version from public.schema_version"))
	require.Zero(t, testdb.Value[int](d, "select count(*) from public.organizations"))
}
