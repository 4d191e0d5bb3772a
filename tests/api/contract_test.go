package api

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/openapi"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/app"
)

// row is a line of docs/contract/operations-NN.tsv.
type row struct{ document, route, access, tier, section string }

// contractRows are the operations of the contract. The path of a route begins with two slashes where the route stands beside the prefix. It
// has {} for each parameter.
func contractRows(t *testing.T) (rows []row) {
	t.Helper()
	files, err := filepath.Glob("../../docs/contract/operations-*.tsv")
	require.NoError(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		document := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "operations-"), ".tsv")
		for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n")[1:] {
			c := strings.Split(strings.TrimRight(line, "\r"), "\t") // method, path, auth, tier, status, response, client function, section
			rows = append(rows, row{document, c[0] + " " + placeholder.ReplaceAllString(c[1], "{}"), c[2], c[3], c[7]})
		}
	}
	require.Greater(t, len(rows), 500)
	return rows
}

// later lists parts of the contract that are not built yet: sections, or routes.
var later []string

func TestTheContractsOperationsAreServed(t *testing.T) {
	t.Parallel()
	document, err := openapi.Load()
	require.NoError(t, err)
	have := map[string]bool{}
	for _, op := range document.Operations {
		have[op.Method+" "+placeholder.ReplaceAllString(op.Path, "{}")] = true
	}
	for _, want := range contractRows(t) {
		// The greeting at / stands beside the document.
		if want.route == "GET //" {
			continue
		}
		if slices.ContainsFunc(later, func(part string) bool {
			return part == want.document+" "+want.section || part == want.document+" "+want.route
		}) {
			continue
		}
		method, path, _ := strings.Cut(want.route, " ")
		require.True(t, have[want.route] || have[method+" "+strings.TrimPrefix(path, "/")], "%s of document %s, section %s, is not served", want.route, want.document, want.section)
	}
}

const projectMembers = `id userId organizationId name description? type status privacy chunkingStrategy includeMetadata anonymizeSecrets totalRepos totalFiles
	originalTokens? optimizedTokens? ingestionTimeSeconds? createdAt updatedAt icon sourceCount isShared sharedBy? owner label? color? starred? archived?
	lastActiveUser? previewUrl?`

