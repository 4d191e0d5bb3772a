package enrichments

import (
	"strings"
	"time"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// maxWait bounds the wait that a provider asks for.
const maxWait = time.Minute

// piece is a chunk of a text: offsets in bytes, the end exclusive; lines from 1, inclusive.
type piece struct {
	start, end         int
	startLine, endLine int
	tokens             int
}

// pieces cuts a text by the strategy of the settings. No piece has more tokens than ChunkSize. A piece begins with the last Overlap tokens
// of the one before it, because a statement on the border belongs to both. f is the parsed text, nil where there is none.
func pieces(f *parse.File, text string, s settings) []piece {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if s.ChunkStrategy == "sliding" {
		return windows(text, s.ChunkSize, s.Overlap)
	}
	limit := s.ChunkSize - s.Overlap
	var ends []int
	if s.ChunkStrategy == "semantic" && f != nil {
		ends = chunk.Sized(f, text, limit)
	} else {
		ends = chunk.Paragraphs(text, limit)
	}
	l := liner{text: text, line: 1}
	var out []piece
	before, start := 0, 0
	for _, end := range ends {
		if strings.TrimSpace(text[start:end]) != "" && len(out) < maxChunks {
			begin := start
			if s.Overlap > 0 && start > 0 {
				begin = tail(text, before, start, s.Overlap)
			}
			out = append(out, l.piece(begin, end))
		}
		before, start = start, end
	}
	return out
}

// tail returns where the last tokens of a stretch begin.
func tail(text string, start, end, tokens int) int {
	all := token.Count(text[start:end])
	if all <= tokens {
		return start
	}
	n, _ := token.Prefix(text[start:end], all-tokens)
	return start + n
}

// windows cuts a text into stretches of size tokens.
func windows(text string, size, overlap int) []piece {
	l := liner{text: text, line: 1}
	var out []piece
	for start := 0; start < len(text) && len(out) < maxChunks; {
		n, _ := token.Prefix(text[start:], size)
		end := start + n
		if strings.TrimSpace(text[start:end]) != "" {
			out = append(out, l.piece(start, end))
		}
		if end == len(text) {
			break
		}
		step := n
		if overlap > 0 {
			step, _ = token.Prefix(text[start:end], size-overlap)
		}
		start += max(1, step)
	}
	return out
}

// liner counts lines for pieces in ascending order of their starts.
type liner struct {
	text     string
	at, line int
}

func (l *liner) piece(start, end int) piece {
	l.line += strings.Count(l.text[l.at:start], "\n")
	l.at = start
	lines := strings.Count(l.text[start:end], "\n")
	if strings.HasSuffix(l.text[start:end], "\n") {
		lines--
	}
	return piece{start: start, end: end, startLine: l.line, endLine: l.line + max(0, lines), tokens: token.Count(l.text[start:end])}
}
