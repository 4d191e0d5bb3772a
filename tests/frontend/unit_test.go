package frontend

import (
	"path/filepath"
	"testing"

	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/llm/llmtest"
)

// The package's own tests, with Node's test runner against a real server.
func TestThePackagesOwnTests(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("It adds ", "two numbers.") })
	s := stack.New(t, stack.Models(models))
	worker.Start(t, s)
	folder := workshop(t)
	write(t, filepath.Join(folder, "client.test.mjs"), read(t, filepath.Join(source, "test", "client.test.mjs")))
	t.Log(run(t, folder, []string{"KIJKO_URL=" + s.BaseURL}, "node", "--test", "client.test.mjs"))
}
