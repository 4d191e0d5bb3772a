package models

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"kijko/server/api"
	"kijko/worker/llm"
)

// defaultWait is the Retry-After of an answer when the provider did not give one.
const defaultWait = 5 * time.Second

// checked adds the members of a problem that the client of these routes reads.
func checked(p *api.Problem, retryable bool) *api.Problem {
	p.Members = map[string]any{"retryable": retryable, "statusCode": p.Status}
	return p
}

// refusal translates the database's error. Of its refusals only that of the rate limit may be retried, and it keeps its usual shape.
func refusal(err error) error {
	p := api.ProblemOf(err)
	switch p.Code {
	case "QUOTA_EXCEEDED", "PROVIDER_NOT_CONFIGURED", "MODEL_NOT_SUPPORTED":
		return checked(p, false)
	}
	return err
}

// Problem is the table of contract 60, section 14. A provider's 401 is never passed on as 401: the client would end its session.
func Problem(err error) *api.Problem {
	var e *llm.Error
	if !errors.As(err, &e) {
		return checked(api.NewProblem(http.StatusInternalServerError, "UNKNOWN_ERROR", "The model could not be asked.", "").Because(err), false)
	}
	var p *api.Problem
	retryable := false
	switch {
	case e.Code == llm.ProviderNotConfigured:
		p = api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", e.Message, "")
	case e.Code == llm.ModelNotSupported:
		p = api.NewProblem(http.StatusBadRequest, "MODEL_NOT_SUPPORTED", e.Message, "model")
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		p = api.NewProblem(http.StatusBadGateway, "INVALID_API_KEY", "The provider refuses the API key. Please check the configuration.", "")
	case e.Code == llm.RateLimited:
		p, retryable = api.NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", e.Message, ""), true
		wait := e.RetryAfter
		if wait <= 0 {
			wait = defaultWait
		}
		p.Header = map[string]string{"Retry-After": strconv.Itoa(int(math.Ceil(wait.Seconds())))}
	case e.Code == llm.ServiceUnavailable:
		p, retryable = api.NewProblem(http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", e.Message, ""), true
	case e.Code == llm.BadRequest:
		p = api.NewProblem(http.StatusBadRequest, "BAD_REQUEST", e.Message, "")
	case e.Code == llm.NetworkError, e.Code == llm.Timeout:
		p, retryable = api.NewProblem(http.StatusGatewayTimeout, "NETWORK_ERROR", e.Message, ""), true
	case e.Code == llm.APIError:
		p, retryable = api.NewProblem(http.StatusBadGateway, "API_ERROR", e.Message, ""), e.Status == http.StatusInternalServerError
	default:
		p = api.NewProblem(http.StatusInternalServerError, "UNKNOWN_ERROR", e.Message, "")
	}
	p = checked(p, retryable).Because(fmt.Errorf("provider status %d: %w", e.Status, err))
	if e.Status >= 300 {
		p.Members["statusCode"] = e.Status
	}
	return p
}

// event returns a problem as the last event of a stream.
func event(p *api.Problem) map[string]any {
	return map[string]any{"code": p.Code, "message": p.Message, "retryable": p.Members["retryable"], "statusCode": p.Members["statusCode"]}
}
