package chunk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// ErrChunking is the error of a webhook whose answer violates contract 10, section 18.3: CHUNKING_FAILED.
var ErrChunking = errors.New("the chunking webhook failed")

// CodeChunkingFailed is the code of ErrChunking in rows and events.
const CodeChunkingFailed = "CHUNKING_FAILED"

const (
	customTries    = 2
	customTimeout  = 30 * time.Second // of one try
	customPause    = time.Second      // before the second
	maxChunks      = 10_000
	maxChunkBytes  = 64 << 10
	maxMisses      = 64       // after so many chunks that are not in the text, no further chunk is searched
	maxAnswerBytes = 64 << 20 // eight times the largest file; the limits above would allow ten times as much
)

// Endpoint is the webhook that makes custom chunks.
type Endpoint struct {
	URL    string
	Secret string // of settings, whsec_...; signs the request
}

// Request names one file.
type Request struct {
	ProjectID string
	RunID     string
	Path      string
	Text      string
	File      *parse.File
}

type payload struct {
	ProjectID string      `json:"projectId"`
	RunID     string      `json:"runId"`
	File      payloadFile `json:"file"`
}

type payloadFile struct {
	Path     string `json:"path"`
	Language string `json:"language"`
	Content  string `json:"content"`
}

// Custom posts a file to the webhook and returns its chunks. The client must refuse addresses that are not public;
// redirects are not followed. There are two attempts of 30 seconds each, the second only after a failed transfer or a
// status other than 2xx. The error is ErrChunking, or that of ctx. The caller makes at most four calls at once.
//
// A chunk that occurs in the text, after the chunk before it, gets the offsets and lines of that occurrence. Any other
// chunk gets the lines of the whole file and offsets of -1.
func Custom(ctx context.Context, client *http.Client, to Endpoint, r Request) ([]Chunk, error) {
	language := r.File.Language
	body, err := json.Marshal(payload{r.ProjectID, r.RunID, payloadFile{r.Path, language, r.Text}})
	if err != nil {
		return nil, fmt.Errorf("%w: encode %s: %w", ErrChunking, r.Path, err)
	}
	still := *client
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var last error
	for try := range customTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(customPause):
			}
		}
		answers, err := post(ctx, &still, to, r, body)
		if err == nil {
			return r.chunks(answers), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		last = err
		if errors.Is(err, errShape) {
			break
		}
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrChunking, r.Path, last)
}

// Sign returns the signature header of a body sent at a time: contract 40, section 8.4.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(t))
	m.Write([]byte{'.'})
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

func post(ctx context.Context, client *http.Client, to Endpoint, r Request, body []byte) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, customTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errShape, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Kijko")
	req.Header.Set("X-Kijko-Event", "file.chunk")
	// The id is the same for both attempts and for a run taken over by another worker, so that the receiver can recognize
	// repeats.
	req.Header.Set("X-Kijko-Delivery", uuid.NewSHA1(uuid.NameSpaceURL, []byte("kijko:chunk:"+r.RunID+"\x00"+r.Path)).String())
	req.Header.Set("X-Kijko-Signature", Sign(to.Secret, time.Now(), body))
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // lets the connection be reused
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	return read(res.Body)
}

// errShape is an invalid answer that a second attempt would not improve.
var errShape = errors.New("bad answer")

type answer struct {
	Content  *string         `json:"content"`
	Metadata json.RawMessage `json:"metadata"`

	typ      Type
	metadata map[string]any
}

