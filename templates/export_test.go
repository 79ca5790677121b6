package templates

import (
	"maps"
	"slices"
)

// SprigNames returns the names of all of sprig's functions.
func SprigNames() []string { return slices.Sorted(maps.Keys(library())) }
