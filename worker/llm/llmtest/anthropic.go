package llmtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// messagesRequest is the part of Anthropic's schema that we may send; any other member is a fault.
type messagesRequest struct {
	Model         *string    `json:"model"`
	MaxTokens     *int       `json:"max_tokens"`
	Messages      []message  `json:"messages"`
	System        []textPart `json:"system"`
	Temperature   *float64   `json:"temperature"`
	TopP          *float64   `json:"top_p"`
	TopK          *int       `json:"top_k"`
	StopSequences []string   `json:"stop_sequences"`
	Stream        bool       `json:"stream"`
}

type message struct {
	Role    string     `json:"role"`
	Content []textPart `json:"content"`
}

type textPart struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Source *struct {
		Type      string `json:"type"`
		MediaType string `json:"media_type"`
		Data      []byte `json:"data"`
	} `json:"source"`
}

// withoutSampling are models that refuse temperature, top_p and top_k.
var withoutSampling = map[string]bool{"claude-opus-4-7": true, "claude-opus-4-8": true, "claude-sonnet-5": true, "claude-opus-5-20270101": true}

// fault returns the fault of a request, or "".
func (m *messagesRequest) fault(h http.Header) string {
	switch {
	case h.Get("Anthropic-Version") != "2023-06-01":
		return "anthropic-version: header is required"
	case m.Model == nil || *m.Model == "":
		return "model: Field required"
	case m.MaxTokens == nil || *m.MaxTokens < 1:
		return "max_tokens: Field required"
	case len(m.Messages) == 0:
		return "messages: at least one message is required"
	case m.Messages[0].Role != "user":
		return "messages: first message must use the \"user\" role"
	case m.Temperature != nil && (*m.Temperature < 0 || *m.Temperature > 1):
		return "temperature: range: 0..1"
	case m.TopP != nil && (*m.TopP <= 0 || *m.TopP > 1):
		return "top_p: range: 0..1"
	case m.TopK != nil && *m.TopK < 0:
		return "top_k: must be positive"
	case withoutSampling[*m.Model] && (m.Temperature != nil || m.TopP != nil || m.TopK != nil):
		return "temperature, top_p and top_k are not supported by this model"
	}
	for i, one := range m.Messages {
		if one.Role != "user" && one.Role != "assistant" || len(one.Content) == 0 {
			return fmt.Sprintf("messages.%d: invalid", i)
		}
		for j, part := range one.Content {
			text := part.Type == "text" && strings.TrimSpace(part.Text) != "" && part.Source == nil
			image := part.Type == "image" && part.Text == "" && part.Source != nil && part.Source.Type == "base64" && len(part.Source.Data) > 0
			if !text && !image {
				return fmt.Sprintf("messages.%d.content.%d: invalid", i, j)
			}
		}
	}
	return ""
}

// decode reads a body strictly, and a second time as a generic map.
func decode(r *http.Request, into any) (map[string]any, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	if err := strict.Decode(into); err != nil {
		return nil, err
	}
	var body map[string]any
	return body, json.Unmarshal(raw, &body)
}

func (s *Server) anthropic(w http.ResponseWriter, r *http.Request) {
	var m messagesRequest
	body, err := decode(r, &m)
	if err != nil {
		if r.Context().Err() == nil {
			s.t.Errorf("llmtest: a request that Anthropic does not know: %v", err)
		}
		anthropicError(w, http.StatusBadRequest, "invalid JSON")
		return
	}
	if fault := m.fault(r.Header); fault != "" {
		s.t.Errorf("llmtest: Anthropic refuses the request: %s", fault)
		anthropicError(w, http.StatusBadRequest, fault)
		return
	}
	call := Call{Provider: "anthropic", Model: *m.Model, Key: r.Header.Get("X-Api-Key"), Stream: m.Stream, Body: body}
	for _, part := range m.System {
		call.System += part.Text
	}
	for _, one := range m.Messages {
		text := ""
		for _, part := range one.Content {
			text += part.Text
			if part.Source != nil {
				call.Images++
			}
		}
		call.Roles, call.Texts, call.Text = append(call.Roles, one.Role), append(call.Texts, text), text
	}
	reply, done := s.take(call)
	defer done()
	if !s.begin(w, r, reply) {
		return
	}
	switch {
	case reply.Status != 0 && reply.Status != http.StatusOK:
		if reply.Raw != "" {
			w.WriteHeader(reply.Status)
			_, _ = io.WriteString(w, reply.Raw)
			return
		}
		anthropicError(w, reply.Status, reply.Message)
	case reply.Raw != "":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, reply.Raw)
	case m.Stream:
		s.anthropicStream(w, r, call, reply)
	default:
		s.anthropicWhole(w, r, call, reply)
	}
}

