package chunk

import "kijko/worker/ingestion/parse"

// Sized cuts text at its declarations, or at its paragraphs where it has none, into pieces of at most limit tokens, and returns where they
// end. f must come from parsing this text.
func Sized(f *parse.File, text string, limit int) []int {
	if text == "" {
		return nil
	}
	c := &cutter{text: text, cuts: cuts(f, text), most: limit}
	c.recursive()
	return c.offsets()
}

// Paragraphs cuts text at blank lines into pieces of at most limit tokens, and returns where they end. A longer paragraph is cut at line
// ends, then between characters.
func Paragraphs(text string, limit int) []int {
	if text == "" {
		return nil
	}
	c := &cutter{text: text}
	c.loose(0, len(text), limit, limit)
	return c.offsets()
}

func (c *cutter) offsets() []int {
	ends := make([]int, len(c.ends))
	for i, u := range c.ends {
		ends[i] = u.end
	}
	return ends
}
