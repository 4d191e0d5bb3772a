package picture

import (
	"bytes"
	"encoding/binary"
)

// orientation reads the orientation that a camera stored in a JPEG (EXIF tag 0x0112 of the first directory), or 1. Invalid data counts as
// 1.
func orientation(raw []byte) int {
	for at := 2; at+4 <= len(raw) && raw[at] == 0xff; {
		marker, size := raw[at+1], int(binary.BigEndian.Uint16(raw[at+2:]))
		if marker == 0xda || size < 2 || at+2+size > len(raw) {
			return 1
		}
		segment := raw[at+4 : at+2+size]
		if marker == 0xe1 && bytes.HasPrefix(segment, []byte("Exif\x00\x00")) {
			return fromDirectory(segment[6:])
		}
		at += 2 + size
	}
	return 1
}

func fromDirectory(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if bytes.HasPrefix(tiff, []byte("II")) {
		order = binary.LittleEndian
	}
	first := int64(order.Uint32(tiff[4:]))
	if first < 8 || first+2 > int64(len(tiff)) {
		return 1
	}
	directory := tiff[first:]
	for i := range int(order.Uint16(directory)) {
		entry := 2 + 12*i
		if entry+12 > len(directory) {
			return 1
		}
		// The tag as one unsigned short.
		if order.Uint16(directory[entry:]) == 0x0112 && order.Uint16(directory[entry+2:]) == 3 {
			return int(order.Uint16(directory[entry+8:]))
		}
	}
	return 1
}
