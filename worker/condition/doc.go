// Package condition decides whether an event concerns a reflex, by the trigger's own patterns (contract 20, section 10.3) and the
// conditions of its owner (section 11). It is the only package that evaluates patterns and conditions; Postgres stores them, bounds
// their shape, selects the candidates, and fires the reflexes.
//
//	Check      conditions as a caller writes them: the stored form, or a *Fault that names the field
//	Evaluator      conditions and patterns against a Payload
//
// All work is bounded, because owner and sender may be hostile. Regular expressions are RE2 and small. A payload is parsed once into a
// flat list of nodes. Texts are made once per path. The cost of all evaluations of one payload together is counted in steps (about a
// nanosecond each), not in time, so that the answer does not depend on the machine. Beyond the bound the evaluation returns an error,
// ErrTooCostly.
//
// A Evaluator is safe for concurrent use, a Payload belongs to one goroutine. This package starts no goroutine.
package condition
