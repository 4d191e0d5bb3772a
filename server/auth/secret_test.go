package auth

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewSecret(t *testing.T) {
	plain, hash, err := NewSecret()
	require.NoError(t, err)
	require.Regexp(t, `^[A-Za-z0-9_-]{43}$`, plain)
	want := sha256.Sum256([]byte(plain))
	require.Equal(t, want[:], hash)
	require.Equal(t, hash, HashSecret(plain))
	other, _, err := NewSecret()
	require.NoError(t, err)
	require.NotEqual(t, plain, other)
}

func TestCookies(t *testing.T) {
	first, second := []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32))
	cookies, err := NewCookies(first)
	require.NoError(t, err)
	value := cookies.Sign(session)

	t.Run("OwnValueNamesTheSession", func(t *testing.T) {
		id, ok := cookies.Verify(value)
		require.True(t, ok)
		require.Equal(t, session, id)
		require.NotContains(t, value, ";")
		require.Regexp(t, `^[0-9a-f-]{36}\.[A-Za-z0-9_-]{43}$`, value)
	})

	t.Run("RotatedKeyStillVerifies", func(t *testing.T) {
		rotated, err := NewCookies(second, first)
		require.NoError(t, err)
		_, ok := rotated.Verify(value)
		require.True(t, ok)
		require.NotEqual(t, value, rotated.Sign(session))
		gone, err := NewCookies(second)
		require.NoError(t, err)
		_, ok = gone.Verify(value)
		require.False(t, ok)
	})

	_, signature, _ := strings.Cut(value, ".")
	for name, forged := range map[string]string{
		"Empty": "", "OnlyTheID": session, "NoSignature": session + ".", "OtherSession": ann + "." + signature,
		"OtherSpelling": strings.ToUpper(session) + "." + signature, "Cut": value[:len(value)-1], "Longer": value + "A",
		"NotBase64": session + ".***", "NoUUID": "x." + signature, "TwoDots": value + ".",
		// 43 characters carry 258 bits: the last two must be zero, or one value would have four
		// spellings.
		"OtherLastCharacter": value[:len(value)-1] + nextCharacter(value[len(value)-1]),
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := cookies.Verify(forged)
			require.False(t, ok)
		})
	}

	t.Run("WeakKeysAreRefused", func(t *testing.T) {
		_, err := NewCookies()
		require.Error(t, err)
		_, err = NewCookies(first, []byte("short"))
		require.ErrorContains(t, err, "needs 32")
	})
}

// nextCharacter changes only the lowest bits of a base64url character.
func nextCharacter(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)+1])
}
