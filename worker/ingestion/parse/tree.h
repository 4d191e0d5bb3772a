// The few declarations of tree-sitter's C interface that tree.c needs. The runtime and the grammars are compiled by
// github.com/smacker/go-tree-sitter; its header is not on our include path. These must agree with its api.h: tree_test.go
// fails if they do not.
#ifndef KIJKO_TREE_H
#define KIJKO_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TSParser TSParser;
typedef struct TSTree TSTree;
typedef struct TSLanguage TSLanguage;
typedef struct { uint32_t context[4]; const void *id; const TSTree *tree; } TSNode;
typedef struct { const void *tree; const void *id; uint32_t context[3]; } TSTreeCursor;

void ts_set_allocator(void *(*)(size_t), void *(*)(size_t, size_t), void *(*)(void *, size_t), void (*)(void *));
TSParser *ts_parser_new(void);
void ts_parser_delete(TSParser *);
bool ts_parser_set_language(TSParser *, const TSLanguage *);
void ts_parser_set_timeout_micros(TSParser *, uint64_t);
void ts_parser_set_cancellation_flag(TSParser *, const size_t *);
TSTree *ts_parser_parse_string(TSParser *, const TSTree *, const char *, uint32_t);
TSNode ts_tree_root_node(const TSTree *);
TSTreeCursor ts_tree_cursor_new(TSNode);
void ts_tree_cursor_delete(TSTreeCursor *);
TSNode ts_tree_cursor_current_node(const TSTreeCursor *);
uint16_t ts_tree_cursor_current_field_id(const TSTreeCursor *);
bool ts_tree_cursor_goto_parent(TSTreeCursor *);
bool ts_tree_cursor_goto_next_sibling(TSTreeCursor *);
bool ts_tree_cursor_goto_first_child(TSTreeCursor *);
uint16_t ts_node_symbol(TSNode);
bool ts_node_is_named(TSNode);
bool ts_node_is_missing(TSNode);
bool ts_node_has_error(TSNode);
uint32_t ts_node_start_byte(TSNode);
uint32_t ts_node_end_byte(TSNode);
uint32_t ts_language_symbol_count(const TSLanguage *);
const char *ts_language_symbol_name(const TSLanguage *, uint16_t);
uint32_t ts_language_field_count(const TSLanguage *);
const char *ts_language_field_name_for_id(const TSLanguage *, uint16_t);

const TSLanguage *tree_sitter_go(void);
const TSLanguage *tree_sitter_typescript(void);
const TSLanguage *tree_sitter_tsx(void);
const TSLanguage *tree_sitter_javascript(void);
const TSLanguage *tree_sitter_python(void);
const TSLanguage *tree_sitter_java(void);
const TSLanguage *tree_sitter_rust(void);
const TSLanguage *tree_sitter_c(void);
const TSLanguage *tree_sitter_cpp(void);
const TSLanguage *tree_sitter_c_sharp(void);
const TSLanguage *tree_sitter_php(void);
const TSLanguage *tree_sitter_ruby(void);
const TSLanguage *tree_sitter_sql(void);

// kj_node is one named node. Nodes lie in pre-order; next is the index after the last node of the subtree.
typedef struct {
	uint32_t start, end, next;
	uint16_t symbol, field;
} kj_node;

// kj_tree is the flattened tree of one text; kj_free releases it.
typedef struct {
	kj_node *nodes;
	uint32_t count;
	uint8_t status; // 0 parsed, 1 stopped by time or cancellation, 2 out of memory
	uint8_t has_error;
	uint8_t truncated;
} kj_tree;

// kj_start replaces tree-sitter's allocator. Call it once, before anything else.
void kj_start(void);

// kj_heap is the memory of one parse after another.
typedef struct kj_heap kj_heap;
kj_heap *kj_heap_new(void);
void kj_heap_delete(kj_heap *);

kj_tree kj_parse(kj_heap *, const TSLanguage *, const char *text, uint32_t len, uint64_t micros, const size_t *cancel,
	uint32_t max_depth, uint32_t max_nodes);
void kj_free(kj_tree);

#endif
