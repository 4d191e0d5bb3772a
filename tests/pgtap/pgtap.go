// Package pgtap gives Go the parts of these files that more than one test needs: the rows of a tenant, feature by feature.
//
// A feature's <feature>.seed.sql makes rows of its tables for one tenant. It runs as the owner of the database, with the settings of the
// tenant's owner in force. It names the tenant by pg_temp.org(), pg_temp.person() and pg_temp.tenant(). It puts pg_temp.secret() where a
// text may leak. It keeps an id that a path names by pg_temp.keep('noteId', id), and reads an id of an earlier feature by
// pg_temp.id('projectId'). Features come in the order in which db/code/install.sql ends them.
package pgtap

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"kijko/db"
)

//go:embed *.seed.sql
var files embed.FS

// Suffix ends the names of seeds, which are no tests.
const Suffix = ".seed.sql"

// Prelude makes the functions that seeds call. They last as long as the session.
const Prelude = `create temp table if not exists seeded (tenant text, name text, id text, primary key (tenant, name));
grant select on seeded to public;
create or replace function pg_temp.tenant() returns text language sql stable return current_setting('seed.tenant');
create or replace function pg_temp.secret() returns text language sql stable return 'secret of ' || current_setting('seed.tenant');
create or replace function pg_temp.org() returns uuid language sql stable return current_setting('app.org_id')::uuid;
create or replace function pg_temp.person() returns uuid language sql stable return current_setting('app.user_id')::uuid;
create or replace function pg_temp.keep(p_name text, p_id uuid) returns void language sql volatile as $$ insert into seeded values (current_setting('seed.tenant'), p_name, p_id::text) $$;
create or replace function pg_temp.id(p_name text) returns uuid language sql stable as $$ select id::uuid from seeded where tenant = current_setting('seed.tenant') and name = p_name $$;
`

// Begin and End stand around the seeds of a tenant; org and user are SQL expressions.
func Begin(tenant, org, user string) string {
	return fmt.Sprintf("select set_config('seed.tenant', '%s', false), set_config('app.user_id', (%s)::text, false), set_config('app.org_id', (%s)::text, false),\n"+
		"  set_config('app.org_role', 'owner', false);\n", tenant, user, org)
}

// End clears the settings, so that no actor is in force.
const End = "select set_config('app.user_id', '', false), set_config('app.org_id', '', false), set_config('app.org_role', '', false);\n"

var template = regexp.MustCompile(`template "(\w+)/`)

// Seeds is the text of all seeds, in order.
func Seeds() (string, error) {
	list, err := fs.ReadFile(db.Files(), "code/install.sql")
	if err != nil {
		return "", fmt.Errorf("read the order of features: %w", err)
	}
	var b strings.Builder
	done := map[string]bool{}
	matches := template.FindAllSubmatch(list, -1)
	last := map[string]int{}
	for i, match := range matches {
		last[string(match[1])] = i
	}
	for i, match := range matches {
		feature := string(match[1])
		if last[feature] != i {
			continue
		}
		done[feature] = true
		text, err := fs.ReadFile(files, feature+Suffix)
		if err == nil {
			fmt.Fprintf(&b, "-- %s%s\n%s\n", feature, Suffix, strings.TrimSpace(string(text)))
		}
	}
	all, err := fs.Glob(files, "*"+Suffix)
	if err != nil {
		return "", fmt.Errorf("find seeds: %w", err)
	}
	for _, name := range all {
		if !done[strings.TrimSuffix(name, Suffix)] {
			return "", fmt.Errorf("%s is of no feature of db/code", name)
		}
	}
	return b.String(), nil
}

// marker is the line of a test that names tenants; the seeds of these tenants replace it.
var marker = regexp.MustCompile(`(?m)^-- seeds: ([a-z ]+)$`)

// Expand replaces the marker line by the seeds. Other texts stay as they are.
func Expand(text string) (string, error) {
	at := marker.FindStringSubmatchIndex(text)
	if at == nil {
		return text, nil
	}
	seeds, err := Seeds()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(text[:at[0]] + Prelude)
	for tenant := range strings.FieldsSeq(text[at[2]:at[3]]) {
		b.WriteString(Begin(tenant, fmt.Sprintf("select tests.org('%s')", tenant), fmt.Sprintf("select tests.user('%s')", tenant)) + seeds + End)
	}
	b.WriteString(text[at[1]:])
	return b.String(), nil
}
