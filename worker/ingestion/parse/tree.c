#include <stdlib.h>

#include "tree.h"

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

kj_tree kj_parse(TSParser *p, const TSLanguage *lang, const char *text, uint32_t len, uint64_t micros, const size_t *cancel,
	uint32_t max_depth, uint32_t max_nodes) {
	kj_tree out = {0};
	ts_parser_reset(p);
	ts_parser_set_language(p, lang);
	ts_parser_set_timeout_micros(p, micros);
	ts_parser_set_cancellation_flag(p, cancel);
	TSTree *t = ts_parser_parse_string(p, NULL, text, len);
	ts_parser_set_cancellation_flag(p, NULL);
	if (!t) {
		ts_parser_reset(p);
		out.status = 1;
		return out;
	}
	TSNode root = ts_tree_root_node(t);
	out.has_error = ts_node_has_error(root);
	flatten(root, max_depth, max_nodes, &out);
	ts_tree_delete(t);
	return out;
}

void kj_free(kj_tree t) { free(t.nodes); }
