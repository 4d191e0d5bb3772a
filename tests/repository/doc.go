// Package repository tests rules of the source tree: imports, names, citations.
package repository
