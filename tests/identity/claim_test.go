package identity

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/mail"
)

var tableName = regexp.MustCompile("`((?:public|private)\\.[a-z_]+)`")

// decided reads the tables of docs/claimed-accounts.md: the first cell names tables, the second the decision.
func decided(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/claimed-accounts.md")
	require.NoError(t, err)
	decisions := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !tableName.MatchString(cells[1]) {
			continue
		}
		decision := strings.TrimSpace(cells[2])
		require.Contains(t, []string{"ends", "pauses", "stays"}, decision, line)
		require.NotEmpty(t, strings.TrimSpace(cells[3]), "a decision has a reason: %s", line)
		for _, m := range tableName.FindAllStringSubmatch(cells[1], -1) {
			require.NotContains(t, decisions, m[1], "decided twice")
			decisions[m[1]] = decision
		}
	}
	return decisions
}

// A new table of a person or an organization needs a line there, and code in db/code/identity/claim.sql where it says ends or pauses.
func TestEachTableOfAPersonHasADecisionForTheClaim(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	tables := strings.Fields(testdb.Value[string](db, `select coalesce(string_agg(distinct c.oid::regclass::text, ' '), '') from pg_class c
		where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
		and (exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attname in ('user_id', 'organization_id'))
			or exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'f'
				and k.confrelid in ('public.users'::regclass, 'public.organizations'::regclass)))`))
	for i, name := range tables {
		if !strings.Contains(name, ".") {
			tables[i] = "public." + name
		}
	}
	decisions := decided(t)
	require.Empty(t, slices.DeleteFunc(tables, func(name string) bool { return decisions[name] != "" }), "docs/claimed-accounts.md has no decision about these tables")
	source, err := os.ReadFile("../../db/code/identity/claim.sql")
	require.NoError(t, err)
	for name, decision := range decisions {
		require.Equal(t, 1, testdb.Value[int](db, "select count(*)::int from pg_class where oid = to_regclass($1)", name), "%s does not exist", name)
		if decision != "stays" {
			require.True(t, strings.Contains(string(source), name) || slices.Contains([]string{"public.api_keys", "private.sessions", "private.refresh_tokens",
				"private.provider_tokens", "private.integration_revocations"}, name), "claim.sql does not write %s", name)
		}
	}
}

