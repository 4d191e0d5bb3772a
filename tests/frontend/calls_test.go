package frontend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/pgtap"
	"kijko/tests/stack"
	"kijko/worker/llm/llmtest"
)

// function is a function of the package that makes one call.
type function struct {
	module, name string
	parameters   []string
	op           *openapi.Operation
	isStream     bool
}

func (f function) title() string { return f.module + "." + f.name }

var declaration = regexp.MustCompile("`(GET|POST|PUT|PATCH|DELETE) (/\\S*)` \\*/\nexport (?:const|async function|function) (\\w+)(?: =)? ?\\(([^\n]*)\\): (\\w+)<")

// functions reads the modules of the package.
func functions(t *testing.T) (list []function) {
	t.Helper()
	document, err := openapi.Load()
	require.NoError(t, err)
	byRoute := map[string]*openapi.Operation{}
	for _, op := range document.Operations {
		byRoute[op.Method+" "+op.Path] = op
	}
	for _, pattern := range []string{"services", "written"} {
		files, err := filepath.Glob(filepath.Join(source, "src", pattern, "*.ts"))
		require.NoError(t, err)
		for _, file := range files {
			for _, match := range declaration.FindAllStringSubmatch(string(read(t, file)), -1) {
				op := byRoute[match[1]+" "+match[2]]
				require.NotNil(t, op, "%s: %s calls what the document does not have: make generate", file, match[3])
				list = append(list, function{strings.TrimSuffix(filepath.Base(file), ".ts"), match[3], strings.Split(match[4], ", "), op, match[5] == "AsyncGenerator"})
			}
		}
	}
	require.Greater(t, len(list), 300)
	return list
}

// unserved are operations that a page does not call: a page that ends a redirect, pictures, and protocols with clients of their own.
var unserved = []string{"sendSocketIO", "callMCP", "returnFromProvider", "getPicture"}

// moves reports whether an operation answers by another protocol or another address, so that a function cannot call it.
func moves(t *testing.T, document *openapi.Document, op *openapi.Operation) bool {
	t.Helper()
	var parsed struct {
		Paths map[string]map[string]struct {
			Responses map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(document.JSON, &parsed))
	responses := parsed.Paths[op.Path][strings.ToLower(op.Method)].Responses
	return responses["101"] != nil || responses["302"] != nil
}

func TestEveryOperationHasAFunction(t *testing.T) {
	t.Parallel()
	document, err := openapi.Load()
	require.NoError(t, err)
	has := map[string]bool{}
	for _, f := range functions(t) {
		has[f.op.ID] = true
	}
	byPath := map[string][]string{}
	for _, op := range document.Operations {
		if has[op.ID] {
			byPath[op.Path] = append(byPath[op.Path], op.ID)
		}
	}
	for _, op := range document.Operations {
		isAlias := strings.HasSuffix(op.ID, openapi.AtAlias) || slices.ContainsFunc(byPath[op.Path], func(id string) bool {
			return op.ID == id+"Put" || op.ID == id+"Patch" || op.ID == id+"Post"
		})
		if has[op.ID] == (isAlias || slices.Contains(unserved, op.ID)) && (has[op.ID] || !moves(t, document, op)) {
			t.Errorf("%s: has a function: %v", op.ID, has[op.ID])
		}
	}
}

// tenant is a person whose organization has rows of everything.
type tenant struct {
	*client.Person
	ids map[string]string
}

func newTenant(t *testing.T, s *stack.Stack, name string) tenant {
	t.Helper()
	p := s.SignUp(name)
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", p.OrgID)
	s.DB.Exec("update public.users set is_platform_admin = true, email_verified_at = now() where id = $1", p.ID)
	v := tenant{Person: p, ids: map[string]string{"provider": "anthropic", "userId": p.ID}}
	seeds, err := pgtap.Seeds()
	require.NoError(t, err)
	conn := s.DB.Connect("postgres")
	for _, script := range []string{pgtap.Prelude, pgtap.Begin(name, "select '"+p.OrgID+"'", "select '"+p.ID+"'"), seeds, pgtap.End} {
		_, err := conn.Exec(t.Context(), script)
		require.NoError(t, err)
	}
	rows, err := conn.Query(t.Context(), "select name, id from seeded")
	require.NoError(t, err)
	var key, id string
	_, err = pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		v.ids[key] = id
		return nil
	})
	require.NoError(t, err)
	return v
}

