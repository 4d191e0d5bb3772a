package connections

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// azure is the REST API (7.1) of Azure DevOps: people and their organizations are at one address, repositories at another.
type azure struct {
	service
	profiles *service
}

const azureVersion = "7.1"

func azureQuery(pairs ...string) url.Values {
	query := url.Values{"api-version": {azureVersion}}
	for i := 0; i < len(pairs); i += 2 {
		query.Set(pairs[i], pairs[i+1])
	}
	return query
}

type azureProfile struct {
	ID           string `json:"id"`
	DisplayName  string `json:"displayName"`
	EmailAddress string `json:"emailAddress"`
}

func (a *azure) profile(ctx context.Context, token string) (azureProfile, error) {
	var p azureProfile
	_, err := a.profiles.get(ctx, token, a.profiles.at("/_apis/profile/profiles/me", azureQuery()), &p)
	if err == nil && p.ID == "" {
		err = unavailable(a.provider, errNoAccount)
	}
	return p, err
}

func (a *azure) Identity(ctx context.Context, token string) (Account, error) {
	p, err := a.profile(ctx, token)
	return Account{ID: p.ID, Username: first(p.EmailAddress, p.DisplayName)}, err
}

type azureRepository struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DefaultBranch string `json:"defaultBranch"`
	WebURL        string `json:"webUrl"`
	IsDisabled    bool   `json:"isDisabled"`
	Project       struct {
		Name           string    `json:"name"`
		Visibility     string    `json:"visibility"`
		Description    string    `json:"description"`
		LastUpdateTime time.Time `json:"lastUpdateTime"`
	} `json:"project"`
}

type azureOrganization struct {
	AccountName string `json:"accountName"`
}

// Repositories returns one organization per page, because Azure's list of repositories has no pages. next is the number of the next
// organization.
func (a *azure) Repositories(ctx context.Context, token, _, next string) (Page, error) {
	p, err := a.profile(ctx, token)
	if err != nil {
		return Page{}, err
	}
	var accounts struct {
		Value []azureOrganization `json:"value"`
	}
	if _, err := a.profiles.get(ctx, token, a.profiles.at("/_apis/accounts", azureQuery("memberId", p.ID)), &accounts); err != nil {
		return Page{}, err
	}
	n, _ := strconv.Atoi(cmp.Or(next, "0"))
	page := Page{Total: -1}
	if n < 0 || n >= len(accounts.Value) {
		return page, nil
	}
	slices.SortFunc(accounts.Value, func(x, y azureOrganization) int { return strings.Compare(x.AccountName, y.AccountName) })
	organization := accounts.Value[n].AccountName
	var list struct {
		Value []azureRepository `json:"value"`
	}
	if _, err := a.get(ctx, token, a.at("/"+url.PathEscape(organization)+"/_apis/git/repositories", azureQuery()), &list); err != nil {
		return Page{}, err
	}
	for _, r := range list.Value {
		page.Repositories = append(page.Repositories, Repository{ID: r.ID, Name: r.Name, FullName: organization + "/" + r.Project.Name + "/" + r.Name,
			URL: r.WebURL, Owner: organization, DefaultBranch: branchOf(r.DefaultBranch), Private: r.Project.Visibility != "public", Archived: r.IsDisabled,
			Updated: r.Project.LastUpdateTime})
	}
	if n+1 < len(accounts.Value) {
		page.Next = strconv.Itoa(n + 1)
	}
	return page, nil
}

func branchOf(ref string) string { return strings.TrimPrefix(ref, "refs/heads/") }

// Look takes organization/project/repository.
func (a *azure) Look(ctx context.Context, token, path string) (Facts, error) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return Facts{}, &Refusal{Provider: a.provider, Reason: NotFound}
	}
	project := "/" + url.PathEscape(parts[0]) + "/" + url.PathEscape(parts[1])
	at := project + "/_apis/git/repositories/" + url.PathEscape(parts[2])
	var r azureRepository
	if _, err := a.get(ctx, token, a.at(at, azureQuery()), &r); err != nil {
		return Facts{}, err
	}
	f := Facts{DefaultBranch: branchOf(r.DefaultBranch), Description: r.Project.Description, Private: r.Project.Visibility != "public",
		Updated: r.Project.LastUpdateTime}
	if f.DefaultBranch == "" {
		return f, nil
	}
	var pushes struct {
		Value []struct {
			Date time.Time `json:"date"`
		} `json:"value"`
	}
	if _, err := a.get(ctx, token, a.at(at+"/pushes", azureQuery("$top", "1")), &pushes); err != nil {
		return Facts{}, err
	}
	if len(pushes.Value) > 0 {
		f.Updated = pushes.Value[0].Date
	}
	const top = 1000
	for skip := 0; skip < filePages*top/10; skip += top {
		var commits struct {
			Value []json.RawMessage `json:"value"`
		}
		if _, err := a.get(ctx, token, a.at(at+"/commits", azureQuery("searchCriteria.itemVersion.version", f.DefaultBranch, "searchCriteria.fromDate",
			commitsSince().Format(time.RFC3339), "searchCriteria.$top", strconv.Itoa(top), "searchCriteria.$skip", strconv.Itoa(skip))), &commits); err != nil {
			return Facts{}, err
		}
		f.Commits += len(commits.Value)
		if len(commits.Value) < top {
			break
		}
	}
	if _, err := a.get(ctx, token, a.at(at+"/items", azureQuery("recursionLevel", "Full", "versionDescriptor.version", f.DefaultBranch)),
		countIn(&f.Files, `"gitObjectType":"blob"`, `"gitObjectType": "blob"`)); err != nil {
		return Facts{}, err
	}
	// Languages are counted by a service of its own, which a project may lack.
	var metrics struct {
		Repositories []struct {
			ID        string `json:"id"`
			Name      string `json:"name"`
			Breakdown []struct {
				Name  string `json:"name"`
				Bytes int64  `json:"bytes"`
			} `json:"languageBreakdown"`
		} `json:"repositoryLanguageAnalytics"`
	}
	languages := map[string]int64{}
	if _, err := a.get(ctx, token, a.at(project+"/_apis/projectanalysis/languagemetrics", azureQuery("api-version", azureVersion+"-preview.1")), &metrics); err == nil {
		for _, m := range metrics.Repositories {
			if m.ID == r.ID || strings.EqualFold(m.Name, r.Name) {
				for _, l := range m.Breakdown {
					languages[l.Name] += l.Bytes
				}
			}
		}
	} else if ReasonOf(err) == Limited {
		return Facts{}, err
	}
	var bytes int64
	f.Language, bytes = largest(languages)
	if f.Lines = lines(bytes); bytes == 0 {
		f.Lines = f.Files * linesPerFile
	}
	return f, nil
}

// Revoke does nothing: Microsoft has no call with which an application gives one token back. Access tokens end after an hour or so.
func (*azure) Revoke(context.Context, Token) error { return nil }
