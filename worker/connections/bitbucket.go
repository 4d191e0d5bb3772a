package connections

import (
	"context"
	"net/url"
	"strings"
	"time"
)

// bitbucket is the REST API (2.0) of Bitbucket Cloud. It lists repositories by workspace only, since the lists across workspaces were removed.
type bitbucket struct{ service }

func (b *bitbucket) Identity(ctx context.Context, token string) (Account, error) {
	var user struct {
		UUID        string `json:"uuid"`
		Username    string `json:"username"`
		Nickname    string `json:"nickname"`
		DisplayName string `json:"display_name"`
		Links       struct {
			Avatar struct {
				Href string `json:"href"`
			} `json:"avatar"`
		} `json:"links"`
	}
	_, err := b.get(ctx, token, b.at("/user", nil), &user)
	if err == nil && user.UUID == "" {
		err = unavailable(b.provider, errNoAccount)
	}
	return Account{user.UUID, first(user.Username, user.Nickname, user.DisplayName), user.Links.Avatar.Href}, err
}

type bitbucketRepository struct {
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	FullName    string    `json:"full_name"`
	Description string    `json:"description"`
	Language    string    `json:"language"`
	IsPrivate   bool      `json:"is_private"`
	UpdatedOn   time.Time `json:"updated_on"`
	MainBranch  struct {
		Name string `json:"name"`
	} `json:"mainbranch"`
	Workspace struct {
		Slug string `json:"slug"`
	} `json:"workspace"`
	Links struct {
		HTML struct {
			Href string `json:"href"`
		} `json:"html"`
	} `json:"links"`
}

// Repositories walks the workspaces: next is "<address in a workspace> <address of further workspaces>".
func (b *bitbucket) Repositories(ctx context.Context, token, search, next string) (Page, error) {
	at, further, _ := strings.Cut(next, " ")
	if next == "" {
		further = b.at("/user/workspaces", url.Values{"pagelen": {"1"}})
	}
	page := Page{Total: -1}
	for at == "" && further != "" {
		var spaces struct {
			Values []struct {
				Workspace struct {
					Slug string `json:"slug"`
				} `json:"workspace"`
			} `json:"values"`
			Next string `json:"next"`
		}
		if _, err := b.get(ctx, token, further, &spaces); err != nil {
			return Page{}, err
		}
		further = spaces.Next
		if len(spaces.Values) == 0 || spaces.Values[0].Workspace.Slug == "" {
			continue // a workspace without a name cannot be listed
		}
		query := url.Values{"role": {"member"}, "pagelen": {"100"}, "sort": {"-updated_on"}}
		if search != "" {
			query.Set("q", `name ~ "`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(search)+`"`)
		}
		at = b.at("/repositories/"+url.PathEscape(spaces.Values[0].Workspace.Slug), query)
	}
	if at == "" {
		return page, nil
	}
	var list struct {
		Values []bitbucketRepository `json:"values"`
		Next   string                `json:"next"`
	}
	if _, err := b.get(ctx, token, at, &list); err != nil {
		return Page{}, err
	}
	for _, r := range list.Values {
		page.Repositories = append(page.Repositories, Repository{ID: r.UUID, Name: r.Name, FullName: r.FullName, URL: r.Links.HTML.Href, Owner: r.Workspace.Slug,
			DefaultBranch: r.MainBranch.Name, Description: r.Description, Private: r.IsPrivate, Updated: r.UpdatedOn})
	}
	if list.Next != "" || further != "" {
		page.Next = list.Next + " " + further
	}
	return page, nil
}

func (b *bitbucket) Look(ctx context.Context, token, path string) (Facts, error) {
	at := "/repositories/" + escaped(path)
	var r bitbucketRepository
	if _, err := b.get(ctx, token, b.at(at, nil), &r); err != nil {
		return Facts{}, err
	}
	f := Facts{DefaultBranch: r.MainBranch.Name, Description: r.Description, Language: r.Language, Private: r.IsPrivate, Updated: r.UpdatedOn}
	if r.MainBranch.Name == "" {
		return f, nil
	}
	since := commitsSince()
	next := b.at(at+"/commits/"+url.PathEscape(r.MainBranch.Name), url.Values{"pagelen": {"100"}, "fields": {"next,values.date"}})
	for pages := 0; next != "" && pages < filePages; pages++ {
		var list struct {
			Values []struct {
				Date time.Time `json:"date"`
			} `json:"values"`
			Next string `json:"next"`
		}
		if _, err := b.get(ctx, token, next, &list); err != nil {
			return Facts{}, err
		}
		next = list.Next
		for _, c := range list.Values {
			if c.Date.Before(since) {
				next = ""
				break
			}
			f.Commits++
		}
	}
	// Bitbucket reports no bytes per language, but it reports the size of each file.
	var bytes int64
	next = b.at(at+"/src/"+url.PathEscape(r.MainBranch.Name)+"/", url.Values{"pagelen": {"100"}, "max_depth": {"20"}, "q": {`type="commit_file"`},
		"fields": {"next,values.type,values.size"}})
	for pages := 0; next != "" && pages < filePages; pages++ {
		var list struct {
			Values []struct {
				Type string `json:"type"`
				Size int64  `json:"size"`
			} `json:"values"`
			Next string `json:"next"`
		}
		if _, err := b.get(ctx, token, next, &list); err != nil {
			return Facts{}, err
		}
		next = list.Next
		for _, file := range list.Values {
			if file.Type == "commit_file" {
				f.Files++
				bytes += file.Size
			}
		}
	}
	f.Lines = lines(bytes)
	return f, nil
}

// Revoke does nothing: a token can be given back only in the account's own settings at Bitbucket. Access tokens end after two hours.
func (*bitbucket) Revoke(context.Context, Token) error { return nil }

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
