package identity

import (
	"context"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"kijko/server/auth/authtest"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The lists in the database are compared with Unicode's own tables, character by character. Ideographs, Hangul and private use are left
// out: they are most of Unicode, and have neither case nor decompositions into ASCII.
func TestAddressesAreCheckedByUnicodesTables(t *testing.T) {
	db := testdb.New(t)
	rows, err := db.Pool("postgres").Query(context.Background(), `select n, private.has_format_characters(chr(n)), private.without_blanks(chr(n)) = '',
		coalesce(private.clean_email('a' || chr(n) || '@example.nl'), '') from generate_series(1, 918015) n
		where n not between 13312 and 40959 and n not between 44032 and 63743 and n not between 131072 and 917503`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var r rune
		var format, blank bool
		var address string
		require.NoError(t, rows.Scan(&r, &format, &blank, &address))
		require.Equal(t, unicode.Is(unicode.Cf, r), format, "%U: category Cf", r)
		if unicode.IsSpace(r) {
			require.True(t, blank, "%U: a blank", r)
		}
		if unicode.IsSpace(r) || unicode.IsControl(r) || format {
			require.Empty(t, address, "%U: refused in an address", r)
		}
		normal := []rune(norm.NFC.String(string(r)))
		if r >= 0x80 && (unicode.ToLower(r) < 0x80 || normal[0] < 0x80) {
			require.Empty(t, address, "%U: becomes another address", r)
		}
		if address != "" && r >= 0x80 {
			for _, c := range []rune(address)[1 : len([]rune(address))-len("@example.nl")] {
				require.GreaterOrEqual(t, c, rune(0x80), "%U: letters outside ASCII stay outside", r)
			}
		}
	}
	require.NoError(t, rows.Err())
}

func TestAddressThatLooksLikeAnotherOpensNoAccount(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option)
	token := func(subject, email string) *client.Client {
		return s.As(provider.Token(t, authtest.Request{Subject: subject, Claims: ssoClaims(email)}))
	}
	for name, addresses := range map[string][2]string{
		"KelvinSignOfAnUnverifiedAccount": {"kim-x@example.nl", "\u212aim-x@example.nl"},
		"DottedCapitalI":                  {"ida-x@example.nl", "\u0130da-x@example.nl"},
		"KelvinSignInTheDomain":           {"ann@kijko-x.nl", "ann@\u212aijko-x.nl"},
		"ZeroWidthSpaceInside":            {"zoe@example.nl", "zo\u200be@example.nl"},
		"EmptyLabel":                      {"len@example.nl", "len@example..nl"},
	} {
		t.Run(name, func(t *testing.T) {
			first := s.Do("POST", "/auth/signup", account("email", addresses[0])).Want(201).Tokens()
			token("stranger of "+addresses[0], addresses[1]).Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
			s.As(first.AccessToken).Get("/auth/me").Want(200)
			s.Do("POST", "/auth/login", client.Object{"email": addresses[0], "password": "Correct-Horse-7"}).Want(200)
			s.Do("POST", "/auth/login", client.Object{"email": addresses[1], "password": "Correct-Horse-7"}).Problem(400, "VALIDATION_ERROR").Field("email")
			s.Do("POST", "/auth/signup", account("email", addresses[1])).Problem(400, "VALIDATION_ERROR").Field("email")
		})
	}
	t.Run("AccountThatAProviderVerified", func(t *testing.T) {
		kate := token("kate", "kate-x@example.nl")
		kate.Get("/auth/me").Want(200)
		token("another kate", "\u212aate-x@example.nl").Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.identities i join public.users u on u.id = i.user_id where u.email = 'kate-x@example.nl'"))
	})
	t.Run("CapitalOutsideASCIIIsAnotherAddress", func(t *testing.T) {
		small := token("small", "ann@éva.nl").Get("/auth/me").Want(200).String("id")
		require.NotEqual(t, small, token("capital", "ann@Éva.nl").Get("/auth/me").Want(200).String("id"))
	})
	t.Run("AnAddressThatNoMailReachesIsRefused", func(t *testing.T) {
		token("unreachable", "éva@example.nl").Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
	})
}

func TestPastedBlanksAreNoPartOfAnAddress(t *testing.T) {
	s := stack.New(t)
	for name, typed := range map[string]string{
		"nbsp": "\u00a0nbsp@example.nl", "bom": "\ufeffbom@example.nl", "zero": "zero@example.nl\u200b", "wide": "\u3000wide@example.nl\u2003",
	} {
		t.Run(name, func(t *testing.T) {
			tokens := s.Do("POST", "/auth/signup", account("email", typed)).Want(201).Tokens()
			require.Equal(t, name+"@example.nl", s.As(tokens.AccessToken).Get("/auth/me").Want(200).String("email"))
			for _, again := range []string{name + "@example.nl", typed, "  " + typed} {
				s.Do("POST", "/auth/login", client.Object{"email": again, "password": "Correct-Horse-7"}).Want(200)
			}
			s.Do("POST", "/auth/signup", account("email", typed)).Problem(409, "EMAIL_TAKEN")
		})
	}
	s.Do("POST", "/auth/signup", account("email", "\ufeffpass@example.nl", "password", "pass@example.nl")).Problem(400, "WEAK_PASSWORD")
	for _, name := range []string{"\u00a0", "\u200b", "A\u202enn", "A\u200bnn", "A\u00adnn"} {
		s.Do("POST", "/auth/signup", account("email", "name@example.nl", "first_name", name)).Problem(400, "VALIDATION_ERROR").Field("first_name")
	}
}

func TestProvidersOddNameKeepsNobodyOut(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option)
	me := s.As(provider.Token(t, authtest.Request{Subject: "odd", Claims: ssoClaims("odd@example.nl", "given_name", "\u202eK\u200bim\u00a0", "family_name", "\u200b")})).
		Get("/auth/me").Want(200)
	require.Equal(t, "Kim", me.String("first_name"))
	require.Empty(t, me.Value("last_name"))
	require.Equal(t, "Kim's workspace", testdb.Value[string](s.DB, "select name from public.organizations where id = $1", me.String("org_id")))
}