// arguments writes the arguments of a call as TypeScript: ids, and the probe of the operation as its body or query.
func (f function) arguments(ids map[string]string) (given []string) {
	for _, parameter := range f.parameters {
		name, kind, _ := strings.Cut(parameter, ": ")
		name = strings.TrimSuffix(name, "?")
		switch {
		case name == "options":
		case name == "body" && f.op.Probe != nil, name == "query" && f.op.Method == "GET" && f.op.Probe != nil:
			given = append(given, literal(f.op.Probe))
		case name == "body" || name == "query":
			given = append(given, "undefined")
		case strings.HasPrefix(kind, "number"):
			given = append(given, "1")
		case ids[name] != "":
			given = append(given, literal(ids[name]))
		default:
			given = append(given, literal(uuid.NewString()))
		}
	}
	if f.op.Wait != "" {
		given = append(given, `{ headers: { Prefer: "respond-async" } }`)
	}
	return given
}

// literal writes a value of JSON as TypeScript.
func literal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// outcome is what a call gave: an answer as TypeScript, or a problem.
type outcome struct{ Name, Answer, Problem, Code string }

const serviceToken = "a-token-of-the-service-itself-1234567890"

// late are the calls after which others would fail, in their order.
var late = []string{"projectApi.completeIngestion", "projectApi.startIngestion", "skillsApi.deleteSkill", "skillsApi.bulkDeleteSkills", "projectApi.deleteProject", "settings.resetSettings", "twoFactor.generate2FASetupData",
	"twoFactor.verifyTOTPCode", "security.listBackupCodes", "twoFactor.generateBackupCodes", "security.disableTwoFactor", "security.terminateSession",
	"security.terminateOtherSessions", "profile.changePassword", "team.leaveTeam", "identity.switchOrganization", "identity.resetPassword", "authApi.logout"}

// Names in braces are ids. text is a file.
const text = `{ files: [new File(["text"], "a.txt", { type: "text/plain" })] }`