// shapes are the members of the contract's types; "?" marks those that may be absent.
var shapes = map[string]string{
	"Project":              projectMembers,
	"ProjectWithRelations": projectMembers + " repositories members currentIngestion?",
	"ProjectRepository": `id projectId provider repositoryUrl repositoryName branch status lastSyncAt? lastCommitHash? fileCount? includePaths? excludePaths?
		createdAt updatedAt`,
	"ProjectMember":            `id projectId userId email name? avatarUrl? role notifyOnIngestion notifyOnError notifyOnTeamChanges invitedAt acceptedAt? lastActiveAt?`,
	"ProjectUser":              `id project_id user_id email name role added_at added_by avatar_url?`,
	"UserSearchResult":         `id email name avatar_url?`,
	"UserAccess":               `id userId? name email role lastActive avatar? status isCurrentUser invitedAt`,
	"ActivityEvent":            `id type user description timestamp metadata?`,
	"ActivityPage":             `data total page pageSize hasMore`,
	"ProjectInvitationView":    `projectId projectName email role invitedBy? expiresAt status`,
	"ProjectInvitationResult":  `email status memberId? error?`,
	"ProjectInvitationResults": `success results totalSent totalFailed`,
	"IngestionProgress":        `id projectId phase progressPercent message metrics startedAt estimatedCompletionAt? completedAt? errorMessage? errorCode?`,
	"ModelAnswer":              `id content model stopReason usage`,
	"IngestionMetrics":         `totalFiles filesProcessed tokensProcessed bytesProcessed chunksCreated errorsEncountered`,
	"ProjectPage":              `data total page pageSize hasMore`,
	"ProjectFilePage":          `data total page pageSize hasMore`,
	"ProjectStats":             `totalProjects activeProjects processingProjects errorProjects totalTokens totalFiles`,
	"MetadataOptions":          `functionSignatures? importDependencies? gitHistory? fileStructure? customAnnotations?`,
	"PatternFilters":           `languagePatterns? excludePatterns?`,
	"ProcessingOptions":        `anonymizeSecrets? parallelProcessing? realTimeIncremental?`,
	"FileFilterConfig":         `excludeNodeModules? excludeBuildArtifacts? excludeTests? includeDocumentation?`,
	"SourceFile":               `id name extension size type isFolder? parentId order?`,
	"CostEstimate":             `processingCost storageCostMonthly totalTokens optimizedTokens compressionRatio isPlanEligible planName savingsVsRaw`,
	"NameValidationResult":     `valid error? suggestion?`,
	"CheckNameResponse":        `exists suggestion?`,
	"RepositoryVerdict":        `valid error? provider? repoName?`,
	"CreateProjectResponse":    `project nextSteps webhookSecret?`,
	"ManualContent":            `content characters lines updatedAt?`,
	"UploadResult":             `uploaded errors`,
	"AttachResult":             `attached errors`,
	"FileBrief":                `id name size type`,
	"StartIngestionResponse":   `jobId projectId status wsNamespaceUrl estimatedDurationSeconds`,
	"SnapshotSaved":            `success timestamp`,
	"IngestionState":           `currentPhase phases phase1Data phase2Data phase3Data phase4Data sidebarMetrics startedAt error`,
	"PhaseInfo":                `phase status label shortLabel icon startedAt? completedAt? errorMessage?`,
	"Phase1Data":               `repositoryUrl statusItems cloneProgress estimatedSecondsRemaining? earlyStats proTip? leftOut?`,
	"Phase2Data":               `overallProgress fileTypeBreakdown metrics memoryInsights leftOut?`,
	"Phase3Data":               `strategy strategyLabel chunkTypes totalChunks avgChunkSize qualityMetrics optimizationActions`,
	"Phase4Data":               `techniques tokenReduction predictedPerformance`,
	"SidebarMetrics":           `originalTokens currentTokens reductionPercent timeElapsedSeconds estimatedSecondsRemaining? filesProcessed totalFiles currentPhaseName`,
	"ErrorRecovery":            `errorCode errorMessage phase options failedItems? canRetry retryCount maxRetries branches?`,
	"IngestionResult": `projectId projectName originalTokens optimizedTokens reductionPercent savingsBreakdown performanceStats filesProcessed chunksCreated
		languagesDetected? filesLeftOut?`,
	"CompletionData":       `projectId projectName persona alexMetrics? mayaMetrics? samMetrics? processingDurationSeconds completedAt`,
	"WorktreeWithBranches": `id name path isActive branches currentBranch`,
	"WorktreeBranch":       `name isDefault isCurrent lastCommit?`,
	"TokenResponse":        `access_token refresh_token token_type expires_in device_token?`,
	"AuthUser":             `id email first_name last_name org_id roles plan email_verified two_factor_enabled`,
	"AuthOrganization":     `org_id name role status is_current`,
	"TwoFactorStatus":      `isEnabled enabledAt? backupCodesRemaining?`,
	"TwoFactorSetupData":   `secret qrCodeUrl manualEntryKey`,
	"BackupCode":           `code isUsed usedAt?`,
	"SecurityPolicies":     `teamId password session authentication updatedAt`,
	"IPWhitelistSettings":  `teamId mode adminBypassEnabled entries groups`,
	"IPWhitelistEntry":     `id teamId name ipAddress? ipRange? isActive createdAt createdBy`,
	"ComplianceDocument":   `id framework name description fileUrl fileSize version validFrom validUntil? uploadedAt`,
	"Plan":                 `id name price annualPrice? description features limits isPopular?`,
	"Invoice": `id userId stripeInvoiceId invoiceNumber status amountDue amountPaid currency description? invoiceUrl? pdfUrl? periodStart periodEnd dueDate? paidAt?
		createdAt netAmount vatAmount vatRate vatTreatment customerCountry`,
	"InvoicePage": `invoices hasMore total`,
	"Subscription": `id userId planId status billingInterval stripeSubscriptionId? currentPeriodStart currentPeriodEnd cancelAtPeriodEnd trialEnd? createdAt updatedAt
		pendingPlanId? pendingBillingInterval?`,
	"UsageMetric":         `type current limit percentage trend`,
	"TaxQuote":            `currency netAmount vatRate vatAmount totalAmount treatment note?`,
	"BillingDetails":      `userId companyName? btwNumber? kvkNumber? addressLine1? addressLine2? city? postalCode? country updatedAt`,
	"BtwValidationResult": `isValid companyName? address? errorMessage?`,
	"SecurityScore":       `totalScore maxScore categories recommendations lastCalculated`,
	"Habit": `id skillId userId scheduleCron scheduleDescription? timezone lastRunAt? nextRunAt? runCount isActive config consecutiveFailures lastErrorMessage?
		createdAt updatedAt`,
	"HabitWithSkill": `id skillId userId scheduleCron scheduleDescription? timezone lastRunAt? nextRunAt? runCount isActive config consecutiveFailures lastErrorMessage?
		createdAt updatedAt skill`,
	"HabitPage":              `habits total page pageSize hasMore`,
	"HabitStats":             `totalHabits activeHabits totalRuns failedHabits upcomingRuns`,
	"CronVerdict":            `isValid error? description? nextRuns?`,
	"RunHabitResponse":       `executionId status message`,
	"SupportContext":         `projectCount skillsCount habitsCount reflexesCount recentActivity userName?`,
	"SupportMessage":         `id role content timestamp`,
	"SupportAnswer":          `message conversationId reply model usage`,
	"AnalyticsReceipt":       `accepted rejected errors?`,
	"PersonaDetectionResult": `persona scores confidence signals override? showAllOptions`,
	"Problem":                `type title status detail code message field? details? requestId`,
}

