package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

var all = Bounds{Types: []string{JPEG, PNG, GIF}, Bytes: 2 << 20, Side: 64}

// corner is a picture of one color with a red upper left quarter.
func corner(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{0, 0, 200, 255}
			if x < w/2 && y < h/2 {
				c = color.NRGBA{220, 0, 0, 255}
			}
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

func asJPEG(m image.Image) []byte {
	var b bytes.Buffer
	_ = jpeg.Encode(&b, m, nil)
	return b.Bytes()
}

func asPNG(m image.Image) []byte {
	var b bytes.Buffer
	_ = png.Encode(&b, m)
	return b.Bytes()
}

func paletted(r image.Rectangle, c color.Color) *image.Paletted {
	m := image.NewPaletted(r, color.Palette{color.Transparent, c})
	for i := range m.Pix {
		m.Pix[i] = 1
	}
	return m
}

// asGIF has a screen of 40 × 30, a first frame in its middle and a second one.
func asGIF() []byte {
	var b bytes.Buffer
	red, blue := color.NRGBA{220, 0, 0, 255}, color.NRGBA{0, 0, 200, 255}
	_ = gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{paletted(image.Rect(10, 10, 20, 20), red), paletted(image.Rect(0, 0, 40, 30), blue)},
		Delay: []int{5, 5}, Config: image.Config{Width: 40, Height: 30}})
	return b.Bytes()
}

// exif inserts an orientation before a JPEG's first segment.
func exif(raw []byte, order binary.AppendByteOrder, mark string, orientation uint16) []byte {
	tiff := order.AppendUint32(order.AppendUint16([]byte(mark), 42), 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint32(order.AppendUint16(order.AppendUint16(tiff, 0x0112), 3), 1)
	tiff = order.AppendUint32(order.AppendUint16(order.AppendUint16(tiff, orientation), 0), 0)
	body := append([]byte("Exif\x00\x00"), append(tiff, "GPS: at home"...)...)
	segment := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(body)+2))
	return append(append(append([]byte{}, raw[:2]...), append(segment, body...)...), raw[2:]...)
}

// claims is a PNG whose header claims this size, without content.
func claims(w, h uint32) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), w), h)
	head = append(head, 8, 6, 0, 0, 0)
	raw := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(head))
}

func decoded(t *testing.T, p *Picture) image.Image {
	t.Helper()
	m, format, err := image.Decode(bytes.NewReader(p.Bytes))
	if err != nil || "image/"+format != p.Type || m.Bounds().Dx() != p.Width || m.Bounds().Dy() != p.Height {
		t.Fatalf("what was written is no %s of %d × %d: %s, %v", p.Type, p.Width, p.Height, format, err)
	}
	return m
}

func isRed(c color.Color) bool {
	r, _, b, a := c.RGBA()
	return a > 0x8000 && r > 0x8000 && b < 0x6000
}

func TestPicturesAreDrawnAgain(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		kind string
		w, h int
	}{
		"a JPEG stays one":                  {asJPEG(corner(40, 20)), JPEG, 40, 20},
		"a PNG stays one":                   {asPNG(corner(40, 20)), PNG, 40, 20},
		"a large one is scaled down":        {asPNG(corner(640, 320)), PNG, 64, 32},
		"one pixel high stays one":          {asPNG(corner(1000, 1)), PNG, 64, 1},
		"what follows the end is dropped":   {append(asJPEG(corner(40, 20)), "<script>GPS: at home"...), JPEG, 40, 20},
		"what a camera noted is dropped":    {exif(asJPEG(corner(40, 20)), binary.BigEndian, "MM", 1), JPEG, 40, 20},
		"an animation's first frame is all": {asGIF(), PNG, 40, 30},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Read(context.Background(), c.raw, all)
			if err != nil {
				t.Fatal(err)
			}
			if decoded(t, p); p.Type != c.kind || p.Width != c.w || p.Height != c.h {
				t.Fatalf("%s of %d × %d", p.Type, p.Width, p.Height)
			}
			if bytes.Contains(p.Bytes, []byte("at home")) || bytes.Contains(p.Bytes, []byte("<script>")) {
				t.Fatal("something beside the pixels was kept")
			}
		})
	}
}