// own are the arguments of calls whose probe does not succeed: most probes are refused after their check, so that they change nothing.
var own = map[string]string{
	"gdpr.eraseAccount":                       `{ confirm: "DELETE_ALL_MY_DATA" }, { token: "{loneToken}" }`,
	"projectApi.removeRepository":             `"{quiet}", "{quietRepo}", { token: "{quietToken}" }`,
	"projects.updateRepository":               `"{quiet}", "{quietRepo}", { branch: "main" }, { token: "{quietToken}" }`,
	"projectApi.startIngestion":               `"{quiet}", { forceReprocess: true }, { token: "{quietToken}" }`,
	"ChatHistoryContext.addMessage":           `"{newChatId}", { role: "user", content: "Hello" }`,
	"admin.updateOrganization":                `"{orgId}", { limits: { seats: 5 } }`,
	"authApi.login":                           `{ email: "{email}", password: "{password}" }`,
	"chat.addChatAttachments":                 `"{contextId}", ` + text,
	"chatHistoryStorage.saveChatSession":      `"{newChatId}", { title: "Plans", messages: [] }`,
	"compressionService.compressIngestion":    `"{quiet}", 1, { headers: { Prefer: "respond-async" }, token: "{quietToken}" }`,
	"compressionService.triggerRecompression": `"{otherProject}", { headers: { Prefer: "respond-async" }, token: "{otherToken}" }`,
	"enrichments.generateEmbeddings":          `"{quiet}", { headers: { Prefer: "respond-async" }, token: "{quietToken}" }`,
	"enrichments.indexSymbols":                `"{quiet}", { headers: { Prefer: "respond-async" }, token: "{quietToken}" }`,
	"enrichments.rebuildGraph":                `"{quiet}", { headers: { Prefer: "respond-async" }, token: "{quietToken}" }`,
	"enrichments.runEnrichments":              `"{otherProject}", { headers: { Prefer: "respond-async" }, token: "{otherToken}" }`,
	"habitsApi.createHabit":                   `{ skillId: "{skillId}", scheduleCron: "0 9 * * *" }`,
	"hypervisa.deleteHypervisaSession":        `"{hypervisa}"`,
	"hypervisa.ingestHypervisaRepository":     `{ repo_url: "https://github.com/a/b", name: "Shop" }`,
	"hypervisa.queryHypervisaSession":         `"{hypervisa}", { prompt: "What is it?" }`,
	"identity.refreshSession":                 `{ refresh_token: "{refreshToken}" }`,
	"identity.resendVerification":             `{ token: "{memberToken}" }`,
	"projectApi.cancelIngestion":              `"{projectId}"`,
	"projectApi.disconnectOAuth":              `"github"`,
	"projectApi.initiateOAuth":                `"github"`,
	"connections.connectDirectory":            `"{projectId}", "okta"`,
	"connections.listRemoteBranches":          `{ url: "https://git.invalid/a/b" }`,
	"integrations.updateIntegration":          `"kijko-file-storage", { config: {} }`,
	"contexts.attachIngestionContent":         `"{contextId}", (answer("compressionService.addIngestionEntry") as { number: number }).number, ` + text + `, { headers: { Prefer: "respond-async" } }`,
	"identity.resetPassword":                  `{ token: "{resetToken}", password: "Another-Password-1" }`,
	"identity.switchOrganization":             `{ org_id: "{orgId}" }`,
	"identity.verifyEmail":                    `{ token: "{verifyToken}" }`,
	"identity.verifyMagicLink":                `{ token: "{magicToken}" }`,
	"notifications.createNotification":        `{ type: "system_update", title: "Hello", message: "A text" }`,
	"profile.changePassword":                  `{ currentPassword: "{password}", newPassword: "Another-Password-2" }`,
	"projectApi.completeIngestion":            `"{projectId}", { metrics: { totalFiles: 1, filesProcessed: 1, tokensProcessed: 1, bytesProcessed: 1, chunksCreated: 1, errorsEncountered: 0 }, totalDurationSeconds: 1 }, { token: "` + serviceToken + `" }`,
	"projectApi.getRecentRepos":               `"{me}"`,
	"projectApi.removeMember":                 `"{projectId}", "{member2}"`,
	"projectApi.resendInvitation":             `"{projectId}", "{member1}"`,
	"projectApi.saveProgressSnapshot":         `"{projectId}", { totalFiles: 1, filesProcessed: 1, tokensProcessed: 1, bytesProcessed: 1, chunksCreated: 1, errorsEncountered: 0 }, { token: "` + serviceToken + `" }`,
	"projectApi.updateIngestionProgress":      `"{projectId}", { progressPercent: 10 }, { token: "` + serviceToken + `" }`,
	"projectApi.uploadFiles":                  `[new File(["text"], "a.txt", { type: "text/plain" })], "{projectId}"`,
	"reflexesApi.createReflex":                `{ skillId: "{skillId}", triggerType: "webhook", triggerConfig: {} }`,
	"security.disableTwoFactor":               `{ code: (answer("twoFactor.generateBackupCodes") as { code: string }[])[0]!.code, password: "{password}" }`,
	"settings.deleteSetting":                  `"display.theme"`,
	"settings.getSetting":                     `"display.theme"`,
	"settings.setSetting":                     `"display.theme", { value: "dark" }`,
	"sharing.acceptProjectInvitation":         `"{projectToken}"`,
	"sharing.declineProjectInvitation":        `"{declinedToken}"`,
	"sharing.getProjectInvitation":            `"{projectToken}"`,
	"skills.createPlaybookSkill":              `{ name: "Playbook of Anna", description: "What it does", content: "Read the code and say what it does." }`,
	"skills.rateSkill":                        `"{publicSkillId}", { rating: 5 }`,
	"skillsApi.createSkill":                   `{ name: "Own", description: "What it does", promptTemplate: "Read the code and say what it does." }`,
	"skillsApi.importSkill":                   `{ version: "1.0", skill: { name: "Imported", description: "What it does", promptTemplate: "Read the code and say what it does." } }`,
	"sourceFiles.createFolder":                `"{contextId}", { name: "Second" }`,
	"sourceFiles.removeFile":                  `"{contextId}", "{folderId}"`,
	"supabase.removeProjectUser":              `"{member3}"`,
	"team.acceptTeamInvitation":               `{ token: "{teamToken}" }`,
	"team.leaveTeam":                          `{ token: "{memberToken}" }`,
	"team.lookUpTeamInvitation":               `{ token: "{teamToken}" }`,
	"twoFactor.generateBackupCodes":           ``,
	"twoFactor.verifyTOTPCode":                `{ code: code((answer("twoFactor.generate2FASetupData") as { secret: string }).secret) }`,
	"useContextSources.handleFilesAdded":      `"{contextId}", ` + text + `, { headers: { Prefer: "respond-async" } }`,
	"useContextSources.toggleSource":          `"{contextId}", (answer("useContextSources.fetchSources") as { id: string }[])[0]!.id, { selected: true }`,
	"useContextUsers.removeUser":              `"{contextId}", "{member4}"`,
	"useContextUsers.resendInvite":            `"{contextId}", "{member3}"`,
	"userManagement.onResendInvite":           `"{projectId}", "{member2}"`,
	"userManagement.removeUser":               `"{projectId}", "{member1}"`,
	"worktrees.renameBranch":                  `"{projectId}", "{worktreeId}", "{branch}", { name: "feature/x" }`,
	"worktrees.updateWorktree":                `"{projectId}", "{worktreeId}", { name: "Renamed" }`,
}

