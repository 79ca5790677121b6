package local

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxValueBytes is the quota "length of a secret".
const maxValueBytes = 65536

// violations gathers the constraints of the API model that a request breaks.
// The service reports all of them in one ValidationException.
type violations []string

// add records that the member breaks a constraint. shown is the offending
// value as the service quotes it, or "" for members that hold a secret.
func (v *violations) add(member, shown, constraint string) {
	value := "Value"
	if shown != "" && len(shown) <= 128 {
		value += " '" + shown + "'"
	}
	*v = append(*v, fmt.Sprintf("%s at '%s' failed to satisfy constraint: Member must %s", value, member, constraint))
}

func (v *violations) required(member string, absent bool) {
	if absent {
		*v = append(*v, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", member))
	}
}

func (v *violations) length(member, shown string, n, least, most int) {
	if n < least {
		v.add(member, shown, fmt.Sprintf("have length greater than or equal to %d", least))
	}
	if n > most {
		v.add(member, shown, fmt.Sprintf("have length less than or equal to %d", most))
	}
}

// text checks the length of a member that may be absent.
func (v *violations) text(member string, s *string, least, most int) {
	if s != nil {
		v.length(member, *s, len(*s), least, most)
	}
}

func (v *violations) number(member string, n *int64, most int64) {
	if n == nil {
		return
	}
	shown := fmt.Sprint(*n)
	if *n < 1 {
		v.add(member, shown, "have value greater than or equal to 1")
	}
	if *n > most {
		v.add(member, shown, fmt.Sprintf("have value less than or equal to %d", most))
	}
}

func (v *violations) oneOf(member string, s *string, allowed ...string) {
	if s != nil && !slices.Contains(allowed, *s) {
		v.add(member, *s, "satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

func (v *violations) value(text *string, binary []byte) {
	if text != nil {
		v.length("secretString", "", len(*text), 1, maxValueBytes)
	}
	if binary != nil {
		v.length("secretBinary", "", len(binary), 1, maxValueBytes)
	}
}

func (v *violations) tags(tags []tag) {
	for i, t := range tags {
		v.text(fmt.Sprintf("tags.%d.member.key", i+1), t.Key, 1, 128)
		v.text(fmt.Sprintf("tags.%d.member.value", i+1), t.Value, 0, 256)
	}
}

var filterKeys = []string{"description", "name", "tag-key", "tag-value", "primary-region", "owning-service", "all"}

// filterValue is the pattern of FilterValueStringType in the API model.
var filterValue = regexp.MustCompile(`^!?[a-zA-Z0-9 :_@/+=.\-!]*$`)

func (v *violations) filters(filters []filter) {
	v.length("filters", "", len(filters), 0, 10)
	for i, f := range filters {
		member := fmt.Sprintf("filters.%d.member", i+1)
		v.oneOf(member+".key", f.Key, filterKeys...)
		if f.Values != nil {
			v.length(member+".values", "", len(f.Values), 1, 10)
		}
		for j, s := range f.Values {
			at := fmt.Sprintf("%s.values.%d.member", member, j+1)
			v.length(at, s, len(s), 0, 512)
			if !filterValue.MatchString(s) {
				v.add(at, s, `satisfy regular expression pattern: ^\!?[a-zA-Z0-9 :_@\/\+\=\.\-\!]*$`)
			}
		}
	}
}

// err returns the ValidationException for what was gathered, or nil.
func (v violations) err() *apiError {
	if len(v) == 0 {
		return nil
	}
	plural := ""
	if len(v) > 1 {
		plural = "s"
	}
	return &apiError{
		code:    "ValidationException",
		message: fmt.Sprintf("%d validation error%s detected: %s", len(v), plural, strings.Join(v, "; ")),
	}
}

// checkName holds the recorded rule for names and for ids that are no ARN. It
// allows the exclamation mark of secrets that other services own
// ("rds!cluster-…"), which the recorded text names and the reference does not.
func checkName(name string) *apiError {
	for _, c := range []byte(name) {
		if !isAlphanumeric(c) && strings.IndexByte("-/_+=.@!", c) < 0 {
			return &apiError{
				code:    "ValidationException",
				message: "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
			}
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
