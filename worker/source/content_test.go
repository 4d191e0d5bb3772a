package source_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"kijko/worker/source"
)

func TestContent(t *testing.T) {
	long := strings.Repeat("a", 8<<10)
	tests := []struct {
		name       string
		data       string
		text       string // what Decode gives; "" for binary
		characters int64
		lines      int64
	}{
		{"Plain", "one\ntwo", "one\ntwo", 7, 2},
		{"CarriageReturnsStay", "one\r\ntwo\r\n", "one\r\ntwo\r\n", 10, 3},
		{"UTF8MarkIsDropped", "\xEF\xBB\xBFhé", "hé", 2, 1},
		{"OneByte", "x", "x", 1, 1},
		{"TwoByteCharacterAlone", "é", "é", 1, 1},
		{"UTF16LittleEndian", "\xFF\xFEh\x00\xe9\x00\n\x00", "hé\n", 3, 2},
		{"UTF16BigEndian", "\xFE\xFF\x00h\x00\xe9", "hé", 2, 1},
		{"UTF16WithABrokenPair", "\xFF\xFEh\x00\x00\xd8", "h\uFFFD", 2, 1},
		{"UTF16WithAnOddByte", "\xFF\xFEh\x00x", "h", 1, 1},
		{"NULAfterTheFirst8KiBIsReplaced", long + "\x00b", long + "\uFFFDb", 8<<10 + 2, 1},
		{"NULInTheFirst8KiB", long[1:] + "\x00", "", 0, 1},
		{"UTF16WithoutMark", "h\x00i\x00", "", 0, 1},
		{"UTF32", "\xFF\xFE\x00\x00h\x00\x00\x00", "", 0, 1},
		{"Latin1", "caf\xe9 au lait", "", 0, 1},
		{"CutCharacterAtTheEnd", "caf\xc3", "", 0, 1},
		{"LoneSurrogate", "a\xed\xa0\x80b", "", 0, 1},
		{"InvalidByteFarBehind", long + long + "\xff", "", 0, 1},
	}
	for _, tt := range tests {
		for shape, reader := range map[string]func(io.Reader) io.Reader{"AtOnce": func(r io.Reader) io.Reader { return r }, "ByteByByte": iotest.OneByteReader} {
			t.Run(tt.name+"/"+shape, func(t *testing.T) {
				content, err := source.Inspect(reader(strings.NewReader(tt.data)))
				require.NoError(t, err)
				text, err := source.Decode(reader(strings.NewReader(tt.data)), 1<<20)
				if tt.text == "" {
					require.True(t, content.Binary)
					require.ErrorIs(t, err, source.ErrBinary)
					return
				}
				require.NoError(t, err)
				require.Equal(t, tt.text, text)
				require.Equal(t, source.Content{Characters: tt.characters, Lines: tt.lines}, content)
			})
		}
	}
	t.Run("DecodeRefusesMoreThanItsLimit", func(t *testing.T) {
		_, err := source.Decode(strings.NewReader("12345"), 4)
		require.ErrorIs(t, err, source.ErrTooLarge)
		text, err := source.Decode(strings.NewReader("1234"), 4)
		require.NoError(t, err)
		require.Equal(t, "1234", text)
	})
	t.Run("HugeFileIsLookedAtInPartOnly", func(t *testing.T) {
		read := &counter{r: io.LimitReader(endless{}, 100<<20)}
		content, err := source.Inspect(read)
		require.NoError(t, err)
		require.False(t, content.Binary)
		require.Less(t, read.n, int64(9<<20))
	})
	t.Run("FaultOfStorageIsReported", func(t *testing.T) {
		broken := errors.New("disk")
		_, err := source.Inspect(iotest.ErrReader(broken))
		require.ErrorIs(t, err, broken)
		_, err = source.Decode(iotest.ErrReader(broken), 9)
		require.ErrorIs(t, err, broken)
	})
}

// endless gives the letter a for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func FuzzContent(f *testing.F) {
	f.Add([]byte("a\nb"))
	f.Add([]byte("\xFF\xFEa\x00"))
	f.Add([]byte("\xe2\x82"))
	f.Fuzz(func(t *testing.T, data []byte) {
		content, err := source.Inspect(iotest.HalfReader(strings.NewReader(string(data))))
		require.NoError(t, err)
		_, err = source.Decode(strings.NewReader(string(data)), 1<<20)
		require.Equal(t, content.Binary, err != nil, "discovery and parsing must agree on what is text")
	})
}

func TestCleanPath(t *testing.T) {
	tests := []struct{ name, path, want, fault string }{
		{"PlainName", "a.go", "a.go", ""},
		{"Folders", "src/a b/ü.go", "src/a b/ü.go", ""},
		{"DotAndDoubleSlashVanish", "./src//./a.go", "src/a.go", ""},
		{"BackslashesFromWindows", `src\a.go`, "src/a.go", ""},
		{"DotsInNamesStay", "a..b/..c", "a..b/..c", ""},
		{"Absolute", "/etc/passwd", "", "The path must be relative."},
		{"AbsoluteOnWindows", `C:\x`, "", "The path must be relative."},
		{"NetworkShare", `\\host\x`, "", "The path must be relative."},
		{"DotDot", "a/../b", "", `The path must not contain "..".`},
		{"DotDotWithBackslash", `a\..\..\b`, "", `The path must not contain "..".`},
		{"NUL", "a\x00b", "", "The path contains control characters."},
		{"LineFeed", "a\nb", "", "The path contains control characters."},
		{"Delete", "a\x7fb", "", "The path contains control characters."},
		{"InvalidUTF8", "a\xff", "", "The path is not valid UTF-8."},
		{"Empty", "", "", "The path has no file name."},
		{"OnlyDots", "./.", "", "The path has no file name."},
		{"Folder", "a/", "", "The path has no file name."},
		{"Blank", "a/ ", "", "The path has no file name."},
		{"NameOf255", strings.Repeat("ü", 255), strings.Repeat("ü", 255), ""},
		{"NameOf256", strings.Repeat("ü", 256), "", "The file name is longer than 255 characters."},
		{"PathOf1000", strings.Repeat("abc/", 249) + "abcd", strings.Repeat("abc/", 249) + "abcd", ""},
		{"PathOf1001", strings.Repeat("abc/", 249) + "abcde", "", "The path is longer than 1,000 characters."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := source.CleanPath(tt.path)
			if tt.fault != "" {
				require.EqualError(t, err, tt.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}
