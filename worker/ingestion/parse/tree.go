package parse

/*
#cgo LDFLAGS: -Wl,--unresolved-symbols=ignore-all
#include <stdlib.h>
#include "tree.h"
*/
import "C"

import (
	"context"
	"errors"
	"sync"
	"time"
	"unsafe"

	_ "github.com/smacker/go-tree-sitter" // the runtime
	_ "github.com/smacker/go-tree-sitter/c"
	_ "github.com/smacker/go-tree-sitter/cpp"
	_ "github.com/smacker/go-tree-sitter/csharp"
	_ "github.com/smacker/go-tree-sitter/golang"
	_ "github.com/smacker/go-tree-sitter/java"
	_ "github.com/smacker/go-tree-sitter/javascript"
	_ "github.com/smacker/go-tree-sitter/php"
	_ "github.com/smacker/go-tree-sitter/python"
	_ "github.com/smacker/go-tree-sitter/ruby"
	_ "github.com/smacker/go-tree-sitter/rust"
	_ "github.com/smacker/go-tree-sitter/sql"
	_ "github.com/smacker/go-tree-sitter/typescript/tsx"
	_ "github.com/smacker/go-tree-sitter/typescript/typescript"
)

const (
	// maxDepth bounds recursion over a tree. Real code nests a few dozen levels deep; deeper levels than this are not read.
	maxDepth = 400
	// maxNodes bounds the memory of one tree to 64 MB here, reached by about 20 MB of ordinary code.
	maxNodes = 4 << 20
)

// node is one named node of a syntax tree, laid out as kj_node in tree.h.
type node struct {
	start, end, next uint32
	symbol, field    uint16
}

// tree is the flattened syntax tree of a text, in pre-order.
type tree struct {
	nodes    []node
	hasError bool
}

// lost counts the bytes that the grammar could not parse.
func (t tree) lost(g *grammar) (n uint32) {
	for i := 0; i < len(t.nodes); {
		k := &t.nodes[i]
		if g.typeOf(k) == "ERROR" {
			n += k.end - k.start
			i = int(k.next)
			continue
		}
		i++
	}
	return n
}

// errStopped means that the parser stopped because of the time limit or the context.
var errStopped = errors.New("stopped")

// engine parses one text after another. It serves one caller at a time.
type engine struct {
	heap   *C.kj_heap
	cancel *C.size_t // in C's memory, because the parser reads it while it runs
}

// start must be called before the runtime allocates any memory.
var start = sync.OnceFunc(func() { C.kj_start() })

func newEngine() *engine {
	start()
	return &engine{heap: C.kj_heap_new(), cancel: (*C.size_t)(C.calloc(1, C.sizeof_size_t))}
}

func (e *engine) close() {
	C.kj_heap_delete(e.heap)
	C.free(unsafe.Pointer(e.cancel))
}

// parse returns the tree of text. All C memory for it is released before it returns. The whole parse is one call into C,
// because a call for each node costs more than parsing.
func (e *engine) parse(ctx context.Context, g *grammar, text string, limit time.Duration) (tree, error) {
	if err := ctx.Err(); err != nil {
		return tree{}, err
	}
	*e.cancel = 0
	if ctx.Done() != nil {
		finished := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			setFlag(e.cancel)
			close(finished)
		})
		defer func() {
			if !stop() {
				<-finished // the flag is not written after we return
			}
		}()
	}
	t := C.kj_parse(e.heap, g.language, (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.uint32_t(len(text)),
		C.uint64_t(limit.Microseconds()), e.cancel, maxDepth, maxNodes)
	defer C.kj_free(t)
	switch t.status {
	case 1:
		if err := ctx.Err(); err != nil {
			return tree{}, err
		}
		return tree{}, errStopped
	case 2:
		return tree{}, errors.New("out of memory")
	}
	nodes := make([]node, int(t.count))
	copy(nodes, unsafe.Slice((*node)(unsafe.Pointer(t.nodes)), int(t.count)))
	return tree{nodes: nodes, hasError: t.has_error != 0 || t.truncated != 0}, nil
}

// symbols returns the names of a language's node types and fields, indexed by the numbers in its trees.
func symbols(lang *C.TSLanguage) (types, fields []string) {
	for i := range C.ts_language_symbol_count(lang) {
		types = append(types, C.GoString(C.ts_language_symbol_name(lang, C.uint16_t(i))))
	}
	fields = []string{""}
	for i := range C.ts_language_field_count(lang) {
		fields = append(fields, C.GoString(C.ts_language_field_name_for_id(lang, C.uint16_t(i+1))))
	}
	return types, fields
}
