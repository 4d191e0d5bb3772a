package settings

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// pixel is a PNG of one pixel.
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func newStack(t *testing.T) *stack.Stack {
	s := stack.New(t)
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*)::int from private.installation where key = 'api_url'") == 1
	}, waiting, tick)
	return s
}

func TestSettingsAreKeptByKey(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	put := func(key string, value any) client.Response {
		return anna.Do("PUT", "/settings/"+key, map[string]any{"value": value})
	}
	all := func() map[string]any { return client.JSON[map[string]any](anna.Get("/settings").Want(200)) }

	require.Equal(t, map[string]any{"theme": "dark", "ai_model": "claude", "timezone": "UTC", "profile.timezone": "UTC", "profile.firstName": "Anna", "profile.lastName": "Test",
		"profile.company": "", "profile.role": "user", "profile.useGravatar": false, "profile.email": anna.Email, "profile.emailVerified": false, "profile.avatarUrl": ""}, all())
	anna.Get("/settings/theme").Problem(404, "NOT_FOUND")
	first := put("theme", "light").Want(200)
	require.Equal(t, "theme", first.String("settingsKey"))
	require.Equal(t, "light", first.String("settingsValue"))
	require.Equal(t, anna.ID, first.String("userId"))
	again := put("theme", "light").Want(200)
	require.Equal(t, string(first.Body), string(again.Body), "a repeated save changes nothing")
	require.Equal(t, first.String("id"), put("theme", "dark").Want(200).String("id"))
	require.Equal(t, "dark", anna.Get("/settings/theme").Want(200).String("settingsValue"))
	for _, value := range []any{"text", "", 5.5, 0.0, false, []any{"a", "b"}, []any{}, map[string]any{"a": []any{1.0, nil}}, strings.Repeat("x", 65000)} {
		require.Equal(t, value, put("any.key_1", value).Want(200).Value("settingsValue"))
		require.Equal(t, value, all()["any.key_1"])
	}
	require.Equal(t, "dark", client.JSON[map[string]any](stan.Get("/settings").Want(200))["theme"])
	stan.Get("/settings/any.key_1").Problem(404, "NOT_FOUND")

	for _, c := range []struct {
		key   string
		value any
		field string
	}{
		{"theme", "blue", "theme"}, {"theme", true, "theme"}, {"ai_model", "gpt5", "ai_model"}, {"theme", nil, "value"}, {"other", nil, "value"},
		{"other", []any{"a", 1}, "other"}, {"other", strings.Repeat("x", 65536), "other"}, {"timezone", "Nowhere", "timezone"}, {"profile.role", "owner", "profile.role"},
		{"profile.firstName", "", "profile.firstName"}, {"profile.useGravatar", "x", "profile.useGravatar"}, {"profile.timezone", "Nowhere", "profile.timezone"},
		{"profile.email", "nobody", "profile.email"}, {"profile.emailVerified", "x", "profile.emailVerified"}, {"profile.avatarUrl", "https://example.com/a.png", "profile.avatarUrl"},
		{"profile.avatarUrl", 5, "profile.avatarUrl"}, {"billing.city", 5, "billing.city"},
		{"a..b", 1, "key"}, {".a", 1, "key"}, {"a-b", 1, "key"}, {"a%20b", 1, "key"}, {"%C3%A9", 1, "key"}, {strings.Repeat("k", 256), 1, "key"},
	} {
		put(c.key, c.value).Problem(400, "VALIDATION_ERROR").Field(c.field)
	}
	anna.Do("PUT", "/settings/other", map[string]any{}).Problem(400, "VALIDATION_ERROR").Field("value")
	put(strings.Repeat("k", 255), 1).Want(200)

	anna.Do("DELETE", "/settings/any.key_1", nil).Want(204)
	anna.Do("DELETE", "/settings/any.key_1", nil).Problem(404, "NOT_FOUND")
	put("profile.nickname", "Ann").Want(200)
	put("profile.company", "Kijko").Want(200)
	anna.Do("DELETE", "/settings", nil).Want(204)
	after := all()
	require.Equal(t, "Ann", after["profile.nickname"], "the profile's stay")
	require.Equal(t, "Kijko", after["profile.company"])
	require.NotContains(t, after, strings.Repeat("k", 255))
	require.Equal(t, "dark", after["theme"])
}

