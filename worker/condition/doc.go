// Package condition judges whether something that happened concerns a reflex: the trigger's own patterns (contract 20, section 10.3)
// and the conditions of its owner (section 11). It is the one place where patterns and conditions are judged; Postgres stores them,
// bounds their shape, gives the candidates, and fires.
//
//	Check      conditions as somebody writes them: the stored form, or a *Fault that names the field
//	Judge      conditions and patterns against a Payload
//
// Everything is bounded, because owner and sender may be hostile. Regular expressions are RE2 and small; a payload is parsed once into a
// flat list of nodes; texts are made once a path. What all judgements of one payload may cost together is counted in steps (about a
// nanosecond each), not in time, so that the answer does not depend on the machine: beyond them the judgement is an error, ErrTooCostly.
//
// A Judge is safe for concurrent use, a Payload belongs to one goroutine. Nothing here starts one.
package condition