// furnish sets everything up in Stan's organization that could serve him later. Colin is a colleague of his, Gus a guest of his project.
const furnish = `
do $$
declare
  v_user constant uuid := '{user}';
  v_org constant uuid := '{org}';
  v_colin constant uuid := '{colin}';
  v_gus constant uuid := '{gus}';
  v_project uuid;
  v_skill uuid;
  v_id uuid;
  v_member uuid;
begin
  insert into public.memberships (organization_id, user_id, role) values (v_org, v_colin, 'admin');
  insert into public.projects (organization_id, user_id, name) values (v_org, v_user, 'Project') returning id into v_project;
  update public.project_settings set webhook_url = 'https://chunks.example/in', processing_options = processing_options || '{"realTimeIncremental": true}'
  where project_id = v_project;
  insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name, branch)
  values (v_org, v_project, 'github', 'https://github.com/stan/bait', 'stan/bait', 'main');
  update public.projects set chunking_strategy = 'custom' where id = v_project;
  insert into public.project_members (organization_id, project_id, user_id, email, role, invited_by, accepted_at)
  select v_org, v_project, u.id, u.email, 'manager', v_user, now() from public.users u where u.id = v_gus returning id into v_member;
  insert into private.project_invitations (member_id, token_hash) values (v_member, sha256('gus' || v_org::text::bytea));
  insert into public.project_members (organization_id, project_id, email, role, invited_by) values (v_org, v_project, 'pia.' || v_user || '@example.nl', 'viewer', v_user);
  insert into public.team_invitations (organization_id, email, role, invited_by, token_hash, expires_at)
  values (v_org, 'tim.' || v_user || '@example.nl', 'admin', v_user, sha256('tim' || v_org::text::bytea), now() + interval '7 days');
  v_id := gen_random_uuid();
  insert into public.webhooks (id, organization_id, created_by, name, endpoint_url, secret_end, events)
  values (v_id, v_org, v_user, 'Hook', 'https://hooks.invalid', '1234', '{user.login,context.updated}');
  insert into private.integration_secrets (webhook_id, sealed) values (v_id, 'v1.00000000.xyz');
  insert into public.webhook_deliveries (organization_id, webhook_id, event_id, event_type, payload, attempt_number, kind)
  values (v_org, v_id, gen_random_uuid(), 'user.login', '{}', 2, 'event');
  insert into public.connectors (id, organization_id, created_by, name, remote_mcp_server_url, status)
  values (gen_random_uuid(), v_org, v_user, 'Connector', 'https://mcp.invalid', 'active');
  insert into public.mcp_servers (id, organization_id, created_by, name, url, status) values (gen_random_uuid(), v_org, v_user, 'Tools', 'https://mcp.invalid', 'connected')
  returning id into v_id;
  insert into public.mcp_tools (organization_id, server_id, name) values (v_org, v_id, 'delete_everything');
  insert into public.integrations (organization_id, provider, scopes, connected_by, sync_requested_at) values (v_org, 'gitlab', '{read_repos}', v_user, now()) returning id into v_id;
  insert into private.integration_secrets (integration_id, sealed) values (v_id, 'v1.00000000.xyz');
  insert into private.integration_states (state_hash, organization_id, user_id, provider, scopes, sealed, expires_at)
  values (sha256('state' || v_org::text::bytea), v_org, v_user, 'slack', '{read_channels}', 'v1.00000000.xyz', now() + interval '10 minutes');
  insert into private.provider_keys (organization_id, provider, sealed_key, last_four, set_by) values (v_org, 'anthropic', 'v1.00000000.xyz', 'abcd', v_user);
  v_id := gen_random_uuid();
  insert into private.provider_tokens (id, provider, sealed_token) values (v_id, 'github', 'v1.00000000.xyz');
  insert into private.git_connections (user_id, provider, token_id, account_id, username) values (v_user, 'github', v_id, '1', 'stan');
  insert into private.repository_checks (user_id, url, provider, info) values (v_user, 'https://github.com/a/b', 'github', '{}');
  v_id := gen_random_uuid();
  insert into private.provider_tokens (id, provider, sealed_token) values (v_id, 'okta', 'v1.00000000.xyz');
  insert into private.directory_syncs (project_id, organization_id, provider, token_id, connected_by) values (v_project, v_org, 'okta', v_id, v_user);
  insert into private.connection_states (state_hash, user_id, organization_id, provider, redirect_uri, origin, sealed_verifier)
  values (sha256('conn' || v_org::text::bytea), v_colin, v_org, 'gitlab', 'https://x.example', 'https://x.example', 'v1.00000000.xyz');
  insert into public.skills (user_id, organization_id, name, prompt_template) values (v_user, v_org, 'Skill', 'Tell me what is new.') returning id into v_skill;
  insert into public.habits (user_id, organization_id, skill_id, schedule_cron, timezone, config) values (v_user, v_org, v_skill, '0 9 * * *', 'UTC', '{}');
  insert into public.reflexes (user_id, organization_id, skill_id, trigger_type, trigger_config) values (v_user, v_org, v_skill, 'webhook', '{"method": "POST"}') returning id into v_id;
  insert into private.reflex_secrets (reflex_id, sealed) values (v_id, 'v1.00000000.xyz');
  insert into public.audit_schedules (organization_id, user_id, format, filters, schedule, next_run_at)
  values (v_org, v_user, 'csv', '{}', 'daily', now() + interval '1 day') returning id into v_id;
  insert into private.audit_files (organization_id, schedule_id, run_at, file_name, storage_key, token_hash, expires_at)
  values (v_org, v_id, now(), 'audit.csv', 'key-' || v_org, sha256('file'), now() + interval '1 day');
  insert into public.audit_filters (organization_id, user_id, name, filters) values (v_org, v_user, 'Mine', '{}');
  insert into private.second_factor_setups (user_id, sealed_secret, expires_at) values (v_user, 'v1.00000000.xyz', now() + interval '10 minutes')
  on conflict do nothing;
  perform private.issue_account_link(v_user, 'verify_email', 'stan.elsewhere.' || v_user || '@example.nl');
end
$$`

