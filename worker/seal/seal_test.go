package seal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/seal"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, seal.KeySize) }

func box(t *testing.T, keys ...[]byte) *seal.Box {
	t.Helper()
	b, err := seal.New(keys...)
	require.NoError(t, err)
	return b
}

func TestSeal(t *testing.T) {
	t.Run("WhatWasSealedOpens", func(t *testing.T) {
		b := box(t, key(1))
		for _, plain := range []string{"", "whsec_1", strings.Repeat("x", 10_000)} {
			sealed, err := b.Seal("webhook", []byte(plain))
			require.NoError(t, err)
			require.NotContains(t, sealed, "whsec_1")
			got, err := b.Open("webhook", sealed)
			require.NoError(t, err)
			require.Equal(t, plain, string(got))
		}
	})
	t.Run("EqualTextsLookDifferent", func(t *testing.T) {
		b := box(t, key(1))
		one, err := b.Seal("p", []byte("same"))
		require.NoError(t, err)
		two, err := b.Seal("p", []byte("same"))
		require.NoError(t, err)
		require.NotEqual(t, one, two)
	})
	t.Run("AnOldKeyStillOpensAfterRotation", func(t *testing.T) {
		old := box(t, key(1))
		sealed, err := old.Seal("p", []byte("secret"))
		require.NoError(t, err)
		rotated := box(t, key(2), key(1))
		got, err := rotated.Open("p", sealed)
		require.NoError(t, err)
		require.Equal(t, "secret", string(got))
		require.True(t, old.IsCurrent(sealed))
		require.False(t, rotated.IsCurrent(sealed))
		_, err = box(t, key(2)).Open("p", sealed)
		require.ErrorIs(t, err, seal.ErrOpen)
	})
	t.Run("AnotherPurposeOpensNothing", func(t *testing.T) {
		b := box(t, key(1))
		sealed, err := b.Seal("webhook", []byte("secret"))
		require.NoError(t, err)
		_, err = b.Open("oauth", sealed)
		require.ErrorIs(t, err, seal.ErrOpen)
	})
	t.Run("EveryDamageIsNoticed", func(t *testing.T) {
		b := box(t, key(1))
		sealed, err := b.Seal("p", []byte("secret"))
		require.NoError(t, err)
		parts := strings.Split(sealed, ".")
		for _, bad := range []string{"", "x", "v2." + parts[1] + "." + parts[2], "v1.00000000." + parts[2], "v1." + parts[1] + ".!",
			"v1." + parts[1] + ".AAAA", "v1." + parts[1] + "." + "AAAA" + parts[2][4:], sealed[:len(sealed)-4]} {
			_, err := b.Open("p", bad)
			require.ErrorIs(t, err, seal.ErrOpen, bad)
		}
	})
}

func TestNewRefusesBadKeys(t *testing.T) {
	_, err := seal.New()
	require.Error(t, err)
	_, err = seal.New(key(1), []byte("short"))
	require.ErrorContains(t, err, "key 2")
}

func TestDigests(t *testing.T) {
	digests := func(b *seal.Box, purpose, text string) [][]byte {
		sums, err := b.Digests(purpose, []byte(text))
		require.NoError(t, err)
		return sums
	}
	old, rotated := box(t, key(1)), box(t, key(2), key(1))
	require.Len(t, digests(old, "codes", "A1B2")[0], 32)
	require.Equal(t, digests(old, "codes", "A1B2"), digests(old, "codes", "A1B2"), "the same text has the same digest")
	require.NotEqual(t, digests(old, "codes", "A1B2"), digests(old, "links", "A1B2"), "under one purpose")
	require.NotEqual(t, digests(old, "codes", "A1B2"), digests(old, "codes", "A1B3"))
	require.Equal(t, digests(old, "codes", "A1B2")[0], digests(rotated, "codes", "A1B2")[1], "an old key still recognizes it")
	require.NotEqual(t, digests(rotated, "codes", "A1B2")[0], digests(rotated, "codes", "A1B2")[1])
}
