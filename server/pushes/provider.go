package pushes

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"kijko/worker/exactjson"
	"kijko/worker/seal"
)

// isGenuine checks the provider's own signature over the raw body, in constant time.
func isGenuine(provider string, header func(string) string, secret, body []byte) bool {
	switch provider {
	case "github": // and Gitea
		return seal.IsSigned(secret, seal.ReadSignature(header("X-Hub-Signature-256")), body)
	case "bitbucket":
		return seal.IsSigned(secret, seal.ReadSignature(header("X-Hub-Signature")), body)
	case "gitlab":
		return same([]byte(header("X-Gitlab-Token")), secret)
	case "azure":
		encoded, ok := strings.CutPrefix(header("Authorization"), "Basic ")
		given, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		_, password, found := strings.Cut(string(given), ":")
		return same([]byte(password), secret) && ok && err == nil && found
	}
	return false
}

// same compares digests, because the lengths of the texts would tell.
func same(given, secret []byte) bool {
	a, b := sha256.Sum256(given), sha256.Sum256(secret)
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// push is a branch with its new commit; without a commit the branch was deleted.
type push struct {
	Branch string `json:"branch"`
	Commit string `json:"commit,omitempty"`
}

// maxPushes bounds the branches of one delivery that are looked at; Bitbucket and Azure put several into one.
const maxPushes = 1000

// pushesOf reads the pushed branches. A delivery of another event, and one that cannot be read, has none.
func pushesOf(provider string, header func(string) string, body []byte) []push {
	list := []push{}
	add := func(ref, commit string) {
		if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok && len(list) < maxPushes {
			if strings.Trim(commit, "0") == "" {
				commit = ""
			}
			list = append(list, push{branch, commit})
		}
	}
	switch provider {
	case "github", "gitlab":
		var event struct {
			Ref   string `json:"ref"`
			After string `json:"after"`
		}
		// Gitea sends GitHub's header as well. A deleted branch is a push to zeros at GitHub, and an event of another name at Gitea.
		name := header("X-GitHub-Event") + header("X-Gitlab-Event")
		if (name == "push" || name == "Push Hook") && exactjson.Unmarshal(body, &event) == nil {
			add(event.Ref, event.After)
		}
	case "bitbucket":
		type side struct {
			Type   string `json:"type"`
			Name   string `json:"name"`
			Target struct {
				Hash string `json:"hash"`
			} `json:"target"`
		}
		var event struct {
			Push struct {
				Changes []struct {
					New *side `json:"new"`
				} `json:"changes"`
			} `json:"push"`
		}
		if header("X-Event-Key") == "repo:push" && exactjson.Unmarshal(body, &event) == nil {
			for _, change := range event.Push.Changes {
				if change.New != nil && change.New.Type == "branch" {
					add("refs/heads/"+change.New.Name, change.New.Target.Hash)
				}
			}
		}
	case "azure":
		var event struct {
			EventType string `json:"eventType"`
			Resource  struct {
				RefUpdates []struct {
					Name        string `json:"name"`
					NewObjectID string `json:"newObjectId"`
				} `json:"refUpdates"`
			} `json:"resource"`
		}
		if exactjson.Unmarshal(body, &event) == nil && event.EventType == "git.push" {
			for _, update := range event.Resource.RefUpdates {
				add(update.Name, update.NewObjectID)
			}
		}
	}
	return list
}

// deliveryOf is the provider's own id of a delivery, which a repeated one has too; "" if it has none.
func deliveryOf(provider string, header func(string) string, body []byte) string {
	switch provider {
	case "github":
		return header("X-GitHub-Delivery")
	case "gitlab":
		return header("X-Gitlab-Event-UUID")
	case "bitbucket":
		return header("X-Request-UUID")
	}
	var event struct {
		ID string `json:"id"`
	}
	_ = exactjson.Unmarshal(body, &event) // without an id the delivery counts by itself
	return event.ID
}
