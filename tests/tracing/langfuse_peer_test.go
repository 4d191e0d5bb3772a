//go:build peers

package tracing

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
	"kijko/worker/telemetry/otlptest"
)

// The record that every run compares with is what the SDK sends today. KIJKO_RECORD=1 writes it.
func TestTheRecordIsWhatTheSDKOfLangfuseSends(t *testing.T) {
	receiver := otlptest.New(t)
	peers.SendBySDK(t, "langfuse", receiver.URL)
	form := formOf(receiver)
	if os.Getenv("KIJKO_RECORD") != "" {
		raw, err := json.MarshalIndent(form, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(recorded, append(raw, '\n'), 0o644))
	}
	require.Equal(t, readRecorded(t), form)
}
