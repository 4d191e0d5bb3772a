package source_test

import (
	"errors"
	"io"
	"math/rand"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/htmlindex"

	"kijko/worker/ingestion/source"
)

func TestContent(t *testing.T) {
	long := strings.Repeat("a", 8<<10)
	tests := []struct {
		name       string
		data       string
		text       string // result of Decode; "" for binary
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
		{"UTF16WithoutMarkAndTooShort", "h\x00i\x00", "", 0, 1},
		{"UTF16WithoutMark", wide("int main() { return 0; }\nint other() { return 1; }\n"), "int main() { return 0; }\nint other() { return 1; }\n", 51, 3},
		{"UTF32", "\xFF\xFE\x00\x00h\x00\x00\x00\n\x00\x00\x00", "h\n", 2, 2},
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

// wide writes ASCII as UTF-16.
func wide(s string) string { return strings.Join(strings.Split(s, ""), "\x00") + "\x00" }

// encoded writes a text in an encoding.
func encoded(t testing.TB, name, text string) string {
	t.Helper()
	e, err := htmlindex.Get(name)
	require.NoError(t, err)
	s, err := e.NewEncoder().String(text)
	require.NoError(t, err)
	return s
}

func TestEncodings(t *testing.T) {
	french := "/* Crée l'élève et vérifie son âge : « trop jeune » s'il a moins de 12 ans, à noter. */\nint main(void) { return 0; }\n"
	russian := "// Проверяет подпись и возвращает ошибку, если она неверна. Ключ берётся из настроек.\nint main() { return 0; }\n"
	japanese := "// これは設定を読み込む関数です。エラーのときは空の値を返します。\nint main() { return 0; }\n"
	chinese := "// 这个函数读取配置文件，如果出错就返回空值。用户可以修改默认的设置。\nint main() { return 0; }\n"
	taiwan := "// 這個函數讀取設定檔，如果發生錯誤就傳回空值。使用者可以修改預設的設定。\nint main() { return 0; }\n"
	korean := "// 이 함수는 설정 파일을 읽고 오류가 있으면 빈 값을 반환합니다.\nint main() { return 0; }\n"
	greek := "// Αυτή η συνάρτηση διαβάζει τις ρυθμίσεις και επιστρέφει σφάλμα αν δεν υπάρχουν.\nint main() { return 0; }\n"
	polish := "// Ta funkcja odczytuje ustawienia i zwraca błąd, jeśli nie istnieją. Użytkownik może zmienić każdą wartość; proszę sprawdzić, czy są właściwe.\n"
	for _, c := range []struct{ name, encoding, text string }{
		{"PlainlyWestern", "windows-1252", french},
		{"OneLetter", "windows-1252", "// café\nint a;\n"},
		{"CopyrightSign", "windows-1252", "/* © 1999 Acme */\nint a;\n"},
		{"TypographicQuotes", "windows-1252", "// the “best” one’s – really\n"},
		{"German", "windows-1252", "{ Größe der Übersicht ändern, falls nötig: Straße }\nbegin end.\n"},
		{"Russian1251", "windows-1251", russian},
		{"RussianKOI8", "koi8-r", russian},
		{"ShiftJIS", "shift_jis", japanese},
		{"EUCJP", "euc-jp", japanese},
		{"GBK", "gbk", chinese},
		{"Big5", "big5", taiwan},
		{"EUCKR", "euc-kr", korean},
		{"Greek", "iso-8859-7", greek},
		{"ShortChinese", "gbk", "// 读取配置\nint a;\n"},
		{"ShortJapanese", "shift_jis", "// エラー\nint a;\n"},
		{"DeclaredByPEP263", "iso-8859-2", "#!/usr/bin/python\n# -*- coding: iso-8859-2 -*-\n" + polish},
		{"DeclaredByPEP263Short", "koi8-r", "# coding=koi8-r\nx = 'да'\n"},
		{"DeclaredByXML", "iso-8859-2", "<?xml version=\"1.0\" encoding=\"ISO-8859-2\"?>\n<a>żółw</a>\n"},
		{"DeclaredByHTML", "windows-1251", "<html><head><meta charset=\"windows-1251\"><title>да</title>\n"},
		{"DeclaredByHTML4", "shift_jis", "<html><head><META http-equiv=\"Content-Type\" content=\"text/html; charset=Shift_JIS\"><title>亜</title>\n"},
		{"DeclaredByCSS", "iso-8859-2", "@charset \"iso-8859-2\";\na::before { content: \"ż\"; }\n"},
		{"DeclaredByRuby", "euc-jp", "# -*- coding: EUC-JP -*-\nputs '亜'\n"},
		{"DeclaredByVim", "windows-1250", "// vim: set fileencoding=cp1250 :\n// ž\n"},
		{"DeclaredByGettext", "iso-8859-2", "msgid \"\"\nmsgstr \"\"\n\"Content-Type: text/plain; charset=ISO-8859-2\\n\"\nmsgstr \"ż\"\n"},
		{"EscapesOfJapaneseMail", "iso-2022-jp", "<meta charset=\"iso-2022-jp\">\n日本語\n"},
	} {
		for shape, reader := range map[string]func(io.Reader) io.Reader{"AtOnce": func(r io.Reader) io.Reader { return r }, "ByteByByte": iotest.OneByteReader} {
			t.Run(c.name+"/"+shape, func(t *testing.T) {
				data := encoded(t, c.encoding, c.text)
				require.NotEqual(t, data, c.text)
				content, err := source.Inspect(reader(strings.NewReader(data)))
				require.NoError(t, err)
				require.False(t, content.Binary, "TextLike %v", content.TextLike)
				text, err := source.DecodeAs(reader(strings.NewReader(data)), 1<<20, content.Encoding)
				require.NoError(t, err)
				require.Equal(t, c.text, text, content.Encoding)
			})
		}
	}
	for _, c := range []struct{ name, data string }{
		{"CapitalInsideAWord", "cafe\xc3 x"},
		{"Strange", "int a; // \xff\xfe\xfd \x81\x8d\x8f\x90\n"},
		{"DOSLetters", "// \x81ber\x84nderung f\x81r \x94ffnen\n"},
	} {
		t.Run("NothingTells/"+c.name, func(t *testing.T) {
			content, err := source.Inspect(strings.NewReader(c.data))
			require.NoError(t, err)
			require.True(t, content.Binary)
			require.True(t, content.TextLike)
		})
	}
	t.Run("UTF8StaysWhateverItDeclares", func(t *testing.T) {
		content, err := source.Inspect(strings.NewReader("# coding: latin-1\nx = 'é'\n"))
		require.NoError(t, err)
		require.Equal(t, source.Content{Characters: 26, Lines: 3}, content)
	})
	t.Run("RandomBytesAreNoText", func(t *testing.T) {
		seed := rand.New(rand.NewSource(1))
		for range 500 {
			b := make([]byte, 2000)
			for i := range b {
				b[i] = byte(1 + seed.Intn(255))
			}
			content, err := source.Inspect(strings.NewReader(string(b)))
			require.NoError(t, err)
			require.True(t, content.Binary)
			require.False(t, content.TextLike)
		}
	})
}

// endless returns the letter a without end.
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
		_, err = source.DecodeAs(strings.NewReader(string(data)), 1<<20, content.Encoding)
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
