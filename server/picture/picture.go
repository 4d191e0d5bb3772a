// Package picture reads uploaded pictures and encodes them again. Only the pixels of the file remain. The result thus has no location of a
// photograph, no script after the last byte, and no content that a browser might take for another type.
package picture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	stddraw "image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"slices"

	"golang.org/x/image/draw"
	"golang.org/x/sync/semaphore"
)

// The formats, determined by content; the name and the declared type are ignored.
const (
	JPEG = "image/jpeg"
	PNG  = "image/png"
	GIF  = "image/gif"
)

// The refusals of Read. Any other error is the end of the context.
var (
	ErrType  = errors.New("this is not a picture of an accepted kind")
	ErrBytes = errors.New("the file is too large")
	ErrSize  = errors.New("the picture has too many pixels")
)

// Bounds are the limits of an upload and the size of the result.
type Bounds struct {
	// Types are the accepted formats.
	Types []string
	// Bytes is the largest file.
	Bytes int
	// Side is the longest side of the result. A larger picture is scaled down, a smaller one stays.
	Side int
}

// Picture is a re-encoded picture. A JPEG stays a JPEG, any other format becomes a PNG.
type Picture struct {
	Type          string
	Bytes         []byte
	Width, Height int
}

const (
	// maxSide and maxPixels are checked against the header, before a decoder allocates the claimed size. The largest photographs of
	// telephones that fit 2 MB have some 12 million pixels; a progressive JPEG takes 15 bytes for each while it is decoded.
	maxSide   = 8192
	maxPixels = 1 << 24
	quality   = 88
)

// decoding bounds the memory: one picture at a time may take some 250 MB.
var decoding = semaphore.NewWeighted(1)

// Read checks a file and encodes it again. Of an animation only the first frame is kept: decoding all of it would take hundreds of
// megabytes for a file of one, only to show it at the size of a thumbnail.
func Read(ctx context.Context, raw []byte, bounds Bounds) (*Picture, error) {
	if len(raw) > bounds.Bytes {
		return nil, ErrBytes
	}
	kind := typeOf(raw)
	if !slices.Contains(bounds.Types, kind) {
		return nil, ErrType
	}
	config, err := configOf(kind, raw)
	if err != nil || config.Width < 1 || config.Height < 1 {
		return nil, ErrType
	}
	if config.Width > maxSide || config.Height > maxSide || config.Width*config.Height > maxPixels {
		return nil, ErrSize
	}
	if err := decoding.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer decoding.Release(1)
	source, err := decode(kind, raw, config)
	if err != nil {
		return nil, ErrType
	}
	drawn := fit(source, bounds.Side)
	if kind == JPEG {
		drawn = turn(drawn, orientation(raw))
	}
	return encode(kind, drawn)
}

// typeOf returns the type by the first bytes.
func typeOf(raw []byte) string {
	switch {
	case bytes.HasPrefix(raw, []byte("\xff\xd8\xff")):
		return JPEG
	case bytes.HasPrefix(raw, []byte("\x89PNG\r\n\x1a\n")):
		return PNG
	case bytes.HasPrefix(raw, []byte("GIF87a")), bytes.HasPrefix(raw, []byte("GIF89a")):
		return GIF
	}
	return ""
}

func configOf(kind string, raw []byte) (image.Config, error) {
	switch kind {
	case JPEG:
		return jpeg.DecodeConfig(bytes.NewReader(raw))
	case PNG:
		return png.DecodeConfig(bytes.NewReader(raw))
	}
	return gif.DecodeConfig(bytes.NewReader(raw))
}

func decode(kind string, raw []byte, config image.Config) (image.Image, error) {
	switch kind {
	case JPEG:
		return jpeg.Decode(bytes.NewReader(raw))
	case PNG:
		return png.Decode(bytes.NewReader(raw))
	}
	// The first frame may cover only a part of the screen. The decoder refuses one that leaves the screen.
	frame, err := gif.Decode(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	screen := image.NewNRGBA(image.Rect(0, 0, config.Width, config.Height))
	stddraw.Draw(screen, frame.Bounds(), frame, frame.Bounds().Min, stddraw.Src)
	return screen, nil
}

// fit scales a picture down to the longest side.
func fit(source image.Image, side int) image.Image {
	b := source.Bounds()
	longest := max(b.Dx(), b.Dy())
	if longest <= side {
		return source
	}
	width, height := max(1, (b.Dx()*side+longest/2)/longest), max(1, (b.Dy()*side+longest/2)/longest)
	target := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.CatmullRom.Scale(target, target.Bounds(), source, b, draw.Src, nil)
	return target
}

// turn applies the orientation that a camera stored, because the EXIF data is not kept.
func turn(source image.Image, orientation int) image.Image {
	if orientation < 2 || orientation > 8 {
		return source
	}
	b := source.Bounds()
	w, h := b.Dx(), b.Dy()
	target := image.NewNRGBA(image.Rect(0, 0, w, h))
	if orientation >= 5 {
		target = image.NewNRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			tx, ty := place(orientation, x, y, w, h)
			target.SetNRGBA(tx, ty, color.NRGBAModel.Convert(source.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA))
		}
	}
	return target
}

// place returns the new position of a pixel, by the eight values of EXIF tag 0x0112.
func place(orientation, x, y, w, h int) (int, int) {
	switch orientation {
	case 2:
		return w - 1 - x, y
	case 3:
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6:
		return h - 1 - y, x
	case 7:
		return h - 1 - y, w - 1 - x
	}
	return y, w - 1 - x
}

func encode(kind string, drawn image.Image) (*Picture, error) {
	var out bytes.Buffer
	p := &Picture{Type: PNG, Width: drawn.Bounds().Dx(), Height: drawn.Bounds().Dy()}
	var err error
	if kind == JPEG {
		p.Type, err = JPEG, jpeg.Encode(&out, drawn, &jpeg.Options{Quality: quality})
	} else {
		err = png.Encode(&out, drawn)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding a picture: %w", err)
	}
	p.Bytes = out.Bytes()
	return p, nil
}
