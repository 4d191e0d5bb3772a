// Package supabase carries the development seed, which the Supabase CLI reads from this folder and
// "server -dev" from the binary. The rest of the folder is configuration and generated SQL.
package supabase

import _ "embed"

// Seed is an idempotent script that makes the demo tenant; it is run by the owner of the database
// after the setup, and only in development: the password in it is public.
//
//go:embed seed.sql
var Seed string
