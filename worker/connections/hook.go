package connections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Hook tells a provider where to send the pushes of a repository.
type Hook struct {
	// Path is the repository's path at the provider, such as owner/name.
	Path string
	// Address receives the pushes. It identifies the hook: an earlier one with this address is replaced.
	Address string
	// Secret signs the deliveries.
	Secret string
}

// Hooker is a Host at which hooks can be installed.
type Hooker interface {
	// InstallHook makes the hook, in place of an earlier one.
	InstallHook(ctx context.Context, token string, h Hook) error
	// RemoveHook deletes the hooks with the address. None is no error.
	RemoveHook(ctx context.Context, token, path, address string) error
}

// hookPages bounds the lists of hooks that are searched.
const hookPages = 10

// change sends JSON, unless body is nil, and reads the answer's JSON into into, unless that is nil. The call is not repeated at another address.
func (s *service) change(ctx context.Context, method, token, address string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var sent io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, sent)
	if err != nil || !strings.EqualFold(request.URL.Host, s.base.Host) || request.URL.Scheme != s.base.Scheme {
		return unavailable(s.provider, errNoAddress)
	}
	request.Header.Set("Accept", s.accept)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", "kijko")
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := s.client.Do(request)
	if err != nil {
		return unavailable(s.provider, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return s.refusal(answer)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into); err != nil {
		return unavailable(s.provider, err)
	}
	return nil
}

// remove deletes one hook; one that is gone already is no error.
func (s *service) remove(ctx context.Context, token, address string) error {
	err := s.change(ctx, http.MethodDelete, token, address, nil, nil)
	if ReasonOf(err) == NotFound {
		return nil
	}
	return err
}

// IsFinal reports whether another attempt of installing a hook is of no use: the provider accepts neither the token's scope nor the address,
// or the account may not administer the repository.
func IsFinal(err error) bool {
	refusal, ok := errorAs(err)
	if !ok {
		return errors.Is(err, ErrNone) || errors.Is(err, ErrBroken) || errors.Is(err, ErrApplication)
	}
	return refusal.Reason == Forbidden || refusal.Reason == NotFound || refusal.Reason == Unauthorized ||
		refusal.Status >= 400 && refusal.Status < 500 && refusal.Reason == Unavailable
}

func (g *github) isGitea() bool { return strings.HasSuffix(g.base.Path, "/api/v1") }

func (g *github) InstallHook(ctx context.Context, token string, h Hook) error {
	if err := g.RemoveHook(ctx, token, h.Path, h.Address); err != nil {
		return err
	}
	body := map[string]any{"name": "web", "active": true, "events": []string{"push"},
		"config": map[string]string{"url": h.Address, "content_type": "json", "secret": h.Secret}}
	if g.isGitea() {
		body["type"] = "gitea"
	}
	return g.change(ctx, http.MethodPost, token, g.at("/repos/"+escaped(h.Path)+"/hooks", nil), body, nil)
}

func (g *github) RemoveHook(ctx context.Context, token, path, address string) error {
	at := g.at("/repos/"+escaped(path)+"/hooks", url.Values{"per_page": {"100"}, "limit": {"50"}})
	for pages := 0; at != "" && pages < hookPages; pages++ {
		var hooks []struct {
			ID     int64 `json:"id"`
			Config struct {
				URL string `json:"url"`
			} `json:"config"`
		}
		header, err := g.get(ctx, token, at, &hooks)
		if err != nil {
			return err
		}
		for _, hook := range hooks {
			if hook.Config.URL == address {
				return g.remove(ctx, token, g.at("/repos/"+escaped(path)+"/hooks/"+strconv.FormatInt(hook.ID, 10), nil))
			}
		}
		at = link(header, "next")
	}
	return nil
}

func (g *gitlab) InstallHook(ctx context.Context, token string, h Hook) error {
	if err := g.RemoveHook(ctx, token, h.Path, h.Address); err != nil {
		return err
	}
	return g.change(ctx, http.MethodPost, token, g.at("/projects/"+url.PathEscape(h.Path)+"/hooks", nil),
		map[string]any{"url": h.Address, "token": h.Secret, "push_events": true, "enable_ssl_verification": true}, nil)
}

