// Package ingestion tests ingestion.
package ingestion
