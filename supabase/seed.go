// Package supabase carries the demo tenant for `server -dev`; the Supabase CLI reads the same file.
package supabase

import _ "embed"

// Seed is seed.sql: idempotent, for development only.
//
//go:embed seed.sql
var Seed string
