// Package tracing tests the traces of model calls, and compares them with those of Langfuse's own SDK.
package tracing
