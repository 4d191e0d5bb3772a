package connections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// callTime is the limit of one request unless the configuration says otherwise. An operation of several requests also has the limit of
	// its caller.
	callTime = 15 * time.Second
	// maxAnswer bounds an answer that is held in memory. An answer that is only counted in is bounded by maxCounted: the tree of a
	// repository of 100,000 files has some 25 MB at GitHub.
	maxAnswer  = 8 << 20
	maxCounted = 64 << 20
	maxHops    = 3
)

// Reason classifies a refusal.
type Reason string

// The reasons.
const (
	// Unauthorized: the provider does not accept the token, or requires one.
	Unauthorized Reason = "unauthorized"
	// Forbidden: the provider accepts the token, but not for this request.
	Forbidden Reason = "forbidden"
	// NotFound: there is no such object, or the caller may not see it.
	NotFound Reason = "not found"
	// Limited: too many requests.
	Limited Reason = "limited"
	// Unavailable: the provider is unreachable, too slow, failed, or sent an answer that cannot be read.
	Unavailable Reason = "unavailable"
)

// Refusal is the error of a call that brought no usable answer.
type Refusal struct {
	Provider string
	Reason   Reason
	Status   int
	// RetryAfter is the wait that the provider asks for; 0 if it does not say.
	RetryAfter time.Duration
	cause      error
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("%s: %s", r.Provider, r.Reason)
	if r.Status > 0 {
		text += fmt.Sprintf(" (status %d)", r.Status)
	}
	if r.cause != nil {
		text += ": " + r.cause.Error()
	}
	return text
}

// Unwrap gives the technical cause, for the log.
func (r *Refusal) Unwrap() error { return r.cause }

// ReasonOf is the reason of an error that is a refusal, "" of others.
func ReasonOf(err error) Reason {
	if r, ok := errorAs(err); ok {
		return r.Reason
	}
	return ""
}

var (
	errNoAccount = errors.New("the answer names no account")
	errNoAddress = errors.New("no address to ask")
)

func errorAs(err error) (*Refusal, bool) {
	var r *Refusal
	ok := errors.As(err, &r)
	return r, ok
}

// service is one address of a provider.
type service struct {
	provider string
	base     *url.URL
	client   *http.Client
	accept   string
	timeout  time.Duration // of one request
}

// at builds an address below the base. The segments of the path are escaped already.
func (s *service) at(path string, query url.Values) string {
	address := strings.TrimSuffix(s.base.String(), "/") + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

// get asks for JSON. token may be empty.
func (s *service) get(ctx context.Context, token, address string, into any) (http.Header, error) {
	for range maxHops + 1 {
		header, next, err := s.once(ctx, http.MethodGet, token, address, into)
		if err != nil || next == "" {
			return header, err
		}
		address = next
	}
	return nil, &Refusal{Provider: s.provider, Reason: Unavailable, cause: errors.New("it redirects too often")}
}

// once makes one request; next is the target of a redirect within the same host (renamed repositories).
func (s *service) once(ctx context.Context, method, token, address string, into any) (header http.Header, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, "", &Refusal{Provider: s.provider, Reason: Unavailable, cause: errNoAddress}
	}
	if !strings.EqualFold(request.URL.Host, s.base.Host) || request.URL.Scheme != s.base.Scheme {
		return nil, "", &Refusal{Provider: s.provider, Reason: Unavailable, cause: errors.New("an answer leads to another host")}
	}
	request.Header.Set("Accept", s.accept)
	request.Header.Set("User-Agent", "kijko")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, "", unavailable(s.provider, err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		if to, err := answer.Location(); err == nil && strings.EqualFold(to.Host, s.base.Host) {
			return nil, to.String(), nil
		}
		return nil, "", s.refusal(answer)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, "", s.refusal(answer)
	}
	if into == nil {
		return answer.Header, "", nil
	}
	// A proxy's page in place of an answer also has status 200.
	if media, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); !strings.HasSuffix(media, "json") {
		return nil, "", unavailable(s.provider, fmt.Errorf("it answers with %q", media))
	}
	body := &bounded{from: answer.Body, left: maxAnswer}
	if stream, ok := into.(func(io.Reader) error); ok {
		body.left = maxCounted
		err = stream(body)
	} else {
		err = json.NewDecoder(body).Decode(into)
	}
	if err != nil {
		return nil, "", unavailable(s.provider, fmt.Errorf("read the answer: %w", err))
	}
	return answer.Header, "", nil
}