func (g *gitlab) RemoveHook(ctx context.Context, token, path, address string) error {
	at := g.at("/projects/"+url.PathEscape(path)+"/hooks", url.Values{"per_page": {"100"}})
	for pages := 0; at != "" && pages < hookPages; pages++ {
		var hooks []struct {
			ID  int64  `json:"id"`
			URL string `json:"url"`
		}
		header, err := g.get(ctx, token, at, &hooks)
		if err != nil {
			return err
		}
		for _, hook := range hooks {
			if hook.URL == address {
				return g.remove(ctx, token, g.at("/projects/"+url.PathEscape(path)+"/hooks/"+strconv.FormatInt(hook.ID, 10), nil))
			}
		}
		at = link(header, "next")
	}
	return nil
}

func (b *bitbucket) InstallHook(ctx context.Context, token string, h Hook) error {
	if err := b.RemoveHook(ctx, token, h.Path, h.Address); err != nil {
		return err
	}
	return b.change(ctx, http.MethodPost, token, b.at("/repositories/"+escaped(h.Path)+"/hooks", nil),
		map[string]any{"description": "Kijko", "url": h.Address, "secret": h.Secret, "active": true, "events": []string{"repo:push"}}, nil)
}

func (b *bitbucket) RemoveHook(ctx context.Context, token, path, address string) error {
	at := b.at("/repositories/"+escaped(path)+"/hooks", url.Values{"pagelen": {"100"}})
	for pages := 0; at != "" && pages < hookPages; pages++ {
		var hooks struct {
			Values []struct {
				UUID string `json:"uuid"`
				URL  string `json:"url"`
			} `json:"values"`
			Next string `json:"next"`
		}
		if _, err := b.get(ctx, token, at, &hooks); err != nil {
			return err
		}
		for _, hook := range hooks.Values {
			if hook.URL == address {
				return b.remove(ctx, token, b.at("/repositories/"+escaped(path)+"/hooks/"+url.PathEscape(hook.UUID), nil))
			}
		}
		at = hooks.Next
	}
	return nil
}

// azureHookUser is the user name beside the secret in the Basic authentication of Azure's deliveries.
const azureHookUser = "kijko"

func (a *azure) InstallHook(ctx context.Context, token string, h Hook) error {
	parts := strings.Split(h.Path, "/")
	if len(parts) != 3 {
		return &Refusal{Provider: a.provider, Reason: NotFound}
	}
	if err := a.RemoveHook(ctx, token, h.Path, h.Address); err != nil {
		return err
	}
	var r struct {
		ID      string `json:"id"`
		Project struct {
			ID string `json:"id"`
		} `json:"project"`
	}
	organization := "/" + url.PathEscape(parts[0])
	if _, err := a.get(ctx, token, a.at(organization+"/"+url.PathEscape(parts[1])+"/_apis/git/repositories/"+url.PathEscape(parts[2]), azureQuery()), &r); err != nil {
		return err
	}
	return a.change(ctx, http.MethodPost, token, a.at(organization+"/_apis/hooks/subscriptions", azureQuery()), map[string]any{
		"publisherId": "tfs", "eventType": "git.push", "resourceVersion": "1.0", "consumerId": "webHooks", "consumerActionId": "httpRequest",
		"publisherInputs": map[string]string{"projectId": r.Project.ID, "repository": r.ID},
		"consumerInputs":  map[string]string{"url": h.Address, "basicAuthUsername": azureHookUser, "basicAuthPassword": h.Secret}}, nil)
}

func (a *azure) RemoveHook(ctx context.Context, token, path, address string) error {
	organization := "/" + url.PathEscape(strings.Split(path, "/")[0])
	var hooks struct {
		Value []struct {
			ID             string `json:"id"`
			ConsumerInputs struct {
				URL string `json:"url"`
			} `json:"consumerInputs"`
		} `json:"value"`
	}
	// The list has no pages.
	if _, err := a.get(ctx, token, a.at(organization+"/_apis/hooks/subscriptions", azureQuery("consumerId", "webHooks", "eventType", "git.push")), &hooks); err != nil {
		return err
	}
	for _, hook := range hooks.Value {
		if hook.ConsumerInputs.URL == address {
			return a.remove(ctx, token, a.at(organization+"/_apis/hooks/subscriptions/"+url.PathEscape(hook.ID), azureQuery()))
		}
	}
	return nil
}
