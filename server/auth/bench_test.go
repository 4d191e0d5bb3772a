package auth

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
)

// A cached token must cost under 5 µs and no heap allocation, because every
// request pays it.
func BenchmarkVerifyCached(b *testing.B) {
	h := setup(b)
	keycloak := with(h.keycloakClaims(), "realm_access", map[string]any{"roles": []string{strings.Repeat("role ", 150)}})
	for name, raw := range map[string]string{
		"Builtin":  h.signBuiltin(b, h.builtinClaims()),
		"Keycloak": h.provider.Sign(b, keycloak),
	} {
		b.Run(name, func(b *testing.B) {
			_, err := h.Verify(b.Context(), raw)
			require.NoError(b, err)
			b.ReportMetric(float64(len(raw)), "tokenbytes")
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Verify(ctx, raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyCachedParallel(b *testing.B) {
	h := setup(b)
	raw := h.signBuiltin(b, h.builtinClaims())
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := h.Verify(ctx, raw); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkVerifyFirstTime(b *testing.B) {
	h := setup(b)
	ctx := b.Context()
	for name, raw := range map[string]string{
		"BuiltinES256":  h.signBuiltin(b, h.builtinClaims()),
		"KeycloakRS256": h.provider.Sign(b, h.keycloakClaims()),
		"SupabaseHS256": hs256(b, []byte(secret), h.supabaseClaims()),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.verify(ctx, raw, h.now(), false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The cost of a flood of bad tokens: the refusal before cryptography.
func BenchmarkRefuseUnknownIssuer(b *testing.B) {
	h := setup(b)
	raw := h.signBuiltin(b, with(h.builtinClaims(), "iss", "https://evil.example"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Verify(b.Context(), raw); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkMint(b *testing.B) {
	iss := newIssuer(b, authtest.NewClock())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := iss.Mint(Access{UserID: ann, SessionID: session, OrgID: org, Email: "ann@example.nl"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckPassword(b *testing.B) {
	h, err := NewHasher(0)
	require.NoError(b, err)
	phc, err := h.Hash(b.Context(), "a password")
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if ok, _, err := h.Check(b.Context(), phc, "a password"); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClientAddr(b *testing.B) {
	trusted, err := ParseProxies("10.0.0.0/8")
	require.NoError(b, err)
	peer := netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		ClientAddr(peer, "1.1.1.1, 203.0.113.9, 10.0.0.2", trusted)
	}
}

func TestCachedVerificationAllocatesNothing(t *testing.T) {
	h := setup(t)
	raw := h.signBuiltin(t, h.builtinClaims())
	ctx := t.Context()
	_, err := h.Verify(ctx, raw)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = h.Verify(ctx, raw) }))
}
