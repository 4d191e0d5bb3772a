package hypervisa

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kijko/server/api"
	"kijko/worker/exactjson"
)

// session is Session of the contract. Other members of upstream are left out.
type session struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	SourceType  string    `json:"source_type"`
	SourcePath  string    `json:"source_path,omitempty"`
	Mode        string    `json:"mode"`
	Model       string    `json:"model"`
	TotalTokens int64     `json:"total_tokens"`
	Status      string    `json:"status"`
	CreatedAt   string    `json:"created_at"`
	Segments    []segment `json:"segments"`
}

type segment struct {
	ID          int64  `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	TokenCount  int64  `json:"token_count"`
	YoutubeURL  string `json:"youtube_url,omitempty"`
	VideoPath   string `json:"video_path,omitempty"`
}

// readSession reads what upstream tells of a session. The client walks over the segments, so they are always a list.
func readSession(raw []byte) (s session, err error) {
	if err := exactjson.Unmarshal(raw, &s); err != nil {
		return s, badAnswer("The answer of HyperVisa is not one that this installation understands.", err)
	}
	if s.Segments == nil {
		s.Segments = []segment{}
	}
	return s, nil
}

// list answers GET /hypervisa/sessions: upstream's list, without the sessions of others.
func (f *Feature) list(c *api.Call) error {
	a, err := f.begin(c, "list_hypervisa_sessions", map[string]any{})
	if err != nil {
		return err
	}
	here, stop := c.Present(c.Context())
	defer stop()
	raw, err := f.ask(here, c, a, http.MethodGet, "")
	if errors.Is(err, errGone) {
		return gone(c)
	}
	if err != nil {
		return err
	}
	var all []json.RawMessage
	if err := exactjson.Unmarshal(raw, &all); err != nil {
		return badAnswer("The answer of HyperVisa is not one that this installation understands.", err)
	}
	own := map[string]bool{}
	for _, id := range a.Sessions {
		own[id] = true
	}
	sessions := []session{}
	for _, one := range all {
		var named struct {
			ID string `json:"id"`
		}
		if exactjson.Unmarshal(one, &named) != nil || !own[named.ID] {
			continue
		}
		s, err := readSession(one)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
	}
	return c.JSON(sessions)
}

// create answers the three POSTs that make a session. Once upstream is asked the client may leave: the session exists, and its owner must be
// recorded.
func (f *Feature) create(kind string) api.Handler {
	return func(c *api.Call) error {
		var body struct {
			Directory string `json:"directory"`
		}
		if err := c.Decode(&body); err != nil {
			return err
		}
		p := map[string]any{"kind": kind, "body": json.RawMessage(c.Body), "seconds": int((f.Timeout + 3*timeout) / time.Second)}
		if directory := f.below(body.Directory); kind == "ingest" && directory != "" {
			p["directory"] = directory
		}
		a, err := f.once(c, p)
		if err != nil {
			return err
		}
		if a.Answer != nil {
			return c.JSON(a.Answer)
		}
		s, err := f.make(context.WithoutCancel(c.Context()), c, a, kind)
		if err != nil {
			return f.refund(c, a, "ingestions", err)
		}
		kept, err := f.end(c, "keep_hypervisa_session", map[string]any{"sessionId": s.ID, "answer": s}, a)
		if err == nil && string(kept.Body) == "true" {
			return c.JSON(s)
		}
		if err == nil {
			return f.refund(c, a, "ingestions", badAnswer("HyperVisa gave the new session an id that is in use. Please try again.", nil))
		}
		// A session without an owner is visible to no caller, so it is not left behind.
		removing, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), timeout)
		defer cancel()
		if _, left := f.ask(removing, c, admission{UserID: a.UserID, OrganizationID: a.OrganizationID}, http.MethodDelete, "/"+url.PathEscape(s.ID)); left != nil {
			f.Log.Warn("a session at HyperVisa has no owner and could not be deleted", "request_id", c.RequestID, "error", left)
		}
		return f.refund(c, a, "ingestions", err)
	}
}

// once begins a creation. A repeated request waits for the end of the first one, and answers the same.
func (f *Feature) once(c *api.Call, p map[string]any) (admission, error) {
	ctx, cancel := context.WithTimeout(c.Context(), f.Timeout)
	defer cancel()
	for {
		a, err := f.begin(c, "begin_hypervisa_session", p)
		if err != nil || !a.IsRunning {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, api.NewProblem(http.StatusGatewayTimeout, "UPSTREAM_TIMEOUT", "HyperVisa did not answer in time.", "")
		case <-time.After(askAgain):
		}
	}
}

// make has upstream create a session.
func (f *Feature) make(ctx context.Context, c *api.Call, a admission, kind string) (s session, err error) {
	var forwarded struct {
		RepoURL string `json:"repo_url"`
	}
	if err := json.Unmarshal(a.Body, &forwarded); err != nil {
		return s, err
	}
	if forwarded.RepoURL != "" {
		resolving, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := f.Guard.Check(resolving, forwarded.RepoURL); err != nil {
			return s, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The host of the repository has no public address.", "repo_url").Because(err)
		}
	}
	raw, err := f.ask(ctx, c, a, http.MethodPost, "/"+kind)
	if isUnknown(err) {
		// There is no session yet that could be unknown.
		api.ProblemOf(err).Code = "HYPERVISA_REFUSED"
	}
	if err != nil {
		return s, err
	}
	if s, err = readSession(raw); err != nil {
		return s, err
	}
	if s.ID == "" || len([]rune(s.ID)) > 200 || s.ID == "." || s.ID == ".." || strings.ContainsFunc(s.ID, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }) {
		return s, badAnswer("HyperVisa gave the new session no id that can be used.", nil)
	}
	return s, nil
}

// query answers POST /hypervisa/sessions/{id}/query. The question ends when the client disconnects; its unit is spent then.
func (f *Feature) query(c *api.Call) error {
	id := c.Path("hypervisaSessionId")
	a, err := f.begin(c, "begin_hypervisa_query", map[string]any{"hypervisaSessionId": id, "body": json.RawMessage(c.Body)})
	if err != nil {
		return err
	}
	here, stop := c.Present(c.Context())
	defer stop()
	raw, err := f.ask(here, c, a, http.MethodPost, "/"+url.PathEscape(id)+"/query")
	if errors.Is(err, errGone) {
		return gone(c)
	}
	var answer struct {
		Response *string `json:"response"`
	}
	if err == nil && (exactjson.Unmarshal(raw, &answer) != nil || answer.Response == nil) {
		err = badAnswer("The answer of HyperVisa is not one that this installation understands.", nil)
	}
	if err != nil {
		err = f.refund(c, a, "oracle_queries", err)
		if isUnknown(err) {
			if failed := f.forget(c, a, id); failed != nil {
				return failed
			}
		}
		return err
	}
	var asked struct {
		Prompt string `json:"prompt"`
	}
	if err := json.Unmarshal(a.Body, &asked); err != nil {
		return err
	}
	return c.JSON(map[string]string{"session_id": id, "prompt": asked.Prompt, "response": *answer.Response})
}

// remove answers DELETE /hypervisa/sessions/{id}.
func (f *Feature) remove(c *api.Call) error {
	id := c.Path("hypervisaSessionId")
	a, err := f.begin(c, "begin_hypervisa_deletion", map[string]any{"hypervisaSessionId": id})
	if err != nil || a.IsDone {
		if err == nil {
			err = c.Reply(api.Answer{})
		}
		return err
	}
	_, err = f.ask(context.WithoutCancel(c.Context()), c, a, http.MethodDelete, "/"+url.PathEscape(id))
	if err != nil && !isUnknown(err) {
		return err
	}
	if failed := f.forget(c, a, id); failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return c.Reply(api.Answer{})
}
