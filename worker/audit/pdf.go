package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
)

// columns of the table, in millimeters; together they fill a landscape A4 page between its margins.
var columns = []struct {
	title string
	width float64
}{{"Timestamp", 42}, {"User", 34}, {"Email", 46}, {"Category", 19}, {"Event", 44}, {"Description", 66}, {"IP Address", 26}}

const (
	margin     = 10.0
	lineHeight = 4.0
	fontSize   = 7.5
	// maxLines is how many lines of a cell are shown: one row must not fill pages.
	maxLines = 12
)

// turn admits one PDF at a time: the largest one takes some hundred megabytes.
var turn = make(chan struct{}, 1)

// rowsOf returns the cells of a page.
func rowsOf(content string) ([][]string, error) {
	if content == "" {
		return nil, nil
	}
	var rows [][]string
	if err := json.Unmarshal([]byte(content), &rows); err != nil {
		return nil, fmt.Errorf("audit: rows of a page: %w", err)
	}
	return rows, nil
}

func writePDF(ctx context.Context, w io.Writer, pages Pages) error {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	var file bytes.Buffer
	err := drawPDF(ctx, &file, pages)
	// The next PDF need not wait until a slow client has received this one.
	<-turn
	if err != nil {
		return err
	}
	_, err = file.WriteTo(w)
	return err
}

func drawPDF(ctx context.Context, w io.Writer, pages Pages) (err error) {
	// The library panics on some texts with letters that its fonts lack. All letters are checked before, so this recover
	// is a second safeguard.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("audit: pdf: %v", v)
		}
	}()
	t, err := newTable()
	if err != nil {
		return err
	}
	rows := 0
	err = each(ctx, pages, func(content string) error {
		page, err := rowsOf(content)
		for _, cells := range page {
			t.row(cells, rows%2 == 1)
			rows++
		}
		if err == nil {
			err = t.pdf.Error()
		}
		return err
	})
	if err != nil {
		return err
	}
	if rows == 0 {
		t.pdf.CellFormat(0, 10, "No entries.", "", 1, "L", false, 0, "")
	}
	return t.pdf.Output(w)
}

type table struct {
	pdf    *fpdf.Fpdf
	font   *sfnt.Font
	buffer sfnt.Buffer
	known  map[rune]bool
}

func newTable() (*table, error) {
	font, err := sfnt.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("audit: font: %w", err)
	}
	t := &table{pdf: fpdf.New("L", "mm", "A4", ""), font: font, known: map[rune]bool{}}
	p := t.pdf
	p.AddUTF8FontFromBytes("go", "", goregular.TTF)
	p.AddUTF8FontFromBytes("go", "B", gobold.TTF)
	p.SetTitle("Audit log", true)
	p.SetMargins(margin, margin, margin)
	p.SetAutoPageBreak(false, margin)
	p.SetFillColor(243, 244, 246)
	p.SetDrawColor(209, 213, 219)
	p.AliasNbPages("{pages}")
	p.SetHeaderFunc(t.head)
	p.SetFooterFunc(func() {
		p.SetY(-margin)
		p.SetFont("go", "", fontSize)
		p.CellFormat(0, lineHeight, fmt.Sprintf("Page %d of {pages}", p.PageNo()), "", 0, "R", false, 0, "")
	})
	p.AddPage()
	return t, p.Error()
}

// head begins a page: it prints the title on the first page, and the column names on each.
func (t *table) head() {
	p := t.pdf
	if p.PageNo() == 1 {
		p.SetFont("go", "B", 14)
		p.CellFormat(0, 8, "Audit log", "", 1, "L", false, 0, "")
		p.SetFont("go", "", fontSize)
		p.CellFormat(0, 6, "Written on "+time.Now().UTC().Format("Jan 2, 2006, 15:04")+" UTC", "", 1, "L", false, 0, "")
	}
	p.SetFont("go", "B", fontSize)
	for _, c := range columns {
		p.CellFormat(c.width, lineHeight+2, c.title, "B", 0, "L", true, 0, "")
	}
	p.Ln(-1)
	p.SetFont("go", "", fontSize)
}

func (t *table) row(cells []string, shaded bool) {
	p := t.pdf
	lines := make([][]string, len(columns))
	height := 1
	for i, c := range columns {
		if i < len(cells) {
			lines[i] = t.wrap(t.printable(cells[i]), c.width-2)
		}
		height = max(height, len(lines[i]))
	}
	tall := float64(height)*lineHeight + 1
	_, paper := p.GetPageSize()
	if p.GetY()+tall > paper-2*margin {
		p.AddPage()
	}
	top := p.GetY()
	left := margin
	for i, c := range columns {
		p.SetXY(left, top)
		p.CellFormat(c.width, tall, "", "B", 0, "L", shaded, 0, "")
		for n, line := range lines[i] {
			p.SetXY(left, top+0.5+float64(n)*lineHeight)
			p.CellFormat(c.width, lineHeight, line, "", 0, "L", false, 0, "")
		}
		left += c.width
	}
	p.SetXY(margin, top+tall)
}

// wrap breaks a text at blanks, and breaks a word that is wider than the column.
func (t *table) wrap(text string, width float64) []string {
	if t.pdf.GetStringWidth(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if joined := strings.TrimPrefix(line+" "+word, " "); t.pdf.GetStringWidth(joined) <= width {
			line = joined
			continue
		}
		if line != "" {
			lines = append(lines, line)
			line = ""
		}
		for _, r := range word {
			if t.pdf.GetStringWidth(line+string(r)) > width && line != "" {
				lines = append(lines, line)
				line = ""
			}
			line += string(r)
			if len(lines) > maxLines {
				break
			}
		}
		if len(lines) > maxLines {
			break
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	if len(lines) > maxLines {
		lines = append(lines[:maxLines-1], "…")
	}
	return lines
}

// printable replaces each letter that the font lacks by a question mark: the library would silently draw nothing.
func (t *table) printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Mn, r):
			// Combining marks would stand beside their letter; composed letters have a glyph of their own.
			return -1
		}
		has, seen := t.known[r]
		if !seen {
			glyph, err := t.font.GlyphIndex(&t.buffer, r)
			has = err == nil && glyph != 0
			t.known[r] = has
		}
		if !has {
			return '?'
		}
		return r
	}, text)
}
