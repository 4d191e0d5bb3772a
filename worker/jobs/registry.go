package jobs

import (
	"kijko/worker/registry"
	"kijko/worker/runner"
)

// registryRuns is how many MCP servers are connected at once; each mostly waits.
const registryRuns = 10

// RegistryRun: {"serverId"} connects an MCP server and reads its tools; {"sync": true} synchronizes the registry of servers. A server has a
// lease of 30 s. It is tried three times, 2 s and 10 s apart, then its status is error; an attempt whose worker died counts. A
// synchronization has the unique key registry.sync while it waits, and is not repeated: the schedule brings the next one within an hour.
func RegistryRun(e *registry.Engine) runner.Batch {
	return runner.Batch{Name: "registry.run", Queue: "registry", Slots: registryRuns, Take: e.Take}
}