// standing is what of it is in force.
const standing = `select concat_ws(' ',
	'team', (select count(*) from public.memberships where organization_id = u.o and status = 'active'),
	'guests', (select count(*) from public.project_members where organization_id = u.o and accepted_at is not null and user_id <> u.id),
	'links', (select count(*) from private.project_invitations i join public.project_members m on m.id = i.member_id where m.organization_id = u.o),
	'invitations', (select count(*) from public.team_invitations where organization_id = u.o and status = 'pending'),
	'webhooks', (select count(*) from public.webhooks where organization_id = u.o and status = 'active'),
	'attempts', (select count(*) from public.webhook_deliveries where organization_id = u.o and status = 'pending'),
	'connectors', (select count(*) from public.connectors where organization_id = u.o and status = 'active'),
	'servers', (select count(*) from public.mcp_servers where organization_id = u.o and status = 'connected'), (select count(*) from public.mcp_tools where organization_id = u.o),
	'integrations', (select count(*) from public.integrations where organization_id = u.o and status = 'active' and connected_by is not null),
	'tokens', (select count(*) from private.integration_secrets s join public.integrations i on i.id = s.integration_id where i.organization_id = u.o),
	'keys', (select count(*) from private.provider_keys where organization_id = u.o),
	'git', (select count(*) from private.git_connections where user_id = u.id), (select count(*) from private.repository_checks where user_id = u.id),
	'directories', (select count(*) from private.directory_syncs where organization_id = u.o),
	'consents', (select count(*) from private.connection_states where organization_id = u.o) + (select count(*) from private.integration_states where organization_id = u.o),
	'chunking', (select chunking_strategy from public.projects where organization_id = u.o and name = 'Project'),
	'watched', (select count(*) from private.push_hooks where organization_id = u.o),
		(select count(*) from public.project_settings where organization_id = u.o and (processing_options ->> 'realTimeIncremental')::boolean),
	'habits', (select count(*) from public.habits where user_id = u.id and is_active), 'reflexes', (select count(*) from public.reflexes where user_id = u.id and is_active),
	'secrets', (select count(*) from private.reflex_secrets s join public.reflexes r on r.id = s.reflex_id where r.user_id = u.id),
	'files', (select count(*) from private.audit_files where organization_id = u.o),
	'setups', (select count(*) from private.second_factor_setups where user_id = u.id), (select count(*) from private.second_factor_challenges where user_id = u.id),
	'changes', (select count(*) from private.account_tokens where user_id = u.id and purpose = 'verify_email' and used_at is null and email <> u.email),
	'kept', (select count(*) from public.audit_schedules where organization_id = u.o) + (select count(*) from public.audit_filters where organization_id = u.o)
		+ (select count(*) from public.project_settings where organization_id = u.o and webhook_url is not null)
		+ (select count(*) from private.integration_secrets s join public.webhooks w on w.id = s.webhook_id where w.organization_id = u.o))
	from (select x.*, $2::uuid as o from public.users x where x.id = $1) u`