// read decodes the answer chunk by chunk, so that an answer that exceeds a limit is refused before it is fully in memory.
func read(body io.Reader) ([]answer, error) {
	limited := &io.LimitedReader{R: body, N: maxAnswerBytes + 1}
	d := json.NewDecoder(limited)
	shape := func(err error, what string) error {
		var syntax *json.SyntaxError
		var typ *json.UnmarshalTypeError
		switch {
		case limited.N <= 0:
			return fmt.Errorf("%w: longer than %d bytes", errShape, maxAnswerBytes)
		case err == nil || errors.As(err, &syntax) || errors.As(err, &typ) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %s", errShape, what)
		}
		return err // the transfer broke off
	}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, shape(err, "no JSON object")
	}
	var list []answer
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, shape(err, "no JSON object")
		}
		if name != "chunks" || found {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, shape(err, "invalid JSON")
			}
			continue
		}
		found = true
		if t, err := d.Token(); err != nil || t != json.Delim('[') {
			return nil, shape(err, "chunks is no array")
		}
		for d.More() {
			if len(list) == maxChunks {
				return nil, shape(nil, "more than 10,000 chunks")
			}
			var a answer
			if err := d.Decode(&a); err != nil {
				return nil, shape(err, fmt.Sprintf("chunk %d is no object with content", len(list)))
			}
			if what := a.check(); what != "" {
				return nil, shape(nil, fmt.Sprintf("chunk %d %s", len(list), what))
			}
			list = append(list, a)
		}
		if _, err := d.Token(); err != nil {
			return nil, shape(err, "invalid JSON")
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, shape(err, "invalid JSON")
	}
	if len(list) == 0 {
		return nil, shape(nil, "no chunks")
	}
	return list, nil
}

// check returns the fault of a chunk, or "".
func (a *answer) check() string {
	switch {
	case a.Content == nil || *a.Content == "":
		return "has no content"
	case len(*a.Content) > maxChunkBytes:
		return "is longer than 64 KiB"
	case strings.IndexByte(*a.Content, 0) >= 0:
		return "contains a NUL character"
	}
	if len(a.Metadata) == 0 || string(a.Metadata) == "null" {
		return ""
	}
	if err := json.Unmarshal(a.Metadata, &a.metadata); err != nil {
		return "has metadata that is no object"
	}
	v, ok := a.metadata["type"]
	if !ok || v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok || !slices.Contains(Types[:], Type(s)) {
		return "has an unknown type"
	}
	a.typ = Type(s)
	return ""
}

// chunks finds the positions of the answers in the text.
func (r Request) chunks(answers []answer) []Chunk {
	c := &cutter{text: r.Text, cuts: cuts(r.File, r.Text)}
	decls := flat(r.File.Decls)
	out := make([]Chunk, 0, len(answers))
	from, line, counted, misses := 0, 1, 0, 0
	for order, a := range answers {
		content := *a.Content
		k := Chunk{
			Order: order, StartByte: -1, EndByte: -1, StartLine: 1, EndLine: max(1, r.File.Lines), Content: content,
			Tokens: token.Count(content), Hash: Hash(content), Type: a.typ, Metadata: a.metadata, ParentID: SectionID(r.Path, ""),
		}
		at := -1
		if misses < maxMisses {
			at = strings.Index(r.Text[from:], content)
		}
		if at < 0 {
			misses++
		} else {
			k.StartByte = from + at
			k.EndByte = k.StartByte + len(content)
			k.StartColumn, k.EndColumn = columns(r.Text, k.StartByte, k.EndByte)
			verbatim := parse.VerbatimLines(r.File.Verbatim)
			k.Hash = k.hash(r.File.Layout, &verbatim)
			line += strings.Count(r.Text[counted:k.StartByte], "\n")
			counted = k.StartByte
			k.StartLine = line
			k.EndLine = line + strings.Count(strings.TrimSuffix(content, "\n"), "\n")
			k.OnBoundaryStart, k.OnBoundaryEnd = c.boundary(k.StartByte), c.boundary(k.EndByte)
			k.Section = section(r.File.Decls, k.StartByte, k.EndByte)
			k.ParentID = SectionID(r.Path, k.Section)
			for _, d := range decls {
				if d.NameByte >= k.StartByte && d.NameByte < k.EndByte {
					k.declare(d)
				}
			}
			from = k.StartByte // the webhook may return overlapping chunks, but in order
			if k.Type == "" {
				k.Type = kind(r.File, r.Text, k.StartByte, k.EndByte)
			}
		}
		if k.Type == "" {
			k.Type = kind(r.File, r.Text, 0, 0)
		}
		out = append(out, k)
	}
	return out
}
