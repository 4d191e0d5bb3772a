package executions

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// tape is a teller that records the events.
type tape []string

func (t *tape) Send(event string, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	*t = append(*t, event+" "+string(raw))
	return errors.New("nobody listens any more")
}

func TestNarrator(t *testing.T) {
	const begun, ended = `status {"status":"running"}`, `done {"type":"done","result":{"status":"completed","output":"one two three"}}`
	result := json.RawMessage(`{"status":"completed","output":"one two three"}`)
	text := func(s string) string { return `text {"type":"text","content":"` + s + `"}` }
	tell := func(f func(n *narrator)) []string {
		told := &tape{}
		f(&narrator{s: told})
		return *told
	}
	t.Run("PiecesInOrder", func(t *testing.T) {
		require.Equal(t, []string{begun, text("one "), text("two "), text("three"), ended}, tell(func(n *narrator) {
			n.begin()
			n.begin()
			n.text(chunk{0, "one "})
			n.text(chunk{1, "two "})
			n.text(chunk{2, "three"})
			n.end(result)
		}))
	})
	t.Run("AfterALostPieceTheEndHasTheRest", func(t *testing.T) {
		require.Equal(t, []string{begun, text("one "), text("two three"), ended}, tell(func(n *narrator) {
			n.text(chunk{0, "one "})
			n.text(chunk{2, "three"})
			n.text(chunk{1, "two "})
			n.end(result)
		}))
	})
	t.Run("APieceThatCameTwiceIsToldOnce", func(t *testing.T) {
		require.Equal(t, []string{begun, text("one "), text("two three"), ended}, tell(func(n *narrator) {
			n.text(chunk{0, "one "})
			n.text(chunk{0, "one "})
			n.end(result)
		}))
	})
	t.Run("ARunThatNobodySawRunning", func(t *testing.T) {
		require.Equal(t, []string{begun, text("one two three"), ended}, tell(func(n *narrator) { n.end(result) }))
	})
	t.Run("ARunThatNeverRan", func(t *testing.T) {
		require.Equal(t, []string{`done {"type":"done","result":{"status":"cancelled"}}`},
			tell(func(n *narrator) { n.end(json.RawMessage(`{"status":"cancelled"}`)) }))
	})
	t.Run("WhatWasToldIsNoBeginningOfTheOutput", func(t *testing.T) {
		require.Equal(t, []string{begun, text("uno "), ended}, tell(func(n *narrator) {
			n.text(chunk{0, "uno "})
			n.end(result)
		}))
	})
}
