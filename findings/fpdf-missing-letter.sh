#!/bin/sh
# codeberg.org/go-pdf/fpdf: text in a TrueType font whose letter the font does not have is written without an error. The page holds the
# letter's code point, for which the font has no glyph, so a reader of the page sees nothing or an empty box, and the width of the text
# is counted all the same. A program that prints names has to look each letter up in the font first.
# Exit status 0: the behavior is still so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"bytes"
	"fmt"
	"os"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
)

func main() {
	font, err := sfnt.Parse(goregular.TTF)
	if err != nil {
		panic(err)
	}
	silent := true
	for _, letter := range []rune{'Ł', '東'} {
		glyph, err := font.GlyphIndex(nil, letter)
		if err != nil {
			panic(err)
		}
		doc := fpdf.New("P", "mm", "A4", "")
		doc.SetCompression(false)
		doc.AddUTF8FontFromBytes("go", "", goregular.TTF)
		doc.SetFont("go", "", 12)
		doc.AddPage()
		doc.Text(20, 20, string(letter))
		var out bytes.Buffer
		err = doc.Output(&out)
		written := bytes.Contains(out.Bytes(), []byte{byte(letter >> 8), byte(letter)})
		fmt.Printf("U+%04X: glyph %d of the font (0: it has none), error: %v, code point on the page: %v, width: %.1f mm\n",
			letter, glyph, err, written, doc.GetStringWidth(string(letter)))
		silent = silent && err == nil && written && (glyph == 0) == (letter == '東')
	}
	if !silent {
		fmt.Println("changed: a missing letter is reported or replaced, or the font has it")
		os.Exit(1)
	}
}
GO
go mod init finding >/dev/null 2>&1
go get codeberg.org/go-pdf/fpdf@v0.12.0 golang.org/x/image/font/sfnt@v0.48.0 >/dev/null 2>&1
echo "codeberg.org/go-pdf/fpdf $(go list -m -f '{{.Version}}' codeberg.org/go-pdf/fpdf)"
go run .
