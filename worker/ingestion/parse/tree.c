#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

// A heap holds all memory of one parse, and is emptied at once: walking over a tree to free its nodes one by one costs a tenth of the parse, and
// the system's allocator, which has to expect other threads, another twentieth. Freed pieces are used again within the parse by their size.
enum {
	KEEP = 4 << 20,   // bytes of blocks that stay for the next parse
	FIRST = 256 << 10, // bytes of the first block; each next one is twice as large, up to LARGEST
	LARGEST = 8 << 20,
	SMALL = 64, // pieces of up to SMALL * 16 bytes have a list for each size, larger ones one for each power of two
	LISTS = SMALL + 1 + 32
};

typedef struct block {
	struct block *next;
	size_t size;
} block;

// A piece begins with its size, rounded up, so that what follows it is aligned to 16 bytes.
typedef struct {
	size_t pad, size;
} piece;

struct kj_heap {
	block *blocks, *current; // in the order in which they were made
	char *at, *end;
	size_t held;
	piece *lists[LISTS];
};

// The heap of the parse that this thread does. Memory of other calls, of which there are none so far, is the system's.
static __thread kj_heap *heap;

static void *enough(void *p, size_t size) {
	if (!p && size) {
		fprintf(stderr, "tree-sitter failed to allocate %zu bytes\n", size);
		abort(); // as its own allocator does
	}
	return p;
}

static unsigned list_of(size_t units) { return units <= SMALL ? (unsigned)units : SMALL + 64 - (unsigned)__builtin_clzl(units) - 6; }

static void enter(kj_heap *h, block *b) {
	h->current = b;
	h->at = (char *)b + sizeof *b;
	h->end = (char *)b + b->size;
}

static void *heap_malloc(size_t size) {
	if (!heap) return enough(malloc(size), size);
	size_t units = (size + sizeof(piece) + 15) / 16;
	if (units > SMALL) units = (size_t)1 << (64 - __builtin_clzl(units - 1));
	piece **list = &heap->lists[list_of(units)], *p = *list;
	if (p) {
		*list = *(piece **)(p + 1);
		return p + 1;
	}
	if ((size_t)(heap->end - heap->at) < units * 16) {
		block *b = heap->current ? heap->current->next : heap->blocks;
		if (!b || b->size < units * 16 + sizeof *b) { // a block that is too small waits for its turn behind the new one
			size_t want = heap->held < FIRST ? FIRST : heap->held < LARGEST ? heap->held : LARGEST;
			if (want < units * 16 + sizeof *b) want = units * 16 + sizeof *b;
			block *made = enough(malloc(want), want);
			made->size = want;
			made->next = b;
			if (heap->current) heap->current->next = made;
			else heap->blocks = made;
			heap->held += want;
			b = made;
		}
		enter(heap, b);
	}
	p = (piece *)heap->at;
	heap->at += units * 16;
	p->size = units;
	return p + 1;
}

static void heap_free(void *memory) {
	if (!heap) {
		free(memory);
		return;
	}
	if (!memory) return;
	piece *p = (piece *)memory - 1, **list = &heap->lists[list_of(p->size)];
	*(piece **)memory = *list;
	*list = p;
}

static void *heap_calloc(size_t count, size_t size) {
	if (!heap) return enough(calloc(count, size), count * size);
	return memset(heap_malloc(count * size), 0, count * size);
}

static void *heap_realloc(void *memory, size_t size) {
	if (!heap) return enough(realloc(memory, size), size);
	if (!memory) return heap_malloc(size);
	size_t room = ((piece *)memory - 1)->size * 16 - sizeof(piece);
	if (size <= room) return memory;
	void *larger = heap_malloc(size);
	memcpy(larger, memory, room);
	heap_free(memory);
	return larger;
}

void kj_start(void) { ts_set_allocator(heap_malloc, heap_calloc, heap_realloc, heap_free); }

kj_heap *kj_heap_new(void) { return calloc(1, sizeof(kj_heap)); }