// elsewhere are calls that succeed only after an outside system or a mail took part, or after work had failed, with the code that they get here.
// The tests of their features let the operations succeed.
var elsewhere = map[string]string{
	"dataexports.downloadDataExport": "NOT_FOUND", "admin.replayWebhookEvent": "NOT_FOUND", "billing.cancelSubscription": "CONTRACT_MANAGED",
	"billing.createCheckout": "CONTRACT_MANAGED", "billing.resumeSubscription": "CONTRACT_MANAGED", "billing.updateSubscription": "CONTRACT_MANAGED",
	"billing.deletePaymentMethod": "DEFAULT_PAYMENT_METHOD",
	"audit.downloadAuditFile":     "NOT_FOUND", "billing.receiveStripeEvent": "INVALID_STRIPE_SIGNATURE", "connections.listRemoteBranches": "VALIDATION_ERROR",
	"identity.proveSecondFactor": "INVALID_TWO_FACTOR_CODE", "identity.startOAuth": "UNSUPPORTED_PROVIDER",
	"ingestion.recoverIngestion": "ALREADY_PROCESSING", "integrations.connectIntegration": "INTEGRATION_NOT_FOUND", "integrations.disconnectIntegration": "INTEGRATION_NOT_FOUND",
	"integrations.reconnectIntegration": "INTEGRATION_NOT_FOUND", "integrations.revokeIntegrationPermission": "INTEGRATION_NOT_FOUND",
	"integrations.syncIntegration": "INTEGRATION_NOT_FOUND", "notifications.unsubscribeMail": "INVALID_UNSUBSCRIBE_TOKEN",
	"operations.retryDeadJob": "JOB_NOT_FOUND", "projectApi.completeOAuth": "OAUTH_STATE_INVALID", "projectApi.getBatchRepositories": "NOT_AUTHENTICATED", "pushes.receivePush": "INVALID_SIGNATURE", "reflexes.receiveDelivery": "INVALID_SIGNATURE", "reflexes.receiveDeliveryByQuery": "INVALID_SIGNATURE", "security.downloadComplianceDocument": "NOT_FOUND",
}

