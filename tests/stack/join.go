package stack

import "kijko/tests/client"

// Join makes a person who signed up a member of another person's organization, with this role, and continues their session there.
func (s *Stack) Join(at, p *client.Person, role string) *client.Person {
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, $3)", at.OrgID, p.ID, role)
	p.Client = p.As(p.Do("POST", "/auth/switch-org", map[string]string{"org_id": at.OrgID}).Want(200).Tokens().AccessToken)
	p.OrgID = at.OrgID
	return p
}
