package api

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// WantsEvents reports whether the client prefers a stream of events to one JSON document (RFC 9110, 12.5.1). A weight of 0 means never. The
// higher weight wins. With equal weights the stream wins, if the header names it more closely than by a bare wildcard.
func (c *Call) WantsEvents() bool {
	header := joined(c.Ctx, fiber.HeaderAccept)
	events, named := weight(header, "text", "event-stream")
	whole, _ := weight(header, "application", "json")
	return events > 0 && (events > whole || events == whole && named)
}

// weight returns the weight that an Accept header gives a media type: the weight of the closest range that covers it, 0 when none does. Of
// equally close ranges the highest weight counts. named is false when only `*/*` covers it. A range with parameters is a different media
// type.
func weight(header, kind, subkind string) (q float64, named bool) {
	closest := 0
	for member := range members(header, ',') {
		media, parameters, _ := strings.Cut(member, ";")
		k, s, ok := strings.Cut(strings.TrimSpace(media), "/")
		close := 0
		switch k, s = strings.ToLower(strings.TrimSpace(k)), strings.ToLower(strings.TrimSpace(s)); {
		case !ok:
		case k == kind && s == subkind:
			close = 3
		case k == kind && s == "*":
			close = 2
		case k == "*" && s == "*":
			close = 1
		}
		given, ok := quality(parameters)
		switch {
		case close == 0 || !ok || close < closest:
		case close > closest:
			closest, q = close, given
		default:
			q = max(q, given)
		}
	}
	return q, closest > 1
}

// quality reads the weight among a range's parameters. It returns false for a malformed weight; the range is then ignored.
func quality(parameters string) (float64, bool) {
	for parameter := range members(parameters, ';') {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return q, err == nil && q >= 0 && q <= 1 && !math.Signbit(q)
	}
	return 1, true
}

// matchesTag reports whether If-None-Match holds for the current tag: `*`, or the tag in the list, weakly compared (RFC 9110, 13.1.2).
func matchesTag(c *fiber.Ctx, etag string) bool {
	header := joined(c, fiber.HeaderIfNoneMatch)
	if header == "" {
		return false
	}
	etag = strings.TrimPrefix(etag, "W/")
	for member := range members(header, ',') {
		if member = strings.TrimSpace(member); member == "*" || strings.TrimPrefix(member, "W/") == etag {
			return true
		}
	}
	return false
}

// joined returns a header's value as one list, from any number of header lines.
func joined(c *fiber.Ctx, name string) string {
	lines := c.Request().Header.PeekAll(name)
	switch len(lines) {
	case 0:
		return ""
	case 1:
		return string(lines[0])
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(line)
	}
	return b.String()
}

// members splits a list at a separator, but not inside quotes.
func members(list string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		quoted, from := false, 0
		for i := 0; i < len(list); i++ {
			switch c := list[i]; {
			case c == '"':
				quoted = !quoted
			case c == '\\' && quoted:
				i++
			case c == separator && !quoted:
				if !yield(list[from:i]) {
					return
				}
				from = i + 1
			}
		}
		yield(list[from:])
	}
}

// Patience reads the Prefer headers (RFC 7240): how long the client wants to wait for work, at most longest, and which preference applies.
// Others are ignored, as the RFC wants it.
func (c *Call) Patience(longest time.Duration) (patience time.Duration, applied string) {
	return preference(c.Ctx.Request().Header.PeekAll("Prefer"), longest)
}

func preference(headers [][]byte, longest time.Duration) (patience time.Duration, applied string) {
	patience = longest
	for _, header := range headers {
		for _, one := range strings.Split(string(header), ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(one), "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				return 0, "respond-async"
			case "wait":
				seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
				if err == nil {
					patience, applied = min(time.Duration(seconds)*time.Second, longest), "wait="+strconv.FormatUint(seconds, 10)
				}
			}
		}
	}
	return patience, applied
}