func TestAnAnimationsFirstFrameStandsAtItsPlace(t *testing.T) {
	p, err := Read(context.Background(), asGIF(), all)
	if err != nil {
		t.Fatal(err)
	}
	m := decoded(t, p)
	if _, _, _, a := m.At(5, 5).RGBA(); a != 0 || !isRed(m.At(15, 15)) {
		t.Fatalf("around it %v, inside %v", m.At(5, 5), m.At(15, 15))
	}
}

func TestPortraitsStandUpright(t *testing.T) {
	// The position of the red quarter after turning, in eighths of the picture.
	for orientation, at := range map[uint16][2]int{1: {1, 1}, 2: {7, 1}, 3: {7, 7}, 4: {1, 7}, 5: {1, 1}, 6: {7, 1}, 7: {7, 7}, 8: {1, 7}, 9: {1, 1}} {
		for mark, order := range map[string]binary.AppendByteOrder{"MM": binary.BigEndian, "II": binary.LittleEndian} {
			p, err := Read(context.Background(), exif(asJPEG(corner(64, 32)), order, mark, orientation), all)
			if err != nil {
				t.Fatal(err)
			}
			m := decoded(t, p)
			if turned := orientation >= 5 && orientation <= 8; turned != (p.Height == 64) {
				t.Errorf("orientation %d gives %d × %d", orientation, p.Width, p.Height)
			}
			if !isRed(m.At(p.Width*at[0]/8, p.Height*at[1]/8)) {
				t.Errorf("orientation %d (%s): the corner is elsewhere", orientation, mark)
			}
		}
	}
}

func TestWhatIsNoPictureIsRefused(t *testing.T) {
	photo := asJPEG(corner(40, 20))
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":                            {nil, ErrType},
		"text":                               {[]byte("hello"), ErrType},
		"markup":                             {[]byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), ErrType},
		"a JPEG's first bytes":               {photo[:3], ErrType},
		"half a JPEG":                        {photo[:len(photo)/2], ErrType},
		"a PNG that claims too many pixels":  {claims(12000, 12000), ErrSize},
		"a PNG that claims 4097 × 4097":      {claims(4097, 4097), ErrSize},
		"a PNG that claims one long side":    {claims(8193, 1), ErrSize},
		"a PNG that claims what none can be": {claims(1<<31-1, 1<<31-1), ErrType},
		"a PNG of no pixels":                 {claims(0, 10), ErrType},
		"a PNG without its rest":             {claims(10, 10), ErrType},
		"a file that is too large":           {make([]byte, all.Bytes+1), ErrBytes},
	} {
		if _, err := Read(context.Background(), c.raw, all); !errors.Is(err, c.want) {
			t.Errorf("%s: %v instead of %v", name, err, c.want)
		}
	}
	if _, err := Read(context.Background(), asGIF(), Bounds{Types: []string{JPEG, PNG}, Bytes: 1 << 20, Side: 64}); !errors.Is(err, ErrType) {
		t.Errorf("a kind that is not accepted: %v", err)
	}
}

func TestOneWaitsForTheOtherNoLongerThanItsRequest(t *testing.T) {
	if err := decoding.Acquire(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	defer decoding.Release(1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, asPNG(corner(4, 4)), all); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(asJPEG(corner(8, 8)))
	f.Add(asPNG(corner(8, 8)))
	f.Add(asGIF())
	f.Add(exif(asJPEG(corner(8, 8)), binary.LittleEndian, "II", 6))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := Read(context.Background(), raw, all); err == nil {
			decoded(t, p)
		}
	})
}
