package gitfetch

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Code is an error code of the contract, as it appears in a progress row.
type Code string

// The codes with which reading a source can fail.
const (
	RepoNotFound     Code = "REPO_NOT_FOUND"
	AuthFailed       Code = "AUTH_FAILED"
	PermissionDenied Code = "PERMISSION_DENIED"
	// InvalidCredentials: the credentials of the installation itself, not of a person.
	InvalidCredentials Code = "INVALID_CREDENTIALS"
	BranchNotFound     Code = "BRANCH_NOT_FOUND"
	RateLimited        Code = "RATE_LIMITED"
	NetworkError       Code = "NETWORK_ERROR"
	Timeout            Code = "TIMEOUT"
	InvalidFormat      Code = "INVALID_FORMAT"
	RepoFetchFailed    Code = "REPO_FETCH_FAILED"
)

// longestWait is the longest rate-limit wait of a provider that a run waits for (contract 10, 19.1).
const longestWait = 60 * time.Second

// Failure is a failed fetch with a reason that the user can understand.
type Failure struct {
	Code Code
	// Message is one sentence for the user: no credentials, no addresses, no output of git. Only the messages about a
	// repository that the caller may not see contain the word "private": clients take it as the hint to connect an account.
	Message string
	// Retryable reports whether the same call may succeed later without any change by a person.
	Retryable bool
	// RetryAfter is the wait that the host asked for; 0 if it did not say.
	RetryAfter time.Duration

	cause error
}

// Error gives code and message.
func (f *Failure) Error() string { return string(f.Code) + ": " + f.Message }

// Unwrap gives the technical cause, free of credentials, for the log; nil when there is none.
func (f *Failure) Unwrap() error { return f.cause }

// AsFailure finds the Failure in an error's chain.
func AsFailure(err error) (*Failure, bool) {
	var f *Failure
	ok := errors.As(err, &f)
	return f, ok
}

// Invalid makes the failure of a source whose content cannot be used; no retry helps.
func Invalid(format string, args ...any) *Failure {
	return &Failure{Code: InvalidFormat, Message: fmt.Sprintf(format, args...)}
}

// Because gives the failure a technical cause, for the log.
func (f *Failure) Because(err error) *Failure {
	caused := *f
	caused.cause = err
	return &caused
}

func refused(format string, args ...any) *Failure {
	return &Failure{Code: RepoFetchFailed, Message: fmt.Sprintf(format, args...)}
}

func network(cause error) *Failure {
	return &Failure{Code: NetworkError, Message: "The Git host could not be reached.", Retryable: true, cause: cause}
}

func branchMissing(branch string) *Failure {
	return &Failure{Code: BranchNotFound, Message: fmt.Sprintf("The branch %q does not exist in this repository.", branch)}
}

// fromStatus translates the host's answer to our first request. Hosts hide repositories that an anonymous caller may not
// see: GitHub answers 401 and GitLab 404 for both missing and private repositories, so without credentials the two cannot be
// distinguished.
func fromStatus(status int, header http.Header, authenticated bool) *Failure {
	wait := retryAfter(header, time.Now())
	limited := status == http.StatusTooManyRequests ||
		status == http.StatusForbidden && (header.Get("Retry-After") != "" || header.Get("X-RateLimit-Remaining") == "0")
	switch {
	case limited:
		return &Failure{Code: RateLimited, Message: "The Git host limits the number of requests at the moment.",
			Retryable: wait > 0 && wait <= longestWait, RetryAfter: wait}
	case status == http.StatusUnauthorized && authenticated:
		return &Failure{Code: AuthFailed, Message: "The Git host did not accept the connected account. Connect it again."}
	case status == http.StatusForbidden || status == http.StatusUnavailableForLegalReasons:
		return &Failure{Code: PermissionDenied, Message: "The Git host does not allow access to this repository."}
	case status == http.StatusUnauthorized, !authenticated && (status == http.StatusNotFound || status == http.StatusGone):
		return &Failure{Code: RepoNotFound,
			Message: "The repository does not exist or is private. Connect an account that may read it."}
	case status == http.StatusNotFound || status == http.StatusGone:
		return &Failure{Code: RepoNotFound, Message: "The repository was not found or is not accessible with the connected account."}
	case status >= 500:
		return &Failure{Code: RepoFetchFailed, Message: fmt.Sprintf("The Git host failed (status %d).", status),
			Retryable: true, RetryAfter: wait}
	default:
		return &Failure{Code: RepoFetchFailed, Message: fmt.Sprintf("The Git host gave an unexpected answer (status %d).", status)}
	}
}

// retryAfter reads the wait in seconds or as a date, or GitHub's time of reset in Unix seconds.
func retryAfter(header http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if value := header.Get("Retry-After"); value != "" {
		if seconds, err := strconv.Atoi(value); err == nil {
			wait = time.Duration(min(seconds, 86_400)) * time.Second
		} else if at, err := http.ParseTime(value); err == nil {
			wait = at.Sub(now)
		}
	} else if reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64); err == nil {
		wait = time.Unix(reset, 0).Sub(now)
	}
	return max(wait, 0)
}

// errUnwanted means that the server does not serve a commit by its id.
var errUnwanted = errors.New("the server does not serve this commit")

// fromGit translates git's standard error. The first request has already succeeded, so this is mostly a connection that
// broke off.
func fromGit(stderr string, authenticated bool) error {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(stderr, w) {
				return true
			}
		}
		return false
	}
	cause := errors.New("git: " + stderr)
	if _, rest, ok := strings.Cut(stderr, "requested URL returned error: "); ok && len(rest) >= 3 {
		if status, err := strconv.Atoi(rest[:3]); err == nil {
			return fromStatus(status, http.Header{}, authenticated).Because(cause)
		}
	}
	switch {
	case has("not our ref", "unadvertised object", "couldn't find remote ref"):
		return fmt.Errorf("%w: %w", errUnwanted, cause)
	case has("Authentication failed", "could not read Username", "could not read Password"):
		return fromStatus(http.StatusUnauthorized, http.Header{}, authenticated).Because(cause)
	case has("fsck error"):
		return Invalid("The repository contains damaged or hostile objects.").Because(cause)
	case has("Operation too slow", "timed out"):
		return &Failure{Code: Timeout, Message: "The Git host stopped sending.", Retryable: true, cause: cause}
	case has("early EOF", "hung up", "RPC failed", "unable to access", "unexpected disconnect", "Connection reset",
		"Could not resolve host", "Failed to connect"):
		return network(cause)
	default:
		return &Failure{Code: RepoFetchFailed, Message: "The repository could not be fetched.", Retryable: true, cause: cause}
	}
}
