package templates

import (
	"errors"
	"strconv"
	"strings"
)

// ErrUnknown is what a [Lookup] returns, wrapped or not, for a name that is
// not in the configuration. Such a name is left out of [Result.Used]: the
// template may have computed it from a value.
var ErrUnknown = errors.New("not in the configuration")

// Error is one thing wrong with a template, found when it was parsed or
// rendered. Its text consists of the template's name and place, words of the
// template's own source, names of secrets, names of keys, what a [Lookup]
// said, and fixed words of this package: never of a value, nor of anything
// computed from one.
type Error struct {
	Place
	// Secret is the secret concerned, as the template names it, or empty.
	Secret string
	// Msg says what is wrong, in one line.
	Msg string
	// Err is the cause. It is set when a Lookup failed, and nil otherwise.
	Err error
	// Refused says that the template itself refuses to be rendered, by the
	// function fail.
	Refused bool

	hint string
}

// Error returns "file:line:col: message" in one line, without the hint.
func (e *Error) Error() string { return e.Place.String() + ": " + e.Msg }

// Hint says how to mend it, or is empty.
func (e *Error) Hint() string { return e.hint }

// Unwrap returns the error of the [Lookup], so that errors.Is and errors.As
// reach what the caller's own lookup said.
func (e *Error) Unwrap() error { return e.Err }

// failure is an error on its way to a place: functions and conversions return
// it, and the evaluator adds the template, line and column. Only this type's
// text leaves the package; the text of every other error a library returns is
// dropped, for it may quote a value.
type failure struct {
	msg    string
	hint   string
	secret string
	err    error
	// refused says that the function fail made it.
	refused bool
}

func (f *failure) Error() string { return f.msg }

func (f *failure) Unwrap() error { return f.err }

// fail returns a failure with a fixed text.
func fail(msg string) *failure { return &failure{msg: msg} }

// showKey returns the name of a key as it stands in messages: as it is when it
// is short and plain, else quoted and cut.
func showKey(key string) string {
	key = cut(key)
	if q := strconv.Quote(key); key == "" || q != `"`+key+`"` || strings.ContainsAny(key, " ,:") {
		return q
	}
	return key
}

// showKeys lists sorted keys for a message.
func showKeys(keys []string) string {
	const most = 30
	if len(keys) == 0 {
		return "it has no keys"
	}
	shown := make([]string, 0, min(len(keys), most))
	for _, k := range keys[:min(len(keys), most)] {
		shown = append(shown, showKey(k))
	}
	s := "its keys are: " + strings.Join(shown, ", ")
	if more := len(keys) - most; more > 0 {
		s += " and " + strconv.Itoa(more) + " more"
	}
	return s
}

// cut shortens the name of a key to what a message has room for.
func cut(key string) string { return cutTo(key, 64) }

func cutTo(s string, longest int) string {
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}

// quoteKey returns a name in quotes, cut to what a message has room for.
func quoteKey(key string) string { return strconv.Quote(cut(key)) }
