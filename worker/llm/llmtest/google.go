package llmtest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// generateRequest is the part of Google's schema that we may send; any other member is a fault.
type generateRequest struct {
	Contents          []content `json:"contents"`
	SystemInstruction *content  `json:"systemInstruction"`
	GenerationConfig  struct {
		Temperature     *float64 `json:"temperature"`
		MaxOutputTokens *int     `json:"maxOutputTokens"`
		TopP            *float64 `json:"topP"`
		TopK            *float64 `json:"topK"`
		StopSequences   []string `json:"stopSequences"`
	} `json:"generationConfig"`
}

type content struct {
	Role  string `json:"role"`
	Parts []struct {
		Text       string `json:"text"`
		InlineData *struct {
			MimeType string `json:"mimeType"`
			Data     []byte `json:"data"`
		} `json:"inlineData"`
	} `json:"parts"`
}

func (g *generateRequest) fault(r *http.Request) string {
	switch {
	case r.URL.Query().Has("key"):
		return "the key stands in the address"
	case len(g.Contents) == 0:
		return "contents is not specified"
	case len(g.GenerationConfig.StopSequences) > 5:
		return "at most 5 stop sequences"
	case g.GenerationConfig.MaxOutputTokens == nil || *g.GenerationConfig.MaxOutputTokens < 1:
		return "maxOutputTokens must be positive"
	}
	for i, one := range g.Contents {
		if one.Role != "user" && one.Role != "model" || len(one.Parts) == 0 {
			return fmt.Sprintf("contents[%d] is invalid", i)
		}
		for _, part := range one.Parts {
			if (part.Text == "") == (part.InlineData == nil) {
				return fmt.Sprintf("contents[%d] has a part that is not exactly one thing", i)
			}
		}
	}
	return ""
}

func (s *Server) google(w http.ResponseWriter, r *http.Request) {
	model, method, _ := strings.Cut(r.PathValue("call"), ":")
	stream := method == "streamGenerateContent"
	var g generateRequest
	body, err := decode(r, &g)
	if err != nil {
		if r.Context().Err() == nil {
			s.t.Errorf("llmtest: a request that Google does not know: %v", err)
		}
		googleError(w, http.StatusBadRequest, "Invalid JSON payload received.", "", "")
		return
	}
	fault := g.fault(r)
	if !stream && method != "generateContent" || stream && r.URL.Query().Get("alt") != "sse" {
		fault = "unknown method " + method
	}
	if fault != "" {
		s.t.Errorf("llmtest: Google refuses the request: %s", fault)
		googleError(w, http.StatusBadRequest, fault, "", "")
		return
	}
	call := Call{Provider: "google", Model: model, Key: r.Header.Get("X-Goog-Api-Key"), Stream: stream, Body: body}
	if g.SystemInstruction != nil {
		for _, part := range g.SystemInstruction.Parts {
			call.System += part.Text
		}
	}
	for _, one := range g.Contents {
		text := ""
		for _, part := range one.Parts {
			text += part.Text
			if part.InlineData != nil {
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
		googleError(w, reply.Status, reply.Message, reply.Reason, reply.RetryAfter)
	case reply.Raw != "":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, reply.Raw)
	case stream:
		s.googleStream(w, r, call, reply)
	default:
		s.googleWhole(w, r, call, reply)
	}
}

// statusNames are the names that Google gives to its statuses.
var statusNames = map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
	429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

func googleError(w http.ResponseWriter, status int, message, reason, retryAfter string) {
	details := []any{}
	if reason != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"})
	}
	if _, err := strconv.Atoi(retryAfter); err == nil {
		// Google sends the wait here; the header is what a proxy in front of Google would add.
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retryAfter + "s"})
	}
	sendJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "status": statusNames[status], "details": details}})
}

func (s *Server) chunk(call Call, reply Reply, text string, last bool) map[string]any {
	candidate := map[string]any{"index": 0}
	if text != "" {
		candidate["content"] = map[string]any{"role": "model", "parts": []any{
			map[string]any{"text": "a thought", "thought": true}, map[string]any{"text": text}}}
	}
	answer := map[string]any{"modelVersion": call.Model, "responseId": "resp_test", "candidates": []any{candidate}}
	if !reply.NoUsage {
		answer["usageMetadata"] = map[string]any{"promptTokenCount": reply.Input, "totalTokenCount": reply.Input}
	}
	if last {
		stop := stopOf(reply, "STOP")
		switch {
		case stop == "NO_CANDIDATE":
			delete(answer, "candidates")
		case strings.HasPrefix(stop, "PROMPT_"):
			delete(answer, "candidates")
			answer["promptFeedback"] = map[string]any{"blockReason": strings.TrimPrefix(stop, "PROMPT_")}
		default:
			candidate["finishReason"] = stop
		}
		if !reply.NoUsage {
			answer["usageMetadata"] = map[string]any{"promptTokenCount": reply.Input, "candidatesTokenCount": reply.Output,
				"thoughtsTokenCount": reply.Thoughts, "toolUsePromptTokenCount": reply.ToolUse,
				"totalTokenCount": reply.Input + reply.Output + reply.Thoughts + reply.ToolUse}
		}
	}
	return answer
}

func (s *Server) googleWhole(w http.ResponseWriter, r *http.Request, call Call, reply Reply) {
	switch {
	case reply.Hold:
		s.wait(r, -1)
	case reply.Break:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"candidates": [`)
		_ = http.NewResponseController(w).Flush()
		cut(w)
	default:
		sendJSON(w, http.StatusOK, s.chunk(call, reply, strings.Join(reply.Pieces, ""), true))
	}
}

func (s *Server) googleStream(w http.ResponseWriter, r *http.Request, call Call, reply Reply) {
	w.Header().Set("Content-Type", "text/event-stream")
	e := events{w, reply.Comments}
	for _, piece := range reply.Pieces {
		if reply.Pause > 0 && !s.wait(r, reply.Pause) {
			return
		}
		e.send("", s.chunk(call, reply, piece, false))
	}
	switch {
	case reply.Hold:
		_ = http.NewResponseController(w).Flush()
		s.wait(r, -1)
	case reply.Break:
		cut(w)
	case reply.StreamError != "":
		status := 0
		for code, name := range statusNames {
			if name == reply.StreamError {
				status = code
			}
		}
		e.send("", map[string]any{"error": map[string]any{"code": status, "message": reply.Message, "status": reply.StreamError}})
	default:
		e.send("", s.chunk(call, reply, "", true))
	}
}