// furnished gives Stan an account with all of it.
func furnished(t *testing.T, s *stack.Stack, stan *client.Person) {
	t.Helper()
	colin, gus := s.SignUp("Colin"), s.SignUp("Gus")
	s.DB.Exec(strings.NewReplacer("{user}", stan.ID, "{org}", stan.OrgID, "{colin}", colin.ID, "{gus}", gus.ID).Replace(furnish))
	require.Equal(t, "team 2 guests 1 links 2 invitations 1 webhooks 1 attempts 1 connectors 1 servers 1 1 integrations 1 tokens 1 keys 1 git 1 1 directories 1 consents 2 "+
		"chunking custom watched 1 1 habits 1 reflexes 1 secrets 1 files 1 setups 1 0 changes 1 kept 4", testdb.Value[string](s.DB, standing, stan.ID, stan.OrgID))
}

const claimed = "team 1 guests 0 links 0 invitations 0 webhooks 0 attempts 0 connectors 0 servers 0 0 integrations 0 tokens 0 keys 0 git 0 0 directories 0 consents 0 " +
	"chunking semantic watched 0 0 habits 0 reflexes 0 secrets 0 files 0 setups 0 0 changes 0 kept 4"

// Each way to prove the address pauses or ends it, tells the owner and writes it down.
func TestWhatWasSetUpBeforeAClaimIsNotInForceAfterIt(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t, func(c *config.Config) { c.SMTPHost, c.SMTPFrom, c.SMTPTLS = "127.0.0.1", "mail@kijko.test", mail.None })
	stack.Eventually(t, "the server's settings in the database", func() bool { return testdb.Holds(l.DB, "select private.has_mail()") })
	for how, claim := range map[string]func(stan *client.Person) string{
		"AReset": func(stan *client.Person) string {
			l.Do("POST", "/auth/reset-password", fields{"token": mailed(l.Stack, stan, "reset_password"), "password": "Rightful-Owner-1"}).Want(204)
			return l.Do("POST", "/auth/login", fields{"email": stan.Email, "password": "Rightful-Owner-1"}).Want(200).Tokens().AccessToken
		},
		"ALink": func(stan *client.Person) string { return byLink(l.Stack, stan).Want(200).Tokens().AccessToken },
		"AProvider": func(stan *client.Person) string {
			return l.signIn(as("owner", "email", stan.Email)).Want(200).Tokens().AccessToken
		},
		"ATokenOfKeycloak": func(stan *client.Person) string {
			token := l.provider.Token(t, as("bearer", "email", stan.Email))
			l.As(token).Get("/auth/me").Want(200)
			return token
		},
	} {
		t.Run(how, func(t *testing.T) {
			stan := l.SignUp("Stan")
			furnished(t, l.Stack, stan)
			ann := l.As(claim(stan))
			require.Equal(t, claimed, testdb.Value[string](l.DB, standing, stan.ID, stan.OrgID))
			require.Equal(t, stan.OrgID, ann.In(t).Get("/auth/me").Want(200).String("org_id"))
			require.Equal(t, "ending ending", testdb.Value[string](l.DB, `select string_agg(t.state, ' ') from private.provider_tokens t where t.updated_at > t.created_at`),
				"the providers are told")
			l.DB.Exec("delete from private.provider_tokens")

			notice := testdb.Value[string](l.DB, "select message from public.notifications where user_id = $1 and title = 'Your account was secured' and is_urgent", stan.ID)
			for _, line := range []string{"1 member of your team was deactivated", "1 guest of a project is a pending invitation again", "1 invitation to your team was withdrawn",
				"1 open invitation to a project lost its link", "1 webhook was paused", "1 custom connector was switched off", "1 MCP server was disconnected", "1 integration was disconnected",
				"1 directory was disconnected", "1 Git account was disconnected", "1 key of a model provider was deleted", "1 project chunks without its webhook",
				"1 project follows no pushes any more", "1 habit was switched off", "1 reflex was switched off", "1 secret of an incoming webhook was deleted"} {
				require.Contains(t, notice, "- "+line)
			}
			require.Equal(t, notice, testdb.Value[string](l.DB, "select message from private.notification_mails where user_id = $1 and title = 'Your account was secured' and cadence = 'now'", stan.ID))
			entries := client.JSON[struct {
				Entries []struct {
					UserID   string
					Metadata map[string]any
				}
			}](ann.In(t).Get("/security/audit-log?searchQuery=account_claimed").Want(200)).Entries
			require.Len(t, entries, 1)
			require.Equal(t, stan.ID, entries[0].UserID)
			require.Equal(t, 1.0, entries[0].Metadata["webhooks"])
		})
	}
}

