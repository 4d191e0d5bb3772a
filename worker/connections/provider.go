package connections

import (
	"context"
	"time"
)

// Account is the account that tokens belong to.
type Account struct {
	// ID is the provider's own id, which stays when the name changes.
	ID, Username, AvatarURL string
}

// Repository is one of the repositories that an account can read.
type Repository struct {
	ID, Name, FullName, URL, Owner, DefaultBranch, Description string
	Private, Archived                                          bool
	Updated                                                    time.Time
}

// Page is a part of a list. Next is the argument for the following page; "" after the last.
type Page struct {
	Repositories []Repository
	Next         string
	// Total is the number of items in all; -1 if the provider does not say.
	Total int
}

// Facts are the data that a provider has of one repository.
type Facts struct {
	DefaultBranch, Description, Language string
	Private                              bool
	Updated                              time.Time
	// Stars is nil if the provider has no stars.
	Stars          *int
	Commits, Files int
	// Lines is the estimate: bytes of its languages ÷ 40.
	Lines int
}

// Host is the API of a Git provider. An empty token asks without an account.
type Host interface {
	Identity(ctx context.Context, token string) (Account, error)
	// Repositories lists the repositories that the account can read, a page at a time. search may narrow the list; a provider that cannot
	// search returns all.
	Repositories(ctx context.Context, token, search, next string) (Page, error)
	// Look looks at a repository by its path at the provider, such as owner/name.
	Look(ctx context.Context, token, path string) (Facts, error)
	// Revoke gives a token back. It does nothing for a provider that has no such call.
	Revoke(ctx context.Context, t Token) error
}

// Person is one of a directory's people.
type Person struct {
	Email string `json:"email"`
	Name  string `json:"name"`
}

// Group is a group of a directory.
type Group struct{ ID, Name string }

// Directory is the API of a directory.
type Directory interface {
	Identity(ctx context.Context, token string) (Account, error)
	Groups(ctx context.Context, token, next string) (groups []Group, after string, err error)
	Members(ctx context.Context, token, group, next string) (people []Person, after string, err error)
	Revoke(ctx context.Context, t Token) error
}

// commitsSince is the span of commitsPerMonth.
func commitsSince() time.Time {
	return time.Now().Add(-30 * 24 * time.Hour).UTC().Truncate(time.Second)
}

// lines is the estimate of contract 10, 9.5.
func lines(bytes int64) int { return int((bytes + 20) / 40) }