func TestTheContractsShapesAreTheDocuments(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	for name, members := range shapes {
		var all, required []string
		for _, member := range strings.Fields(members) {
			plain, optional := strings.CutSuffix(member, "?")
			all = append(all, plain)
			if !optional {
				required = append(required, plain)
			}
		}
		slices.Sort(all)
		slices.Sort(required)
		gotAll, gotRequired := d.schema(name)
		require.Equal(t, all, gotAll, "members of %s", name)
		require.Equal(t, required, gotRequired, "members of %s that are always there", name)
	}
}

// listed is a code of db/errors.md. Its status is 0 in the tables that have none.
func listed(t *testing.T) map[string]map[int]bool {
	t.Helper()
	raw, err := os.ReadFile("../../db/errors.md")
	require.NoError(t, err)
	codes := map[string]map[int]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|(?: (\\d{3}) \\|)?.*\\|$").FindAllStringSubmatch(string(raw), -1) {
		status, _ := strconv.Atoi(row[2])
		if codes[row[1]] == nil {
			codes[row[1]] = map[int]bool{}
		}
		require.False(t, status > 0 && codes[row[1]][status], "%s is listed twice", row[1])
		codes[row[1]][status] = true
	}
	require.Greater(t, len(codes), 50)
	return codes
}

// looksLikeACode is true for texts that are written like codes; codes of one word are named one by one.
var looksLikeACode = regexp.MustCompile(`^([A-Z]+(_[A-Z]+)+|INTERNAL|CONFLICT|FORBIDDEN|TIMEOUT|UNAUTHENTICATED|UNREACHABLE|BEHIND)$`)

// noCodes are texts that are written like codes but are names of settings, or a provider's names of its failures.
var noCodes = regexp.MustCompile(`^(KIJKO|STRIPE|GIT|AWS|OTEL|SMTP|MAIL|LANGFUSE|MCP)_|_(URL|KEY|ORIGINS|PROXIES|SIZE|DAYS|USD|ROOT)$|^(API_KEY_INVALID|INVALID_ARGUMENT|FAILED_PRECONDITION|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED)$`)

func TestEveryCodeIsListed(t *testing.T) {
	t.Parallel()
	codes := listed(t)
	raised := map[string]bool{}
	check := func(where, code string, status int) {
		raised[code] = true
		require.NotEmpty(t, codes[code], "%s raises %s: give db/errors.md a row for it", where, code)
		if status > 0 {
			require.True(t, codes[code][status], "%s raises %s with %d, db/errors.md says %v", where, code, status, slices.Collect(maps.Keys(codes[code])))
		}
	}
	refusal := regexp.MustCompile(`(?:refuse|problem)\(\s*(\d{3}),\s*'([A-Z_]+)'`)
	literal := regexp.MustCompile(`'([A-Z_]+)'`)
	require.NoError(t, fs.WalkDir(db.Files(), "code", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(db.Files(), path)
		for _, m := range refusal.FindAllStringSubmatch(string(raw), -1) {
			status, _ := strconv.Atoi(m[1])
			check(path, m[2], status)
		}
		for _, m := range literal.FindAllStringSubmatch(string(raw), -1) {
			if looksLikeACode.MatchString(m[1]) {
				check(path, m[1], 0)
			}
		}
		return err
	}))
	statuses := map[string]int{}
	for status := 100; status < 600; status++ {
		statuses["Status"+strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status))] = status
	}
	eachGoFile(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				code, status := problemCall(n, statuses)
				if code != "" {
					check(path, code, status)
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				if n.Kind == token.STRING && err == nil && looksLikeACode.MatchString(text) && !noCodes.MatchString(text) {
					check(path, text, 0)
				}
			}
			return true
		})
	})
	for code := range codes {
		require.True(t, raised[code], "nothing raises %s, which db/errors.md lists", code)
	}
}