// An account without anything is claimed without a notice. A link for a verified account changes nothing else.
func TestAClaimTouchesNothingWhereThereIsNothingToClaim(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	ann, ben := s.SignUp("Ann"), s.SignUp("Ben")
	byLink(s, ann).Want(200)
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from public.notifications where user_id = $1 and title = 'Your account was secured'", ann.ID))
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.audit_log where organization_id = $1 and event_type = 'security.account_claimed'", ann.OrgID))
	s.DB.Exec("update public.users set email_verified_at = now() where id = $1", ben.ID)
	furnished(t, s, ben)
	s.DB.Exec("update public.webhooks set events = '{context.updated}' where organization_id = $1", ben.OrgID)
	before := testdb.Value[string](s.DB, standing, ben.ID, ben.OrgID)
	byLink(s, ben).Want(200)
	require.Equal(t, before, testdb.Value[string](s.DB, standing, ben.ID, ben.OrgID))
	ben.Get("/auth/me").Want(200)
}

// Stan invited Ann's address and signed up with the token that he saw. She begins in an organization of her own, and hears of his.
func TestTheOwnerOfAnInvitedAddressBeginsAtHome(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	stan := s.SignUp("Stan")
	s.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", stan.OrgID)
	token := client.JSON[[]struct{ Token string }](stan.Do("POST", "/team/invitations", fields{"emails": []string{"ann.invited@example.nl"}, "role": "member"}).Want(201))[0].Token
	s.Do("POST", "/auth/signup", fields{"email": "ann.invited@example.nl", "password": "Squatter-Horse-8", "first_name": "Ann", "last_name": "Vos", "invitation_token": token}).Want(201)
	ann := &client.Person{Email: "ann.invited@example.nl", ID: testdb.Value[string](s.DB, "select id::text from public.users where email = 'ann.invited@example.nl'")}
	in := s.As(byLink(s, ann).Want(200).Tokens().AccessToken)
	me := in.Get("/auth/me").Want(200)
	require.NotEqual(t, stan.OrgID, me.String("org_id"))
	require.Equal(t, []any{"owner"}, me.Value("roles"))
	require.Contains(t, testdb.Value[string](s.DB, "select message from public.notifications where user_id = $1 and title = 'Your account was secured'", ann.ID),
		`You are also a member of "Stan Test's workspace".`)
	in.Do("POST", "/auth/switch-org", fields{"org_id": stan.OrgID}).Want(200)
}

// Of simultaneous proofs one claims. The others wait for it and find their links ended, and the session that it began goes on.
func TestSimultaneousProofsClaimOnce(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	stan := s.SignUp("Stan")
	furnished(t, s, stan)
	links := make([]string, 6)
	for i := range links {
		links[i] = mailed(s, stan, "magic_link")
	}
	answers := make([]client.Response, len(links))
	var all sync.WaitGroup
	for i, link := range links {
		all.Go(func() { answers[i], _ = s.Try("POST", "/auth/magic-link/verify", fields{"token": link}) })
	}
	all.Wait()
	won := 0
	for _, r := range answers {
		if r.Status == 200 {
			won++
			s.As(r.Tokens().AccessToken).Get("/auth/me").Want(200)
		} else {
			r.Problem(400, "INVALID_TOKEN")
		}
	}
	require.Equal(t, 1, won)
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.audit_log where organization_id = $1 and event_type = 'security.account_claimed'", stan.OrgID))
	require.Equal(t, claimed, testdb.Value[string](s.DB, standing, stan.ID, stan.OrgID))
}
