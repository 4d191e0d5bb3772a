package security

import (
	"bytes"
	"encoding/base64"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"kijko/worker/seal"
)

func codes(t *testing.T, keys ...string) *Codes {
	t.Helper()
	raw := make([][]byte, len(keys))
	for i, key := range keys {
		raw[i] = bytes.Repeat([]byte(key), seal.KeySize)
	}
	box, err := seal.New(raw...)
	require.NoError(t, err)
	return NewCodes(box)
}

func TestTheAddressIsWhatAppsRead(t *testing.T) {
	for email, label := range map[string]string{
		"ann@example.nl":                    "ann%40example.nl",
		"ann+kijko&co=x@example.nl":         "ann%2Bkijko%26co%3Dx%40example.nl",
		"a:b'c%41@example.nl":               "a%3Ab%27c%2541%40example.nl",
		"grüße@müller.example":              "gr%C3%BC%C3%9Fe%40m%C3%BCller.example",
		strings.Repeat("a", 254-3) + "@b.c": strings.Repeat("a", 251) + "%40b.c",
	} {
		want := "otpauth://totp/Kijko:" + label + "?secret=ABCDEFGHIJKLMNOPQRSTUVWXYZ234567&issuer=Kijko&algorithm=SHA1&digits=6&period=30"
		require.Equal(t, want, address(email, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
		url, err := picture(want)
		require.NoError(t, err)
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(url, "data:image/png;base64,"))
		require.NoError(t, err)
		p, err := png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		require.GreaterOrEqual(t, p.Bounds().Dx(), 200)
		// The margin of four modules of eight pixels is white, or readers miss the code on a
		// dark page.
		for i := range 32 {
			r, _, _, _ := p.At(i, p.Bounds().Dy()/2).RGBA()
			require.Equal(t, uint32(0xffff), r)
		}
	}
	require.Equal(t, "ABCD EFGH IJ", grouped("ABCDEFGHIJ"))
}

func TestVerify(t *testing.T) {
	c := codes(t, "k")
	sealed, err := c.NewSecret("ann")
	require.NoError(t, err)
	secret, err := c.Secret("ann", sealed)
	require.NoError(t, err)
	require.Len(t, secret, 32)
	now := time.Unix(1_800_000_015, 0)
	at := func(offset int) string {
		code, err := totp.GenerateCode(secret, now.Add(time.Duration(offset)*time.Second))
		require.NoError(t, err)
		return code
	}

	t.Run("TellsTheStepThatMatched", func(t *testing.T) {
		for offset, step := range map[int]int64{-30: 59_999_999, -16: 59_999_999, -15: 60_000_000, 0: 60_000_000, 14: 60_000_000, 15: 60_000_001, 44: 60_000_001} {
			proof, err := c.Verify("ann", sealed, at(offset), now)
			require.NoError(t, err)
			require.Equal(t, Proof{"step": step, "checkedSecret": sealed}, proof, "%d s away", offset)
		}
	})
	t.Run("NothingFurtherAwayIsRight", func(t *testing.T) {
		for _, offset := range []int{-46, 45, -3600, 3600} {
			proof, err := c.Verify("ann", sealed, at(offset), now)
			require.NoError(t, err)
			require.Empty(t, proof)
		}
	})
	t.Run("NorWhatIsNoCode", func(t *testing.T) {
		for _, code := range []string{"", "12345", "1234567", "abcdef", "A1B2-C3D4", "A1B2C3D4E5F6", "١٢٣٤٥٦"} {
			proof, err := c.Verify("ann", sealed, code, now)
			require.NoError(t, err)
			require.Empty(t, proof)
		}
	})
	t.Run("OfSomebodyElseNothingOpens", func(t *testing.T) {
		_, err := c.Verify("ben", sealed, at(0), now)
		require.ErrorIs(t, err, seal.ErrOpen)
	})
	t.Run("AnEmptySecretIsNone", func(t *testing.T) {
		empty, err := c.box.Seal(seal.SecondFactor("ann"), nil)
		require.NoError(t, err)
		_, err = c.Verify("ann", empty, "328482", now)
		require.ErrorContains(t, err, "wrong length")
	})
}

func TestBackupCodesOutliveAChangeOfKeys(t *testing.T) {
	old := codes(t, "a")
	args := map[string]any{}
	require.NoError(t, old.AddBackupCodes("ann", args))
	shown, err := old.BackupCodes("ann", args["sealedCodes"].(string))
	require.NoError(t, err)
	require.Len(t, shown, 10)
	proof, err := codes(t, "b", "a").Verify("ann", "", strings.ToLower(shown[7].Code)+" ", time.Now())
	require.NoError(t, err)
	require.Contains(t, proof["backupHashes"], args["codeHashes"].([]string)[7])
	other, err := old.Verify("ben", "", shown[7].Code, time.Now())
	require.NoError(t, err)
	require.NotContains(t, other["backupHashes"], args["codeHashes"].([]string)[7])
}
