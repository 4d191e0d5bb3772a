package hypervisa

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"kijko/server/api"
	"kijko/worker/exactjson"
)

// prefix is the part of upstream's paths that is kept whole.
const prefix = "/api/hypervisa/sessions"

// ask makes one call of upstream and returns the body of a success. Everything else is an error.
func (f *Feature) ask(ctx context.Context, c *api.Call, a admission, method, path string) ([]byte, error) {
	leave, err := f.place(ctx, a.UserID)
	if err != nil {
		return nil, err
	}
	defer leave()
	limited, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, method, f.URL+prefix+path, bytes.NewReader(a.Body))
	if err != nil {
		return nil, fmt.Errorf("request of HyperVisa: %w", err)
	}
	request.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"kijko"}, "X-Request-Id": {c.RequestID}, "X-Kijko-User": {a.UserID}, "X-Kijko-Org": {a.OrganizationID}}
	if len(a.Body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := f.client.Do(request)
	if err != nil {
		return nil, failure(ctx, limited, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil && limited.Err() != nil:
		return nil, failure(ctx, limited, err)
	case err != nil:
		return nil, badAnswer("HyperVisa broke off its answer.", err)
	case len(body) > maxAnswer:
		return nil, badAnswer("The answer of HyperVisa is too large.", nil)
	case answer.StatusCode >= 200 && answer.StatusCode < 300:
		return body, nil
	}
	return nil, refusal(answer, body)
}

// errGone means that the client has disconnected and gets no answer.
var errGone = errors.New("the client has gone")

// gone sets a status for the access log; it is never sent.
func gone(c *api.Call) error {
	c.Ctx.Status(499)
	return nil
}

// failure is the answer to a call without an answer.
func failure(ctx, limited context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errGone
	case limited.Err() != nil:
		return api.NewProblem(http.StatusGatewayTimeout, "UPSTREAM_TIMEOUT", "HyperVisa did not answer in time.", "").Because(err)
	}
	return api.Unavailable("HYPERVISA_UNAVAILABLE", "HyperVisa is not reachable", err)
}

func badAnswer(message string, cause error) error {
	return api.NewProblem(http.StatusBadGateway, "API_ERROR", message, "").Because(cause)
}

// refusal is the answer to a refusal by upstream. Its text is for the caller and never logged, because it may repeat a question. A refusal of us
// (401, 403, 407) and a redirect are upstream's faults: they say nothing about the caller's credential.
func refusal(answer *http.Response, body []byte) error {
	status := answer.StatusCode
	text := said(body)
	if text == "" {
		text = strings.TrimSpace(fmt.Sprintf("HyperVisa answered %d %s", status, http.StatusText(status))) + "."
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return badAnswer("HyperVisa does not let this installation in. Ask its operator.", fmt.Errorf("status %d", status))
	case http.StatusNotFound:
		return api.NewProblem(http.StatusNotFound, "SESSION_NOT_FOUND", text, "")
	}
	if status < 400 || status >= 500 {
		return badAnswer(text, fmt.Errorf("status %d", status))
	}
	p := api.NewProblem(status, "HYPERVISA_REFUSED", text, "")
	if seconds, err := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 31); err == nil {
		p.Header = map[string]string{"Retry-After": strconv.FormatUint(seconds, 10)}
	}
	return p
}

// maxText bounds the text of an error that is passed on, in characters.
const maxText = 500

// said returns upstream's {error}, on one line.
func said(body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if exactjson.Unmarshal(body, &e) != nil {
		return ""
	}
	text := []rune(strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(e.Error, ""))), " "))
	return string(text[:min(len(text), maxText)])
}

// isUnknown reports whether upstream does not know the session.
func isUnknown(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}
