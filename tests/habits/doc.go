// Package habits tests habits.
package habits
