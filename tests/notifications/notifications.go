// Package notifications holds the black-box tests of notifications, and the helpers with which other tests make some.
package notifications

import (
	"kijko/tests/client"
)

// Tell makes notifications with these titles.
func Tell(p *client.Person, titles ...string) (ids []string) {
	for _, title := range titles {
		ids = append(ids, p.Do("POST", "/notifications", map[string]any{"type": "task_completion", "title": title}).Want(201).String("id"))
	}
	return ids
}
