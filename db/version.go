package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The versions of PostgreSQL that the tests run on, from the oldest that is enough to the newest (make test-peers).
const (
	oldestVersion = 15
	newestVersion = 18
)

// TestedVersions says in words which versions are tested.
var TestedVersions = fmt.Sprintf("%d to %d", oldestVersion, newestVersion)

// Querier is a connection, a transaction or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ServerVersion is the version of a PostgreSQL server, and whether it is supported.
type ServerVersion struct {
	// Text is the version as the server reports it, such as 17.11.
	Text string
	// TooOld: our SQL needs things that it lacks. Untested: newer than what the tests ran on.
	TooOld, Untested bool
}

// VersionOf reads the server's version.
func VersionOf(ctx context.Context, q Querier) (ServerVersion, error) {
	var number int
	var text string
	err := q.QueryRow(ctx, "select current_setting('server_version_num')::integer, current_setting('server_version')").Scan(&number, &text)
	if err != nil {
		return ServerVersion{}, fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	return versionOf(number/10000, text), nil
}

func versionOf(major int, text string) ServerVersion {
	return ServerVersion{Text: text, TooOld: major < oldestVersion, Untested: major > newestVersion}
}

// Refusal is nil for a version that is new enough.
func (v ServerVersion) Refusal() error {
	if !v.TooOld {
		return nil
	}
	return fmt.Errorf("this is PostgreSQL %s; Kijko needs %d or later (tested: %s)", v.Text, oldestVersion, TestedVersions)
}
