package parse

/*
#include <stddef.h>
static void set_flag(size_t *f) { __atomic_store_n(f, 1, __ATOMIC_SEQ_CST); }
*/
import "C"

// setFlag stops the parser that watches f.
func setFlag(f *C.size_t) { C.set_flag(f) }
