package auth

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"
)

func TestHasher(t *testing.T) {
	ctx := t.Context()
	h, err := NewHasher(0)
	require.NoError(t, err)

	t.Run("RightPasswordMatchesAndOthersDoNot", func(t *testing.T) {
		phc, err := h.Hash(ctx, "Pässwort 1")
		require.NoError(t, err)
		require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, phc)
		ok, stale, err := h.Check(ctx, phc, "Pässwort 1")
		require.NoError(t, err)
		require.True(t, ok)
		require.False(t, stale)
		for _, wrong := range []string{"", "pässwort 1", "Pässwort 1 ", "Pässwort"} {
			ok, stale, err := h.Check(ctx, phc, wrong)
			require.NoError(t, err)
			require.False(t, ok)
			require.False(t, stale)
		}
		again, err := h.Hash(ctx, "Pässwort 1")
		require.NoError(t, err)
		require.NotEqual(t, phc, again, "each hash has its own salt")
	})

	t.Run("KeyboardsThatDecomposeLettersFindTheSamePassword", func(t *testing.T) {
		phc, err := h.Hash(ctx, "P\u00e4ssword")
		require.NoError(t, err)
		ok, _, err := h.Check(ctx, phc, "Pa\u0308ssword")
		require.NoError(t, err)
		require.True(t, ok)
	})

	t.Run("UnknownAccountIsNeverOkAndDoesTheSameWork", func(t *testing.T) {
		ok, stale, err := h.Check(ctx, "", "anything")
		require.NoError(t, err)
		require.False(t, ok)
		require.False(t, stale)
		cost, salt, key, err := decodePHC(h.decoy)
		require.NoError(t, err)
		require.Equal(t, current, cost)
		require.Len(t, salt, saltBytes)
		require.Len(t, key, keyBytes)

		// Not even the password of the decoy opens an account that has none.
		h, err := NewHasher(1)
		require.NoError(t, err)
		h.decoy, err = h.Hash(ctx, "anything")
		require.NoError(t, err)
		ok, stale, err = h.Check(ctx, "", "anything")
		require.NoError(t, err)
		require.False(t, ok)
		require.False(t, stale)
	})

	t.Run("OlderParametersAreStale", func(t *testing.T) {
		old := cost{8 << 10, 1, 1}
		salt := []byte("0123456789abcdef")
		phc := old.encode(salt, old.key("secret", salt, 32))
		ok, stale, err := h.Check(ctx, phc, "secret")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, stale)
		ok, stale, err = h.Check(ctx, phc, "wrong")
		require.NoError(t, err)
		require.False(t, ok)
		require.False(t, stale, "a wrong password is not hashed anew")
		short := current.encode(salt, argon2.IDKey([]byte("secret"), salt, current.time, current.memory, current.lanes, 16))
		_, stale, err = h.Check(ctx, short, "secret")
		require.NoError(t, err)
		require.True(t, stale)
	})

	t.Run("CorruptOrExpensiveHashesAreErrors", func(t *testing.T) {
		tail := "$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg"
		for _, phc := range []string{
			"plain", "$2b$10$abcdefghijklmnopqrstuv", "$argon2i$v=19$m=8,t=1,p=1" + tail, "$argon2id$v=16$m=8,t=1,p=1" + tail,
			"$argon2id$v=19$m=8,t=1" + tail, "$argon2id$v=19$t=1,m=8,p=1" + tail, "$argon2id$v=19$m=x,t=1,p=1" + tail,
			"$argon2id$v=19$m=4194304,t=1,p=1" + tail, "$argon2id$v=19$m=8,t=1000,p=1" + tail, "$argon2id$v=19$m=8,t=1,p=200" + tail,
			"$argon2id$v=19$m=8,t=0,p=1" + tail, "$argon2id$v=19$m=8,t=1,p=1$MDEy$MDEyMzQ1Njc4OWFiY2RlZg",
			"$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$", "$argon2id$v=19$m=8,t=1,p=1$***$MDEyMzQ1Njc4OWFiY2RlZg",
			"$argon2id$v=19$m=8,t=1,p=1" + tail + "$x", "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + strings.Repeat("A", 200),
		} {
			ok, _, err := h.Check(ctx, phc, "x")
			require.ErrorIs(t, err, errHash, phc)
			require.False(t, ok)
		}
	})

	t.Run("FloodIsRefusedInsteadOfQueuedWithoutEnd", func(t *testing.T) {
		h, err := NewHasher(1)
		require.NoError(t, err)
		h.slots <- struct{}{} // one hash is being computed
		waiting, stop := context.WithCancel(ctx)
		results := make(chan error, waitingPerSlot)
		for range waitingPerSlot {
			go func() {
				_, _, err := h.Check(waiting, "", "x")
				results <- err
			}()
		}
		require.Eventually(t, func() bool { return h.waiting.Load() == waitingPerSlot }, 5*time.Second, time.Millisecond)
		_, err = h.Hash(ctx, "x")
		require.ErrorIs(t, err, ErrBusy)
		_, _, err = h.Check(ctx, "", "x")
		require.ErrorIs(t, err, ErrBusy)
		stop()
		for range waitingPerSlot {
			require.ErrorIs(t, <-results, context.Canceled)
		}
		require.Zero(t, h.waiting.Load())
		<-h.slots
		_, err = h.Hash(ctx, "x")
		require.NoError(t, err, "the queue has emptied")
		require.Empty(t, h.slots)
	})

	t.Run("EndedRequestHashesNothing", func(t *testing.T) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := h.Hash(ended, "x")
		require.ErrorIs(t, err, context.Canceled)
		_, _, err = h.Check(ended, "", "x")
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestPasswordPolicy(t *testing.T) {
	for _, c := range []struct {
		name     string
		policy   PasswordPolicy
		password string
		missing  []string
	}{
		{"SignUpTakesEightOfAnything", SignUpPolicy(), "aaaaaaaa", nil},
		{"SignUpRefusesSeven", SignUpPolicy(), "aaaaaaa", []string{"length"}},
		{"CharactersAreCountedNotBytes", SignUpPolicy(), "ääääääää", nil},
		{"SevenCharactersOfManyBytes", SignUpPolicy(), "äääääää", []string{"length"}},
		{"DecomposedLettersCountOnce", SignUpPolicy(), strings.Repeat("a\u0308", 7), []string{"length"}},
		{"LongestAllowed", SignUpPolicy(), strings.Repeat("a", 128), nil},
		{"TooLong", SignUpPolicy(), strings.Repeat("a", 129), []string{"length"}},
		{"DefaultAccepts", DefaultPolicy(), "Abcdefg1", nil},
		{"DefaultNamesAllThatLacks", DefaultPolicy(), "-------", []string{"length", "uppercase", "lowercase", "number"}},
		{"OtherScriptsCount", DefaultPolicy(), "Жжжжжжж٣", nil},
		{"SymbolWanted", PasswordPolicy{Symbol: true}, "Abc 123", []string{"symbol"}},
		{"SymbolFound", PasswordPolicy{Symbol: true}, "Abc€123", nil},
		{"ZeroPolicyTakesAnything", PasswordPolicy{}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.missing, c.policy.Missing(c.password)) })
	}
}