func TestEveryFunctionSucceedsAndFails(t *testing.T) {
	t.Parallel()
	hypervisa := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := map[string]any{"id": "1", "name": "Shop", "source_type": "repo", "source_path": "https://github.com/a/b", "mode": "swarm", "model": "gemini",
			"total_tokens": 1, "status": "active", "created_at": "2026-11-30T12:00:00", "segments": []any{}}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == "GET":
			_ = json.NewEncoder(w).Encode([]any{session})
		case strings.HasSuffix(r.URL.Path, "/query"):
			_, _ = w.Write([]byte(`{"session_id": "1", "prompt": "What is it?", "response": "A shop."}`))
		case r.Method == "DELETE":
			_, _ = w.Write([]byte(`{"status": "deleted"}`))
		default:
			w.WriteHeader(201)
			_ = json.NewEncoder(w).Encode(session)
		}
	}))
	t.Cleanup(hypervisa.Close)
	s := stack.New(t, stack.Models(llmtest.New(t)), func(c *config.Config) {
		c.ServiceToken, c.HypervisaURL = serviceToken, hypervisa.URL+"/"
		c.HypervisaRoot, c.ExecutionWait = "/data", 50*time.Millisecond                // there is no worker: what takes long answers 202
		c.SMTPHost, c.SMTPPort, c.SMTPFrom = "127.0.0.1", 9, "Kijko <mail@kijko.test>" // mails are queued, and no test waits for them
	})
	anna, boris, carla := newTenant(t, s, "Anna"), newTenant(t, s, "Boris"), newTenant(t, s, "Carla")
	furnish(t, s, anna, boris, carla)
	list := functions(t)
	rank := map[string]int{"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
	slices.SortStableFunc(list, func(a, b function) int {
		if n := slices.Index(late, a.title()) - slices.Index(late, b.title()); n != 0 {
			return n
		}
		if n := rank[a.op.Method] - rank[b.op.Method]; n != 0 || a.op.Method != "DELETE" {
			return n
		}
		return strings.Count(b.op.Path, "/") - strings.Count(a.op.Path, "/")
	})
	succeeding, failing := calls{}, calls{}
	for _, f := range list {
		given, isOwn := own[f.title()]
		if !isOwn {
			given = strings.Join(f.arguments(anna.ids), ", ")
		}
		succeeding.add(f, placeholder.ReplaceAllStringFunc(given, func(name string) string {
			id := anna.ids[strings.Trim(name, "{}")]
			require.NotEmpty(t, id, "%s of %s", name, f.title())
			return id
		}), false)
		given, isAway := f.fails()
		failing.add(f, given, isAway)
	}
	folder := workshop(t)
	write(t, filepath.Join(folder, "harness.mjs"), read(t, "harness.mjs"))
	write(t, filepath.Join(folder, "harness.d.mts"), []byte("export function start(): void;\nexport function answer(name: string): unknown;\nexport function code(secret: string): string;\n"+
		"export function run(name: string, call: () => Promise<unknown> | AsyncGenerator<unknown>, isAway: boolean): Promise<void>;\n"))

	codes := string(read(t, "../../db/errors.md"))
	var typed strings.Builder
	typed.WriteString("import type { Problem } from \"@kijko/client\";\n" + imports(list, "import type") +
		"type Answered<F> = F extends (...given: never[]) => infer R ? (R extends AsyncGenerator<infer E> ? E[] : Awaited<R>) : never;\n")
	for i, o := range failing.make(t, folder, "failing.ts", s.BaseURL, anna.Token, list) {
		if o.Answer != "" {
			t.Errorf("%s succeeded: %s", o.Name, o.Answer)
			continue
		}
		if o.Code != "NETWORK_ERROR" {
			require.Contains(t, codes, "`"+o.Code+"`", o.Name)
		}
		fmt.Fprintf(&typed, "export const problem%d: Problem = %s; // %s\n", i, o.Problem, o.Name)
	}
	for i, o := range succeeding.make(t, folder, "succeeding.ts", s.BaseURL, anna.Token, list) {
		if o.Answer == "" || elsewhere[o.Name] != "" {
			// What this installation lacks is tested where it is there.
			if o.Code != elsewhere[o.Name] && o.Code != "PROVIDER_NOT_CONFIGURED" {
				t.Errorf("%s failed with %q (expected: %q). Give it arguments in own, or its code in elsewhere: %s", o.Name, o.Code, elsewhere[o.Name], o.Problem)
			}
			continue
		}
		module, name, _ := strings.Cut(o.Name, ".")
		fmt.Fprintf(&typed, "export const answer%d: Answered<typeof %s.%s> = %s;\n", i, as(module), name, o.Answer)
	}
	write(t, filepath.Join(folder, "typed.ts"), []byte(typed.String()))
	run(t, folder, nil, filepath.Join(modules(t), "typescript", "bin", "tsc"), "--noEmit", "--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "esnext",
		"--moduleResolution", "bundler", "succeeding.ts", "failing.ts", "typed.ts")
}

