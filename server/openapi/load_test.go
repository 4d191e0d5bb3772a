package openapi

import "testing"

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := LoadFrom(files); err != nil {
			b.Fatal(err)
		}
	}
}
