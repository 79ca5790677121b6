package agent

import (
	"errors"
	"fmt"

	"secretsd/agent/store"
	"secretsd/templates"
)

// lacksLabel reports whether no version of a secret carries the label that is followed,
// which is then shown as an empty value.
func lacksLabel(e store.Entry) bool { return e.Version != nil && e.Version.Unlabelled() }

// unlabelledError says of what needs AWSPREVIOUS that there is none.
func unlabelledError(what string) error {
	return &fault{
		err:  fmt.Errorf("%s: no version carries AWSPREVIOUS yet", what),
		hint: "rotate the secret, or let it be absent until then: required: false",
	}
}

// lacking returns the first secret because of which templates could not be rendered, if
// all that is wrong with them is that such secrets lack their label, or "".
func lacking(err error, unlabelled func(name string) bool) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		first := ""
		for i, one := range joined.Unwrap() {
			name := lacking(one, unlabelled)
			if name == "" {
				return ""
			}
			if i == 0 {
				first = name
			}
		}
		return first
	}
	var t *templates.Error
	if errors.As(err, &t) && t.Secret != "" && unlabelled(t.Secret) {
		return t.Secret
	}
	return ""
}
