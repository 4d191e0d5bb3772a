package connections

import (
	"context"
	"net/http"
	"net/url"
)

// okta is the Core API of an Okta organization, at the organization's own address.
type okta struct {
	service
	clientID, clientSecret string
}

func (o *okta) Identity(ctx context.Context, token string) (Account, error) {
	var user struct {
		ID      string     `json:"id"`
		Profile oktaPerson `json:"profile"`
	}
	_, err := o.get(ctx, token, o.at("/api/v1/users/me", nil), &user)
	if err == nil && user.ID == "" {
		err = unavailable(o.provider, errNoAccount)
	}
	return Account{ID: user.ID, Username: first(user.Profile.Login, user.Profile.Email)}, err
}

type oktaPerson struct {
	Login     string `json:"login"`
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
}

func (o *okta) Groups(ctx context.Context, token, next string) ([]Group, string, error) {
	if next == "" {
		next = o.at("/api/v1/groups", url.Values{"limit": {"200"}})
	}
	var list []struct {
		ID      string `json:"id"`
		Profile struct {
			Name string `json:"name"`
		} `json:"profile"`
	}
	header, err := o.get(ctx, token, next, &list)
	if err != nil {
		return nil, "", err
	}
	groups := make([]Group, len(list))
	for i, g := range list {
		groups[i] = Group{g.ID, g.Profile.Name}
	}
	return groups, link(header, "next"), nil
}

func (o *okta) Members(ctx context.Context, token, group, next string) ([]Person, string, error) {
	if next == "" {
		next = o.at("/api/v1/groups/"+url.PathEscape(group)+"/users", url.Values{"limit": {"1000"}})
	}
	var list []struct {
		Status  string     `json:"status"`
		Profile oktaPerson `json:"profile"`
	}
	header, err := o.get(ctx, token, next, &list)
	if err != nil {
		return nil, "", err
	}
	var people []Person
	for _, u := range list {
		if u.Status != "DEPROVISIONED" && u.Status != "SUSPENDED" {
			people = append(people, Person{Email: first(u.Profile.Email, u.Profile.Login), Name: u.Profile.FirstName + " " + u.Profile.LastName})
		}
	}
	return people, link(header, "next"), nil
}

func (o *okta) Revoke(ctx context.Context, t Token) error {
	return revokeStandard(ctx, &o.service, "/oauth2/v1/revoke", t, url.Values{}, func(r *http.Request) {
		r.SetBasicAuth(url.QueryEscape(o.clientID), url.QueryEscape(o.clientSecret))
	})
}

// entra is Microsoft Graph (v1.0) over a tenant of Microsoft Entra ID (Azure AD).
type entra struct{ service }

type graphUser struct {
	Type              string `json:"@odata.type"`
	ID                string `json:"id"`
	Mail              string `json:"mail"`
	UserPrincipalName string `json:"userPrincipalName"`
	DisplayName       string `json:"displayName"`
	AccountEnabled    *bool  `json:"accountEnabled"`
}

func (e *entra) Identity(ctx context.Context, token string) (Account, error) {
	var user graphUser
	_, err := e.get(ctx, token, e.at("/me", nil), &user)
	if err == nil && user.ID == "" {
		err = unavailable(e.provider, errNoAccount)
	}
	return Account{ID: user.ID, Username: first(user.UserPrincipalName, user.Mail)}, err
}

func (e *entra) Groups(ctx context.Context, token, next string) ([]Group, string, error) {
	if next == "" {
		next = e.at("/groups", url.Values{"$select": {"id,displayName"}, "$top": {"999"}})
	}
	var list struct {
		Value []struct {
			ID          string `json:"id"`
			DisplayName string `json:"displayName"`
		} `json:"value"`
		Next string `json:"@odata.nextLink"`
	}
	if _, err := e.get(ctx, token, next, &list); err != nil {
		return nil, "", err
	}
	groups := make([]Group, len(list.Value))
	for i, g := range list.Value {
		groups[i] = Group{g.ID, g.DisplayName}
	}
	return groups, list.Next, nil
}

func (e *entra) Members(ctx context.Context, token, group, next string) ([]Person, string, error) {
	if next == "" {
		// Members of groups inside the group count as well. The type cast in the path leaves devices and service principals out.
		next = e.at("/groups/"+url.PathEscape(group)+"/transitiveMembers/microsoft.graph.user",
			url.Values{"$select": {"id,mail,userPrincipalName,displayName,accountEnabled"}, "$top": {"999"}})
	}
	var list struct {
		Value []graphUser `json:"value"`
		Next  string      `json:"@odata.nextLink"`
	}
	if _, err := e.get(ctx, token, next, &list); err != nil {
		return nil, "", err
	}
	var people []Person
	for _, u := range list.Value {
		if u.AccountEnabled == nil || *u.AccountEnabled {
			people = append(people, Person{Email: first(u.Mail, u.UserPrincipalName), Name: u.DisplayName})
		}
	}
	return people, list.Next, nil
}

// Revoke does nothing: Microsoft has no way for an application to give one token back.
func (*entra) Revoke(context.Context, Token) error { return nil }

// Bounds of one reading of a directory.
const (
	maxGroups = 1_000
	maxPeople = 20_000
	// maxPages bounds the pages of all lists together.
	maxPages = 3_000
)

// Reading is the content of a directory.
type Reading struct {
	Groups int
	People []Person
	// Complete is false if the directory is larger than the bounds.
	Complete bool
}

// Read reads all groups and the people in them, each person once.
func Read(ctx context.Context, d Directory, token string) (Reading, error) {
	r := Reading{Complete: true}
	known := map[string]bool{}
	pages := 0
	for next, more := "", true; more; {
		groups, after, err := d.Groups(ctx, token, next)
		if err != nil {
			return r, err
		}
		pages++
		for _, g := range groups {
			if r.Groups == maxGroups {
				r.Complete = false
				return r, nil
			}
			r.Groups++
			for from, further := "", true; further; {
				people, then, err := d.Members(ctx, token, g.ID, from)
				if ReasonOf(err) == NotFound { // the group was deleted meanwhile
					break
				} else if err != nil {
					return r, err
				}
				for _, p := range people {
					if p.Email == "" || known[p.Email] {
						continue
					}
					known[p.Email] = true
					r.People = append(r.People, p)
				}
				if pages++; len(r.People) >= maxPeople || pages >= maxPages {
					r.Complete = false
					return r, nil
				}
				from, further = then, then != ""
			}
		}
		next, more = after, after != ""
	}
	return r, nil
}
