// Package mcp is the Model Context Protocol server of this installation: assistants and editors search contexts, read files, walk the graph
// and run skills through it. Each tool calls the operations of the REST API as its caller (api.Inside), so scopes, roles, limits, units and
// the activity log are those of the API, and there is no second set of rules.
//
//	serve       one POST: from Fiber to the SDK's handler and back, whole or as a stream
//	gate        what holds for every message: places, panics, the caller that leaves
//	tools       the tools and their arguments
//	resources   files and summaries as resources
//	prompts     the caller's skills as prompts
//	names       contexts, files and symbols by name
//	result      answers within a number of tokens
//	refusal     refusals as words for a model
//	discovery   where clients find the authorization server
//
// # Protocol
//
// The handler of the official SDK is stateless: it speaks 2026-07-28 and the versions with an initialization, keeps no session, and answers
// GET and DELETE with 405. An answer is one JSON document, except to a call of a slow tool that brings a progress token: that is a stream of
// progress notifications and the result. Fiber's adaptor for net/http would gather such a stream, so serve passes it on itself.
//
// # Text
//
// Results are text. Clients hand structured content to the model beside the text, so an answer in both forms would cost its tokens twice.
package mcp
