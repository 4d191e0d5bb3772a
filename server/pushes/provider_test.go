package pushes

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func headers(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if strings.EqualFold(pairs[i], name) {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// TestEachProviderProvesItself has the examples of the providers' documentation.
func TestEachProviderProvesItself(t *testing.T) {
	t.Parallel()
	const secret = "It's a Secret to Everybody"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("kijko:"+secret))
	for name, c := range map[string]struct {
		provider, header, value, body string
		genuine                       bool
	}{
		"GitHubsExample":                {"github", "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!", true},
		"GitHubWithAnotherBody":         {"github", "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World", false},
		"GitHubsOldHeader":              {"github", "X-Hub-Signature", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!", false},
		"GitHubWithout":                 {"github", "X-Hub-Signature-256", "", "Hello, World!", false},
		"BitbucketsExample":             {"bitbucket", "X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9", "Hello World!", true},
		"BitbucketWithAnotherSignature": {"bitbucket", "X-Hub-Signature", "sha256=b4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9", "Hello World!", false},
		"GitLabsToken":                  {"gitlab", "X-Gitlab-Token", secret, "x", true},
		"GitLabsTokenCut":               {"gitlab", "X-Gitlab-Token", secret[1:], "x", false},
		"GitLabWithout":                 {"gitlab", "X-Gitlab-Token", "", "x", false},
		"GitLabsTokenAtGitHub":          {"github", "X-Gitlab-Token", secret, "x", false},
		"AzuresPassword":                {"azure", "Authorization", basic, "x", true},
		"AzuresPasswordUnencoded":       {"azure", "Authorization", "Basic kijko:" + secret, "x", false},
		"AzureWithBearer":               {"azure", "Authorization", "Bearer " + secret, "x", false},
		"AzureWithoutAUser":             {"azure", "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(secret)), "x", false},
		"AnUnknownProvider":             {"sourceforge", "X-Gitlab-Token", secret, "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.genuine, isGenuine(c.provider, headers(c.header, c.value), []byte(secret), []byte(c.body)))
		})
	}
}

func TestPushesAreReadByTheirDocumentedShapes(t *testing.T) {
	t.Parallel()
	const one, zeros = "95790bf891e76fee5e1747ab589903a6a1f80f22", "0000000000000000000000000000000000000000"
	for name, c := range map[string]struct {
		provider string
		headers  func(string) string
		body     string
		pushes   []push
		delivery string
	}{
		"GitHub": {"github", headers("X-GitHub-Event", "push", "X-GitHub-Delivery", "72d3162e"), `{"ref": "refs/heads/feature/x", "before": "` + zeros + `", "after": "` + one + `"}`,
			[]push{{"feature/x", one}}, "72d3162e"},
		"GitHubsDeletedBranch": {"github", headers("X-GitHub-Event", "push"), `{"ref": "refs/heads/x", "deleted": true, "after": "` + zeros + `"}`, []push{{"x", ""}}, ""},
		"GitHubsTag":           {"github", headers("X-GitHub-Event", "push"), `{"ref": "refs/tags/v1", "after": "` + one + `"}`, []push{}, ""},
		"GitHubsPing":          {"github", headers("X-GitHub-Event", "ping"), `{"zen": "Design for failure."}`, []push{}, ""},
		"Gitea":                {"github", headers("X-Gitea-Event", "push", "X-GitHub-Event", "push", "X-GitHub-Delivery", "d"), `{"ref": "refs/heads/main", "after": "` + one + `"}`, []push{{"main", one}}, "d"},
		"GitLab": {"gitlab", headers("X-Gitlab-Event", "Push Hook", "X-Gitlab-Event-UUID", "u"), `{"object_kind": "push", "ref": "refs/heads/main", "after": "` + one + `", "checkout_sha": "` + one + `"}`,
			[]push{{"main", one}}, "u"},
		"GitLabsTag": {"gitlab", headers("X-Gitlab-Event", "Tag Push Hook"), `{"ref": "refs/tags/v1", "after": "` + one + `"}`, []push{}, ""},
		"Bitbucket": {"bitbucket", headers("X-Event-Key", "repo:push", "X-Request-UUID", "r"), `{"push": {"changes": [
			{"new": {"type": "branch", "name": "main", "target": {"hash": "` + one + `"}}, "old": null}, {"new": null, "old": {"type": "branch", "name": "gone"}},
			{"new": {"type": "tag", "name": "v1", "target": {"hash": "` + one + `"}}}]}}`, []push{{"main", one}}, "r"},
		"Azure": {"azure", headers(), `{"id": "03c164c2", "eventType": "git.push", "resource": {"refUpdates": [{"name": "refs/heads/main", "oldObjectId": "` + zeros + `",
			"newObjectId": "` + one + `"}, {"name": "refs/heads/gone", "newObjectId": "` + zeros + `"}]}}`, []push{{"main", one}, {"gone", ""}}, "03c164c2"},
		"NoJSON":     {"github", headers("X-GitHub-Event", "push"), `{`, []push{}, ""},
		"OtherTypes": {"bitbucket", headers("X-Event-Key", "repo:push"), `{"push": [1]}`, []push{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.pushes, pushesOf(c.provider, c.headers, []byte(c.body)))
			require.Equal(t, c.delivery, deliveryOf(c.provider, c.headers, []byte(c.body)))
		})
	}
}