// refusal reads status and headers of an error answer. The text of the answer is not shown.
func (s *service) refusal(answer *http.Response) *Refusal {
	r := &Refusal{Provider: s.provider, Status: answer.StatusCode, Reason: Unavailable, RetryAfter: retryAfter(answer.Header, time.Now())}
	switch status := answer.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusForbidden &&
		(answer.Header.Get("Retry-After") != "" || answer.Header.Get("X-RateLimit-Remaining") == "0"):
		r.Reason = Limited
	// Azure answers callers without a good token with its sign-in page.
	case status == http.StatusUnauthorized, s.provider == "azure" && (status == http.StatusNonAuthoritativeInfo || status == http.StatusFound):
		r.Reason = Unauthorized
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		r.Reason = Forbidden
	case status == http.StatusNotFound, status == http.StatusGone:
		r.Reason = NotFound
	}
	return r
}

// unavailable keeps the cause for the log. Errors of net/http name the address, which carries no token.
func unavailable(provider string, cause error) *Refusal {
	return &Refusal{Provider: provider, Reason: Unavailable, cause: cause}
}

var errTooLarge = errors.New("the answer is too large")

type bounded struct {
	from io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// retryAfter reads the wait in seconds or as a date, or GitHub's time of reset in Unix seconds.
func retryAfter(header http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if value := header.Get("Retry-After"); value != "" {
		if seconds, err := strconv.Atoi(value); err == nil {
			wait = time.Duration(min(seconds, 86_400)) * time.Second
		} else if at, err := http.ParseTime(value); err == nil {
			wait = at.Sub(now)
		}
	} else if reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64); err == nil && header.Get("X-RateLimit-Remaining") == "0" {
		wait = time.Unix(reset, 0).Sub(now)
	}
	return min(max(wait, 0), 24*time.Hour)
}

var linkOf = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?(\w+)"?`)

// link is the address of a relation in a Link header, or "".
func link(header http.Header, rel string) string {
	for _, value := range header.Values("Link") {
		for _, m := range linkOf.FindAllStringSubmatch(value, -1) {
			if m[2] == rel {
				return m[1]
			}
		}
	}
	return ""
}

// total is the number of items in all, from the headers of a page of one item; -1 if the headers do not say.
func total(header http.Header, names ...string) int {
	for _, name := range names {
		if n, err := strconv.Atoi(header.Get(name)); err == nil && n >= 0 {
			return n
		}
	}
	if last, err := url.Parse(link(header, "last")); err == nil {
		if n, err := strconv.Atoi(last.Query().Get("page")); err == nil && n > 0 {
			return n
		}
	}
	return -1
}

// countIn counts how often pieces of text occur in an answer, which may be far too large to hold in memory.
func countIn(n *int, pieces ...string) func(io.Reader) error {
	return countAll(map[*int][]string{n: pieces})
}

// countAll is countIn for several counts at once.
func countAll(counts map[*int][]string) func(io.Reader) error {
	longest := 1
	for _, pieces := range counts {
		for _, p := range pieces {
			longest = max(longest, len(p))
		}
	}
	add := func(text []byte, sign int) {
		for n, pieces := range counts {
			for _, p := range pieces {
				*n += sign * bytes.Count(text, []byte(p))
			}
		}
	}
	return func(r io.Reader) error {
		buffer, kept := make([]byte, 64<<10), 0
		for {
			read, err := r.Read(buffer[kept:])
			have := buffer[:kept+read]
			// The end is searched again together with the text that follows it.
			end := have[max(0, len(have)-longest+1):]
			add(have, 1)
			add(end, -1)
			kept = copy(buffer, end)
			if errors.Is(err, io.EOF) {
				add(buffer[:kept], 1)
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}
