package team

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
)

// The input that a request may have, over HTTP. tests/pgtap/team_managing.sql checks which role may send it.
func TestEachRuleOfARequestIsNamed(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	ben := f.hire("Ben", "member")
	path := f.membership(ben)
	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprintf("p%d@vos.nl", i)
	}
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		code, field  string
	}{
		{"PATCH", "/team", map[string]any{}, 400, "VALIDATION_ERROR", "name"},
		{"PATCH", "/team", map[string]any{"name": 5}, 400, "VALIDATION_ERROR", "name"},
		{"PATCH", "/team", map[string]any{"name": "\u00a0 "}, 400, "VALIDATION_ERROR", "name"},
		{"PUT", "/team", map[string]any{"name": strings.Repeat("x", 101)}, 400, "VALIDATION_ERROR", "name"},
		{"PATCH", "/team", map[string]any{"name": "a\u202eb"}, 400, "VALIDATION_ERROR", "name"},
		{"PATCH", path, map[string]any{}, 400, "VALIDATION_ERROR", "role"},
		{"PATCH", path, map[string]any{"role": "editor"}, 400, "VALIDATION_ERROR", "role"},
		{"PATCH", path, map[string]any{"role": nil}, 400, "VALIDATION_ERROR", "role"},
		{"PATCH", path, map[string]any{"status": "pending"}, 400, "VALIDATION_ERROR", "status"},
		{"PUT", path, map[string]any{"role": "viewer", "status": "active"}, 400, "VALIDATION_ERROR", "status"},
		{"PATCH", f.membership(f.anna), map[string]any{"role": "admin"}, 403, "CANNOT_MANAGE_SELF", ""},
		{"DELETE", f.membership(f.anna), nil, 403, "CANNOT_MANAGE_SELF", ""},
		{"PATCH", path, map[string]any{"status": "active"}, 409, "ALREADY_ACTIVE", ""},
		{"POST", path + "/reactivate", nil, 409, "ALREADY_ACTIVE", ""},
		{"PATCH", "/team/members/" + ben.ID, map[string]any{"role": "viewer"}, 404, "NOT_FOUND", ""}, // the person's id is not the membership's
		{"DELETE", "/team/members/" + uuid.NewString(), nil, 404, "NOT_FOUND", ""},
		{"POST", "/team/members/x/deactivate", nil, 404, "NOT_FOUND", ""},
		{"POST", "/team/invitations", map[string]any{"role": "viewer"}, 400, "VALIDATION_ERROR", "emails"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{}, "role": "viewer"}, 400, "VALIDATION_ERROR", "emails"},
		{"POST", "/team/invitations", map[string]any{"emails": many, "role": "viewer"}, 400, "VALIDATION_ERROR", "emails"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{"a@vos.nl", "b"}, "role": "viewer"}, 400, "VALIDATION_ERROR", "emails"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{"a@vos.nl"}}, 400, "VALIDATION_ERROR", "role"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{"a@vos.nl"}, "role": "owner"}, 400, "VALIDATION_ERROR", "role"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{"a@vos.nl"}, "role": "viewer", "message": strings.Repeat("x", 501)}, 400, "VALIDATION_ERROR", "message"},
		{"POST", "/team/invitations", map[string]any{"emails": []string{strings.ToUpper(ben.Email)}, "role": "viewer"}, 409, "ALREADY_MEMBER", "emails"},
		{"POST", "/team/invitations/" + uuid.NewString() + "/resend", nil, 404, "NOT_FOUND", ""},
		{"DELETE", "/team/invitations/x", nil, 404, "NOT_FOUND", ""},
		{"POST", "/team/invitations/accept", map[string]any{}, 400, "VALIDATION_ERROR", "token"},
		{"POST", "/team/invitations/accept", map[string]any{"token": ""}, 400, "VALIDATION_ERROR", "token"},
		{"POST", "/team/leave", nil, 409, "OWNER_REQUIRED", ""},
	} {
		f.anna.In(t).Do(c.method, c.path, c.body).Problem(c.status, c.code).Field(c.field)
	}
	invalid := f.anna.Do("POST", "/team/invitations", map[string]any{"emails": []string{"a@vos.nl", "b", "c@d"}, "role": "viewer"}).Problem(400, "VALIDATION_ERROR")
	require.Equal(t, []any{"b", "c@d"}, invalid.Value("details.invalid"))
	require.Equal(t, 1, len(client.JSON[[]invitation](f.anna.Do("POST", "/team/invitations", map[string]any{"emails": []string{"d@vos.nl", " D@VOS.nl"}, "role": "viewer", "message": ""}).Want(201))))
	require.Equal(t, []any{"d@vos.nl"}, f.anna.Do("POST", "/team/invitations", map[string]any{"emails": []string{"e@vos.nl", "d@vos.nl"}, "role": "viewer"}).
		Problem(409, "INVITATION_PENDING").Value("details.emails"))
	require.Equal(t, "Vos", f.anna.Do("PUT", "/team", map[string]any{"name": " Vos "}).Want(200).String("name"))
	require.Equal(t, "viewer", f.anna.Do("PUT", path, map[string]any{"role": "viewer"}).Want(200).String("role"))

	// Ids of other organizations and guessed ones get the same answer, and so do all invalid tokens.
	stan := f.SignUp("Stan")
	f.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", stan.OrgID)
	theirs := stan.Do(http.MethodDelete, path, nil).Problem(404, "NOT_FOUND")
	guessed := stan.Do(http.MethodDelete, "/team/members/"+uuid.NewString(), nil).Problem(404, "NOT_FOUND")
	require.Equal(t, len(guessed.Body), len(theirs.Body))
}
