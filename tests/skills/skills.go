// Package skills holds the black-box tests of skills, and the helpers with which other tests make one.
package skills

import (
	"testing"

	"kijko/tests/client"
)

const prompt = "Summarise these commits for users: {{commits}}"

// Skill is the answer of the API.
type Skill struct {
	ID, UserID, Name, Description, Category, PromptTemplate, Model, OutputFormat, UpdatedAt, CreatedAt string
	Parameters                                                                                         map[string]any
	InputSchema                                                                                        []map[string]any
	IsActive, IsPublic                                                                                 bool
	ExecutionCount, StarCount, RatingCount                                                             int
	Rating                                                                                             *float64
}

// Create makes a skill and gives its path.
func Create(t *testing.T, p *client.Person, name string, members ...string) string {
	t.Helper()
	body := map[string]any{"name": name, "promptTemplate": prompt}
	for i := 0; i+1 < len(members); i += 2 {
		body[members[i]] = members[i+1]
	}
	return "/skills/" + p.In(t).Do("POST", "/skills", body).Want(201).String("id")
}

// Publish makes a skill public.
func Publish(t *testing.T, p *client.Person, path string) {
	p.In(t).Do("POST", path+"/publish", nil).Want(200)
}