// errorTypes are the names that Anthropic gives to its statuses.
var errorTypes = map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
	413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error", 529: "overloaded_error"}

func anthropicError(w http.ResponseWriter, status int, message string) {
	kind := errorTypes[status]
	if kind == "" {
		kind = "api_error"
	}
	sendJSON(w, status, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message}, "request_id": "req_test"})
}

func sendJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func stopOf(reply Reply, usual string) string {
	if reply.StopReason != "" {
		return reply.StopReason
	}
	return usual
}

func (s *Server) anthropicWhole(w http.ResponseWriter, r *http.Request, call Call, reply Reply) {
	if reply.Hold {
		s.wait(r, -1)
		return
	}
	if reply.Break {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"id": "msg_`)
		_ = http.NewResponseController(w).Flush()
		cut(w)
		return
	}
	content := []any{}
	if reply.Blocks {
		for _, piece := range reply.Pieces {
			content = append(content, map[string]any{"type": "text", "text": piece})
		}
	} else if text := strings.Join(reply.Pieces, ""); text != "" {
		content = append(content, map[string]any{"type": "text", "text": text})
	}
	sendJSON(w, http.StatusOK, map[string]any{"id": "msg_test", "type": "message", "role": "assistant", "model": call.Model, "content": content,
		"stop_reason": stopOf(reply, "end_turn"), "stop_sequence": nil,
		"usage": messagesUsage(reply, reply.Output)})
}

// messagesUsage counts tokens that came from the cache or went into it separately.
func messagesUsage(reply Reply, output int) map[string]any {
	return map[string]any{"input_tokens": reply.Input - reply.Cached, "output_tokens": output, "cache_read_input_tokens": reply.Cached - reply.Cached/2,
		"cache_creation_input_tokens": reply.Cached / 2, "server_tool_use": map[string]any{"web_search_requests": 0}}
}

// events writes server-sent events.
type events struct {
	w        http.ResponseWriter
	comments bool
}

func (e events) send(name string, value any) {
	raw, _ := json.Marshal(value)
	if e.comments {
		_, _ = io.WriteString(e.w, ": keep-alive\n\n")
	}
	if name != "" {
		_, _ = fmt.Fprintf(e.w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(e.w, "data: %s\n\n", raw)
	_ = http.NewResponseController(e.w).Flush()
}

func (s *Server) anthropicStream(w http.ResponseWriter, r *http.Request, call Call, reply Reply) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	e := events{w, reply.Comments}
	e.send("message_start", map[string]any{"type": "message_start", "message": map[string]any{"id": "msg_test", "type": "message", "role": "assistant",
		"model": call.Model, "content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": messagesUsage(reply, 1)}})
	e.send("ping", map[string]any{"type": "ping"})
	index := 0
	start := func() {
		e.send("content_block_start", map[string]any{"type": "content_block_start", "index": index, "content_block": map[string]any{"type": "text", "text": ""}})
	}
	stop := func() {
		e.send("content_block_stop", map[string]any{"type": "content_block_stop", "index": index})
		index++
	}
	start()
	for i, piece := range reply.Pieces {
		if reply.Pause > 0 && !s.wait(r, reply.Pause) {
			return
		}
		if reply.Blocks && i > 0 {
			stop()
			start()
		}
		e.send("content_block_delta", map[string]any{"type": "content_block_delta", "index": index,
			"delta": map[string]any{"type": "text_delta", "text": piece}})
	}
	switch {
	case reply.Hold:
		s.wait(r, -1)
		return
	case reply.Break:
		cut(w)
		return
	case reply.StreamError != "":
		e.send("error", map[string]any{"type": "error", "error": map[string]any{"type": reply.StreamError, "message": reply.Message}})
		return
	}
	stop()
	e.send("message_delta", map[string]any{"type": "message_delta", "delta": map[string]any{"stop_reason": stopOf(reply, "end_turn"), "stop_sequence": nil},
		"usage": map[string]any{"output_tokens": reply.Output}})
	e.send("message_stop", map[string]any{"type": "message_stop"})
}