// problemCall reads NewProblem(status, code, ...) and Unavailable(code, ...). The status is 0 where the code computes it.
func problemCall(call *ast.CallExpr, statuses map[string]int) (code string, status int) {
	name := ""
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
	}
	at := map[string]int{"NewProblem": 1, "Unavailable": 0}
	i, ok := at[name]
	if !ok || len(call.Args) <= i {
		return "", 0
	}
	literal, ok := call.Args[i].(*ast.BasicLit)
	if !ok {
		return "", 0
	}
	code, _ = strconv.Unquote(literal.Value)
	if name == "Unavailable" {
		return code, http.StatusServiceUnavailable
	}
	if constant, ok := call.Args[0].(*ast.SelectorExpr); ok {
		status = statuses[constant.Sel.Name]
	}
	return code, status
}

// eachGoFile parses the programs' sources, tests left out.
func eachGoFile(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	set := token.NewFileSet()
	for _, root := range []string{"../../server", "../../worker"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
				strings.Contains(path, "test/") || strings.Contains(path, "/secret/") {
				return err
			}
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err == nil {
				visit(path, file)
			}
			return err
		}))
	}
}

func TestOperationsAndFunctionsMatch(t *testing.T) {
	t.Parallel()
	document, err := openapi.Load()
	require.NoError(t, err)
	conn := testdb.New(t).Connect("postgres")
	rows, err := conn.Query(t.Context(), "select proname from pg_proc where pronamespace = 'api'::regnamespace")
	require.NoError(t, err)
	functions := map[string]bool{}
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		functions[name] = true
	}
	require.NoError(t, rows.Err())
	named := map[string]bool{}
	for _, op := range document.Operations {
		if op.Function != "" {
			named[op.Function] = true
			require.True(t, functions[op.Function], "%s is answered by api.%s (x-function), which no file of db/code creates", op.ID, op.Function)
		}
	}
	for _, op := range document.Operations {
		if op.Wait != "" {
			named[op.Wait] = true
			require.True(t, functions[op.Wait], "%s ends with api.%s (x-wait), which no file of db/code creates", op.ID, op.Wait)
		}
	}
	eachGoFile(t, func(_ string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil && functions[text] {
					named[text] = true
				}
			}
			return true
		})
	})
	for name := range functions {
		require.True(t, named[name], "no operation and no handler calls api.%s: name it in an x-function of server/openapi, or drop it in a migration", name)
	}
}

func TestEveryJobHasAWorker(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	w, closeWorker, err := app.Assemble(context.Background(), stack.Settings(t, database).Config, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, closeWorker()) })
	enqueued := map[string]bool{}
	call := regexp.MustCompile(`private\.enqueue\(\s*'([a-z._]+)'`)
	require.NoError(t, fs.WalkDir(db.Files(), "code", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(db.Files(), path)
		for _, m := range call.FindAllStringSubmatch(string(raw), -1) {
			enqueued[m[1]] = true
		}
		return err
	}))
	registered := slices.Sorted(slices.Values(w.Names()))
	require.Equal(t, slices.Sorted(maps.Keys(enqueued)), registered)
}

func TestEveryFileOfCodeIsInstalled(t *testing.T) {
	t.Parallel()
	raw, err := fs.ReadFile(db.Files(), "code/install.sql")
	require.NoError(t, err)
	installed := map[string]bool{}
	for _, m := range regexp.MustCompile(`template "([^"]+)"`).FindAllStringSubmatch(string(raw), -1) {
		require.False(t, installed[m[1]], "%s is installed twice", m[1])
		installed[m[1]] = true
	}
	there := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../../db/code", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".sql") && entry.Name() != "install.sql" {
			there[filepath.ToSlash(strings.TrimPrefix(path, "../../db/code/"))] = true
		}
		return err
	}))
	for name := range there {
		require.True(t, installed[name], "db/code/%s is not installed: add a line to db/code/install.sql", name)
	}
	for name := range installed {
		require.True(t, there[name], "db/code/install.sql lists %s, which does not exist", name)
	}
}