// furnish makes what single calls need: further members of the project, tokens that mails would have brought, and the end of work that the
// seeds began.
func furnish(t *testing.T, s *stack.Stack, anna, boris, carla tenant) {
	t.Helper()
	ids, me := anna.ids, anna.In(t)
	ids["me"], ids["orgId"], ids["email"], ids["password"], ids["refreshToken"], ids["hypervisa"] = anna.ID, anna.OrgID, anna.Email, anna.Password, anna.RefreshToken, "1"
	ids["newChatId"] = uuid.NewString()
	for i := 1; i <= 4; i++ {
		r := me.Do("POST", "/projects/"+ids["projectId"]+"/members", map[string]any{"email": fmt.Sprintf("member%d@example.org", i), "role": "viewer"}).Want(201)
		ids[fmt.Sprintf("member%d", i)] = r.Value("id").(string)
	}
	s.DB.Exec("update private.project_invitations set sent_at = sent_at - interval '1 hour'")
	me.Do("PUT", "/settings/display.theme", map[string]any{"value": "light"}).Want(200)
	me.Do("PUT", "/chats/"+ids["newChatId"], map[string]any{"title": "Plans", "messages": []any{}}).Want(201)

	// What a mail would have brought. Tokens of Boris's account keep Anna's session alive.
	token := func(name, sql string, args ...any) {
		ids[name] = strings.Repeat(name[:1], 43-len(name)) + name
		s.DB.Exec(sql, append([]any{ids[name]}, args...)...)
	}
	for name, purpose := range map[string]string{"resetToken": "reset_password", "verifyToken": "verify_email", "magicToken": "magic_link"} {
		token(name, `insert into private.account_tokens (user_id, purpose, email, token_hash, expires_at)
			select id, $2, email, private.token_hash($1), now() + interval '1 hour' from public.users where id = $3`, purpose, boris.ID)
	}
	token("teamToken", `insert into public.team_invitations (organization_id, email, role, token_hash, expires_at)
		values ($2, $3, 'member', private.token_hash($1), now() + interval '1 day')`, boris.OrgID, anna.Email)
	for name, address := range map[string]string{"projectToken": anna.Email, "declinedToken": "another@example.org"} {
		r := boris.In(t).Do("POST", "/projects/"+boris.ids["projectId"]+"/members", map[string]any{"email": address, "role": "viewer"}).Want(201)
		token(name, `update private.project_invitations set token_hash = private.project_token_hash($1) where member_id = $2`, r.Value("id"))
	}
	ids["loneToken"] = s.SignUp("Dora").Token
	ids["memberToken"] = s.Join(anna.Person, s.SignUp("Carl"), "member").Token

	ids["publicSkillId"] = boris.ids["skillId"]
	s.DB.Exec("update public.skills set is_public = true where id = $1", boris.ids["skillId"])
	// Contexts without work in progress.
	for _, quiet := range []tenant{boris, carla} {
		quiet.In(t).Do("POST", "/projects/"+quiet.ids["projectId"]+"/cancel-ingestion", nil).Want(200)
	}
	s.DB.Exec("update public.context_operations set status = 'cancelled', finished_at = now() where status in ('queued', 'running')")
	s.DB.Exec("update public.webhook_deliveries set status = 'failed'")
	ids["quiet"], ids["quietToken"], ids["quietRepo"] = boris.ids["contextId"], boris.Token, boris.ids["repoId"]
	ids["otherProject"], ids["otherToken"] = carla.ids["contextId"], carla.Token
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// bad are arguments of calls that fail, where none can be made up.
var bad = map[string]string{
	"chat.addChatAttachments":            `"none", ` + text,
	"chatHistoryStorage.saveChatSession": `"chat", { title: "Plans", messages: [] }, { token: "nonsense" }`,
	"notifications.createNotification":   `{ type: "system_update", title: "Hello", message: "A text" }, { token: "nonsense" }`,
	"projectApi.uploadFiles":             `[new File(["text"], "a.txt")], undefined, { token: "nonsense" }`,
	"useContextSources.handleFilesAdded": `"none", ` + text,
}

// fails gives arguments with which a call fails: an id that no row has, else a credential that no session has. A call that takes neither
// fails where the server is away.
func (f function) fails() (given string, isAway bool) {
	if given, ok := bad[f.title()]; ok {
		return given, false
	}
	list := f.arguments(nil)
	hasID := placeholder.MatchString(f.op.Path) && !strings.Contains(f.op.Path, "{key}") && !strings.Contains(f.op.Path, "{provider}")
	if f.op.Access == openapi.User && (!hasID || f.op.ID == "deleteChat") {
		list = append(list, `{ token: "nonsense" }`)
	}
	return strings.Join(list, ", "), f.op.Access != openapi.User && !hasID
}

// calls is a script that makes calls one after the other.
type calls struct {
	text strings.Builder
}

func (c *calls) add(f function, given string, isAway bool) {
	fmt.Fprintf(&c.text, "await run(%q, () => %s.%s(%s), %v);\n", f.title(), as(f.module), f.name, given, isAway)
}

// make runs the script with node and gives what it prints.
func (c *calls) make(t *testing.T, folder, name, url, token string, list []function) (all []outcome) {
	t.Helper()
	write(t, filepath.Join(folder, name), []byte(imports(list, "import")+"import { answer, code, run, start } from \"./harness.mjs\";\n\nvoid answer, code;\nstart();\n"+c.text.String()))
	bundle(t, folder, name, "--platform=node")
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(folder, strings.TrimSuffix(name, ".ts")+".out.mjs"))
	cmd.Env = append(os.Environ(), "KIJKO_URL="+url, "KIJKO_TOKEN="+token)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", out, complaint.String())
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var o outcome
		require.NoError(t, json.Unmarshal(lines.Bytes(), &o), lines.Text())
		all = append(all, o)
	}
	return all
}

func imports(list []function, keyword string) string {
	names := map[string]bool{}
	for _, f := range list {
		names[f.module] = true
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&b, "%s * as %s from \"@kijko/client/%s\";\n", keyword, as(name), name)
	}
	return b.String()
}

// as is the name of a module in a script.
func as(module string) string {
	if module == "export" {
		return "exporting"
	}
	return module
}
