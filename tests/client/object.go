package client

// Object is a body of JSON.
type Object = map[string]any

// Page is a page of a list.
type Page[T any] struct {
	Data    []T
	Total   int
	HasMore bool
}
