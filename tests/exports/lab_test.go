package exports

import (
	"testing"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// lab is a server with the cast: Anna owns a shared context, Ben is a member of her organization, Stan is a stranger.
type lab struct {
	*stack.Stack
	anna, ben, stan *client.Person
	context         string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s := stack.New(t)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.Join(l.anna, l.ben, "member")
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop & Co", "privacy": "shared"}).Want(201).String("project.id")
	return l
}

// version adds a ready ingestion.
func (l *lab) version(number int) {
	l.DB.Exec(`insert into public.context_ingestions (organization_id, project_id, number, status, source_type, ready_at, created_at)
		values ($1, $2, $3, 'ready', 'file', now(), '2026-05-04T03:02:02Z')`, l.anna.OrgID, l.context, number)
}

// file gives a version a file, with its row of the current set.
func (l *lab) file(number int, path string, content []byte, binary bool) (id string) {
	l.DB.Exec(`insert into public.content_blobs (organization_id, project_id, hash, content, is_binary) values ($1, $2, sha256($3::bytea), $3, $4) on conflict do nothing`,
		l.anna.OrgID, l.context, content, binary)
	l.DB.Exec(`insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin)
		select organization_id, project_id, id, number, $3, 'added', sha256($4::bytea), 'file' from public.context_ingestions where project_id = $1 and number = $2`,
		l.context, number, path, content)
	return testdb.Value[string](l.DB, `insert into public.context_files (organization_id, project_id, path, number, hash, origin, is_binary, bytes, tokens)
		values ($1, $2, $3, $4, sha256($5::bytea), 'file', $6, octet_length($5::bytea), 1)
		on conflict (project_id, path collate "C") do update set number = excluded.number, hash = excluded.hash, bytes = excluded.bytes returning id::text`,
		l.anna.OrgID, l.context, path, number, content, binary)
}
