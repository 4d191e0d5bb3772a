package team

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/testdb"
)

// joining is a sign-up with an invitation.
func (f *firm) joining(email, password, token string) client.Response {
	f.t.Helper()
	return f.As("").Do("POST", "/auth/signup", map[string]any{"email": email, "password": password, "first_name": "New", "last_name": "Vos", "invitation_token": token})
}

func (f *firm) rules(set string) {
	f.DB.Exec("update public.security_policies set "+set+" where organization_id = $1", f.anna.OrgID)
}

// Whose first account is one of Anna's organization chooses a password as it demands.
func TestTheTeamsPasswordRulesHoldForWhoJoins(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	f.rules("min_length = 16, require_symbol = true")
	lax := invite(f.anna.Client, "member", "lax@vos.nl")[0].Token
	f.joining("lax@vos.nl", "password", lax).Want(201)

	f.plan("enterprise", 0)
	open := invite(f.anna.Client, "member", "cas@vos.nl", "dee@vos.nl")
	for password, missing := range map[string][]any{"password": {"length", "uppercase", "number", "symbol"}, "Correct-Horse-7": {"length"}, "CorrectHorseStaple7": {"symbol"}} {
		require.Equal(t, missing, f.joining("cas@vos.nl", password, open[0].Token).Problem(400, "WEAK_PASSWORD").Field("password").Value("details.missing"), password)
	}
	f.As("").Get("/team/invitations/lookup?token=" + open[0].Token).Want(200)
	require.Zero(t, testdb.Value[int](f.DB, "select count(*)::integer from public.users where email = 'cas@vos.nl'"), "what is refused uses nothing up")
	f.joining("cas@vos.nl", "Correct-Horse-Staple-7", open[0].Token).Want(201)

	// Who has no invitation there learns nothing of those rules, nor whether a token is one.
	unknown := strings.Repeat("A", len(open[0].Token))
	answers := map[string]client.Response{"none": f.joining("eve@vos.nl", "short", ""), "unknown": f.joining("eve@vos.nl", "short", unknown), "good": f.joining("eve@vos.nl", "short", open[1].Token)}
	for which, r := range answers {
		r.Problem(400, "WEAK_PASSWORD").Field("password")
		require.Equal(t, answers["none"].Value("details"), r.Value("details"), which)
		require.Equal(t, answers["none"].String("detail"), r.String("detail"), which)
	}
	f.joining("eve@vos.nl", "password", unknown).Problem(404, "INVITATION_NOT_FOUND").Field("invitation_token")
	f.anna.Do("DELETE", "/team/invitations/"+open[1].ID, nil).Want(204)
	f.joining("dee@vos.nl", "password", open[1].Token).Problem(409, "INVITATION_EXPIRED").Field("invitation_token")
	f.joining("eve@vos.nl", "password", "").Want(201)
}

// Anna's organization signs in with its identity provider only: an invitation is no way around that.
func TestAnInvitationIsNoWayAroundTheRulesOfSigningIn(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	f.plan("enterprise", 0)
	for rule, code := range map[string]string{"sso_enforced = true": "SSO_REQUIRED", "sso_enforced = false, allow_password = false": "PASSWORD_LOGIN_DISABLED",
		"allow_password = true, ip_mode = 'enforce'": "IP_NOT_ALLOWED"} {
		f.rules("sso_enforced = false, allow_password = true, ip_mode = 'disabled'")
		f.rules(rule)
		email := strings.ToLower(code) + "@vos.nl"
		token := invite(f.anna.Client, "member", email)[0].Token
		f.joining(email, "Correct-Horse-7", token).Problem(403, code).Field("invitation_token")
		require.Zero(t, testdb.Value[int](f.DB, "select count(*)::integer from public.users where email = $1", email), "nothing half-made")
		f.As("").Get("/team/invitations/lookup?token=" + token).Want(200)

		ben := f.SignUp("Ben")
		home := ben.OrgID
		ben.Do("POST", "/team/invitations/accept", map[string]any{"token": invite(f.anna.Client, "member", ben.Email)[0].Token}).Want(200)
		require.Equal(t, home, ben.Get("/auth/me").Want(200).String("org_id"), "he is a member, and his session stays at home")
		ben.Do("POST", "/auth/switch-org", map[string]any{"org_id": f.anna.OrgID}).Problem(403, code)
		tokens := ben.As("").Do("POST", "/auth/refresh", map[string]any{"refresh_token": ben.RefreshToken}).Want(200).Tokens()
		require.Equal(t, home, f.As(tokens.AccessToken).Get("/auth/me").Want(200).String("org_id"))
		f.rules("sso_enforced = false, allow_password = true, ip_mode = 'disabled'")
		ben.Do("POST", "/auth/switch-org", map[string]any{"org_id": f.anna.OrgID}).Want(200)
	}
}
