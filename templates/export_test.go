package templates

import (
	"maps"
	"slices"
)

// SprigNames returns the names of all of sprig's functions.
func SprigNames() []string { return slices.Sorted(maps.Keys(library())) }

// SetMaxWork changes the bound on a rendering's steps.
func SetMaxWork(steps int) { maxWork = steps }

// MaxWork returns the bound on a rendering's steps.
func MaxWork() int { return maxWork }
