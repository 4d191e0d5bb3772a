package connections

import (
	"context"
	"errors"
	"fmt"

	"kijko/worker/gitfetch"
)

// Git calls do with a person's connection to the provider of a repository, or with the zero Auth for a person without one. Hosts other than
// the provider's own host never see a token. A connection that has ended does not hide public repositories; for a private repository it is
// the error that the person sees.
func (k *Keeper) Git(ctx context.Context, userID string, provider gitfetch.Provider, url string, do func(gitfetch.Auth) error) error {
	if k == nil || k.Box == nil || !k.Providers.Owns(url) {
		return do(gitfetch.Auth{})
	}
	id, err := k.Of(ctx, userID, string(provider))
	if err == nil {
		err = k.Use(ctx, id, func(token string) error {
			err := do(gitfetch.Auth{Token: token})
			if failure, ok := gitfetch.AsFailure(err); ok && failure.Code == gitfetch.AuthFailed {
				return &Refusal{Provider: string(provider), Reason: Unauthorized, cause: err}
			}
			return err
		})
	}
	var refusal *Refusal
	switch {
	case errors.Is(err, ErrNone):
		return do(gitfetch.Auth{})
	case errors.Is(err, ErrBroken):
		open := do(gitfetch.Auth{})
		if failure, ok := gitfetch.AsFailure(open); ok && failure.Code == gitfetch.RepoNotFound {
			return (&gitfetch.Failure{Code: gitfetch.AuthFailed,
				Message: "The connection to the Git provider has ended, and without it the repository cannot be read. Connect the account again."}).Because(err)
		}
		return open
	case errors.Is(err, ErrApplication):
		return (&gitfetch.Failure{Code: gitfetch.InvalidCredentials,
			Message: "The Git provider does not accept this installation's application. Ask its operator."}).Because(err)
	case errors.As(err, &refusal):
		failure := &gitfetch.Failure{Code: gitfetch.NetworkError, Message: "The Git provider could not be reached to renew the connection.", Retryable: true,
			RetryAfter: refusal.RetryAfter}
		if refusal.Reason == Limited {
			failure.Code, failure.Message = gitfetch.RateLimited, "The Git provider limits the number of requests at the moment."
		}
		return failure.Because(err)
	case err != nil && !isFailure(err):
		return fmt.Errorf("the connection to %s: %w", provider, err)
	}
	return err
}

func isFailure(err error) bool {
	_, ok := gitfetch.AsFailure(err)
	return ok
}
