// Package models tests the gateway to models.
package models
