package stack

import (
	"kijko/tests/client"
	"kijko/tests/testdb"
)

// Demote gives a person who signed up another role in their organization. Another person becomes its owner.
func Demote(db *testdb.DB, p *client.Person, role string) {
	db.Exec(`with u as (insert into public.users (email, first_name, last_name) values (gen_random_uuid() || '@example.nl', 'Other', 'Owner') returning id),
		m as (update public.memberships set role = $3 where organization_id = $1 and user_id = $2 returning id)
		insert into public.memberships (organization_id, user_id, role) select $1, u.id, 'owner' from m, u`, p.OrgID, p.ID, role)
}