func TestSettingsOfTheProfileAreTheProfile(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	put := func(key string, value any) client.Response {
		return anna.Do("PATCH", "/settings/"+key, map[string]any{"value": value}).Want(200)
	}
	require.Equal(t, "Ann", put("profile.firstName", " Ann ").String("settingsValue"))
	put("profile.role", "developer")
	put("timezone", "Europe/Paris")
	put("profile.useGravatar", true)
	require.Equal(t, false, put("profile.emailVerified", true).Value("settingsValue"), "taken and ignored")
	profile := anna.Get("/profile").Want(200)
	require.Equal(t, "Ann", profile.String("firstName"))
	require.Equal(t, "developer", profile.String("role"))
	require.Equal(t, "Europe/Paris", profile.String("timezone"))
	require.Equal(t, "Europe/Paris", anna.Get("/settings/profile.timezone").Want(200).String("settingsValue"))
	require.Equal(t, anna.Get("/settings/profile.role").String("id"), anna.Get("/settings/profile.role").String("id"))
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from public.user_settings"), "nothing is stored twice")

	stored := put("profile.avatarUrl", "data:image/png;base64,"+pixel).String("settingsValue")
	require.Regexp(t, `^http://kijko\.test/api/v1/pictures/[0-9a-f]{64}$`, stored)
	require.Equal(t, stored, anna.Get("/profile").String("avatarUrl"))
	put("profile.avatarUrl", stored) // written back as it was read
	anna.Do("PUT", "/settings/profile.avatarUrl", map[string]any{"value": "data:image/png;base64,AAAA"}).Problem(400, "INVALID_FILE_TYPE").Field("profile.avatarUrl")
	anna.Do("PUT", "/settings/profile.avatarUrl", map[string]any{"value": "data:image/png;base64," + base64.StdEncoding.EncodeToString(make([]byte, 2<<20+1))}).
		Problem(400, "FILE_TOO_LARGE").Field("profile.avatarUrl")
	require.Equal(t, "", put("profile.avatarUrl", "").String("settingsValue"))
	require.Nil(t, anna.Get("/profile").Value("avatarUrl"))
	require.Equal(t, "Utrecht", put("billing.city", "Utrecht").String("settingsValue"))
	anna.Get("/settings/billing.city").Problem(404, "NOT_FOUND")
}

func TestSeveralSettingsAreWrittenTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	anna := s.SignUp("Anna")
	all := anna.Do("PUT", "/settings", map[string]any{"theme": "light", "a.b": []any{"x"}, "profile.lastName": "Vos", "profile.avatarUrl": "data:image/png;base64," + pixel,
		"billing.country": "NL"}).Want(200)
	values := client.JSON[map[string]any](all)
	require.Equal(t, "light", values["theme"])
	require.Equal(t, "Vos", values["profile.lastName"])
	require.Contains(t, values["profile.avatarUrl"], "/pictures/")
	require.NotContains(t, values, "billing.country")
	for _, bad := range []map[string]any{{"theme": "dark", "zz": nil}, {"theme": "dark", "profile.role": "x"}, {"theme": "dark", "z z": 1}} {
		r := anna.Do("PATCH", "/settings", bad)
		r.Problem(400, "VALIDATION_ERROR")
	}
	anna.Do("PUT", "/settings", map[string]any{"theme": "dark", "zz": nil}).Problem(400, "VALIDATION_ERROR").Field("zz")
	anna.Do("PUT", "/settings", []any{}).Problem(400, "VALIDATION_ERROR")
	require.Equal(t, "light", anna.Get("/settings/theme").String("settingsValue"))

	many := map[string]any{}
	for i := range 198 {
		many[fmt.Sprintf("key_%d", i)] = i
	}
	anna.Do("PUT", "/settings", many).Want(200) // with theme and a.b 200
	anna.Do("PUT", "/settings/one_more", map[string]any{"value": 1}).Problem(409, "TOO_MANY_SETTINGS")
	anna.Do("PUT", "/settings", map[string]any{"theme": "dark", "one_more": 1}).Problem(409, "TOO_MANY_SETTINGS")
	require.Equal(t, "light", anna.Get("/settings/theme").String("settingsValue"))
	anna.Do("PUT", "/settings/theme", map[string]any{"value": "dark"}).Want(200)
	anna.Do("PUT", "/settings/profile.company", map[string]any{"value": "Kijko"}).Want(200)
}