// empty_heap keeps the first blocks, which are the smallest.
static void empty_heap(kj_heap *h, size_t keep) {
	block **b = &h->blocks;
	size_t held = 0;
	while (*b && held + (*b)->size <= keep) {
		held += (*b)->size;
		b = &(*b)->next;
	}
	for (block *gone = *b; gone;) {
		block *next = gone->next;
		free(gone);
		gone = next;
	}
	*b = NULL;
	h->held = held;
	h->current = NULL;
	h->at = h->end = NULL;
	memset(h->lists, 0, sizeof h->lists);
}

void kj_heap_delete(kj_heap *h) {
	if (h) empty_heap(h, 0);
	free(h);
}

// flatten copies the named nodes of a tree. It goes iteratively, and not below max_depth, so that neither C's stack nor
// that of the reader of the result depends on the text.
static void flatten(TSNode root, uint32_t max_depth, uint32_t max_nodes, kj_tree *out) {
	uint32_t cap = 1024, depth = 0;
	uint32_t *open = malloc((size_t)(max_depth + 1) * sizeof *open); // index of the named node open at each depth, or none
	out->nodes = malloc(cap * sizeof *out->nodes);
	if (!open || !out->nodes) {
		free(open);
		out->status = 2;
		return;
	}
	TSTreeCursor c = ts_tree_cursor_new(root);
	for (;;) {
		TSNode n = ts_tree_cursor_current_node(&c);
		open[depth] = UINT32_MAX;
		if (ts_node_is_named(n) && !ts_node_is_missing(n)) {
			if (out->count == max_nodes) {
				out->truncated = 1;
				break;
			}
			if (out->count == cap) {
				kj_node *more = realloc(out->nodes, (size_t)cap * 2 * sizeof *more);
				if (!more) {
					out->status = 2;
					break;
				}
				out->nodes = more;
				cap *= 2;
			}
			open[depth] = out->count;
			kj_node *k = &out->nodes[out->count++];
			k->start = ts_node_start_byte(n);
			k->end = ts_node_end_byte(n);
			k->symbol = ts_node_symbol(n);
			k->field = ts_tree_cursor_current_field_id(&c);
			k->next = 0;
		}
		if (depth < max_depth && ts_tree_cursor_goto_first_child(&c)) {
			depth++;
			continue;
		}
		bool done = false;
		for (;;) {
			if (open[depth] != UINT32_MAX) out->nodes[open[depth]].next = out->count;
			if (ts_tree_cursor_goto_next_sibling(&c)) break;
			if (depth == 0 || !ts_tree_cursor_goto_parent(&c)) {
				done = true;
				break;
			}
			depth--;
		}
		if (done) break;
	}
	for (uint32_t d = 0; d <= depth; d++) // only when cut off in the middle
		if (open[d] != UINT32_MAX && out->nodes[open[d]].next == 0) out->nodes[open[d]].next = out->count;
	ts_tree_cursor_delete(&c);
	free(open);
}

kj_tree kj_parse(kj_heap *h, const TSLanguage *lang, const char *text, uint32_t len, uint64_t micros, const size_t *cancel,
	uint32_t max_depth, uint32_t max_nodes) {
	kj_tree out = {0};
	heap = h;
	TSParser *p = ts_parser_new();
	ts_parser_set_language(p, lang);
	ts_parser_set_timeout_micros(p, micros);
	ts_parser_set_cancellation_flag(p, cancel);
	TSTree *t = ts_parser_parse_string(p, NULL, text, len);
	if (t) {
		TSNode root = ts_tree_root_node(t);
		out.has_error = ts_node_has_error(root);
		flatten(root, max_depth, max_nodes, &out);
	} else {
		out.status = 1;
	}
	ts_parser_delete(p); // a grammar's scanner may have memory of its own; the tree has none outside of the heap
	heap = NULL;
	empty_heap(h, KEEP);
	return out;
}

void kj_free(kj_tree t) { free(t.nodes); }
