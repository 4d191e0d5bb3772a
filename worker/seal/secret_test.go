package seal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/seal"
)

func TestSecretsAreOpenedInPlace(t *testing.T) {
	t.Parallel()
	box, err := seal.New([]byte(strings.Repeat("k", seal.KeySize)))
	require.NoError(t, err)
	plain, sealed, err := box.NewSecret(seal.ReflexWebhook, 16)
	require.NoError(t, err)
	require.Regexp(t, "^whsec_[0-9a-f]{32}$", plain)
	other, err := box.Seal("another purpose", []byte("x"))
	require.NoError(t, err)
	quoted, err := box.Seal(seal.ReflexWebhook, []byte(`a "b" \ c`))
	require.NoError(t, err)
	for body, want := range map[string]string{
		`{"a": 1}`:                     `{"a": 1}`,
		`{"secret": "` + sealed + `"}`: `{"secret": "` + plain + `"}`,
		`{"secret": "` + quoted + `"}`: `{"secret": "a \"b\" \\ c"}`,
		`[{"secret": "` + sealed + `"}, {"secret": "` + sealed + `"}]`: `[{"secret": "` + plain + `"}, {"secret": "` + plain + `"}]`,
		`{"secret": "` + other + `"}`:                                  `{"secret": "` + other + `"}`,
		`{"secret": "v1."}`:                                            `{"secret": "v1."}`,
		`{"text": "\"secret\": \"` + sealed + `\""}`:                   `{"text": "\"secret\": \"` + sealed + `\""}`,
	} {
		require.Equal(t, want, string(box.Reveal([]byte(body), "secret", seal.ReflexWebhook)))
	}
	var none *seal.Box
	require.Equal(t, `{"secret": "`+sealed+`"}`, string(none.Reveal([]byte(`{"secret": "`+sealed+`"}`), "secret", seal.ReflexWebhook)))
}

// TestSignaturesOfProviders has the examples of GitHub's and Bitbucket's documentation.
func TestSignaturesOfProviders(t *testing.T) {
	t.Parallel()
	secret := []byte("It's a Secret to Everybody")
	for body, header := range map[string]string{
		"Hello, World!": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
		"Hello World!":  "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
	} {
		require.True(t, seal.IsSigned(secret, seal.ReadSignature(header), []byte(body)), header)
		require.True(t, seal.IsSigned(secret, seal.ReadSignature(header[7:]), []byte(body)), header)
		require.False(t, seal.IsSigned(secret, seal.ReadSignature(header), []byte(body+" ")))
		require.False(t, seal.IsSigned(secret[1:], seal.ReadSignature(header), []byte(body)))
	}
	for _, header := range []string{"", "sha256=", "sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "sha256=75", "sha256=" + strings.Repeat("x", 64)} {
		require.Nil(t, seal.ReadSignature(header), header)
		require.False(t, seal.IsSigned(secret, seal.ReadSignature(header), nil), header)
	}
}
