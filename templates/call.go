package templates

import (
	"errors"
	"strconv"
	"text/template/parse"
)

// Function documents one function of the template language.
type Function struct {
	// Name is the name templates call it by.
	Name string
	// Group is the chapter it belongs to, for example "text" or "JSON".
	Group string
	// Signature is a call with its arguments in capitals, for example
	// "default FALLBACK VALUE". The last argument may come through a pipe.
	Signature string
	// Doc is one line on what it does.
	Doc string
	// Example is a template that uses it, and Result what that renders to with
	// the secrets that FUNCTIONS.md shows.
	Example, Result string
}

// function is one row of the function table.
type function struct {
	Function
	// min and max are how many arguments it takes; max is -1 for any number.
	min, max int
	// names says what the first argument names.
	names naming
	// reveals says that the result may hold a value of a secret whatever the
	// arguments are.
	reveals bool
	// lazy marks the functions and, or: the evaluator executes them itself.
	lazy bool
	run  func(*call) (any, error)
}

// arity returns the number of arguments in words.
func (f *function) arity() string {
	plural := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return strconv.Itoa(n) + " arguments"
	}
	switch {
	case f.max < 0:
		return "at least " + plural(f.min)
	case f.min == f.max:
		return plural(f.min)
	default:
		return strconv.Itoa(f.min) + " to " + plural(f.max)
	}
}

// call is one call of a function.
type call struct {
	r     *rendering
	f     *function
	node  *parse.IdentifierNode
	nodes []parse.Node // the arguments' nodes, without a piped one
	args  []any
	// before are the commands whose result is piped in, and s and dot what the
	// arguments are evaluated with.
	before []*parse.CommandNode
	s      *scope
	dot    any
	// bad is the number of the argument that cannot be converted, counted from 1, or 0
	// if it is not one alone that is wrong.
	bad int
}

// literal reports whether argument i is a string constant in the template, so
// that a message may repeat it.
func (c *call) literal(i int) bool {
	if i >= len(c.nodes) {
		return false
	}
	_, ok := c.nodes[i].(*parse.StringNode)
	return ok
}

// do runs the call and accounts for it.
func (c *call) do() (any, error) {
	v, err := c.guarded()
	if err != nil {
		return nil, c.r.fail(c.node, c.explain(err))
	}
	cost, err := size(v)
	if err != nil {
		return nil, c.r.fail(c.node, c.explain(err))
	}
	work := 4 + cost
	for _, a := range c.args {
		cost, _ := size(a)
		work += cost
	}
	if err := c.r.spend(c.node, work); err != nil {
		return nil, err
	}
	return v, nil
}

// guarded runs the function, with a panic inside a library as an error: what it
// says is dropped, as for every error of a library.
func (c *call) guarded() (v any, err error) {
	defer func() {
		if recover() != nil {
			err = errLibrary
		}
	}()
	switch c.f.names { // these come back to the evaluator, which the table cannot name
	case namesFile:
		return c.includeFile()
	case namesTemplate:
		return c.executeTemplate()
	}
	return c.f.run(c)
}

var errLibrary = fail("it cannot be done with these arguments")

// explain puts the function's name before the reason.
func (c *call) explain(err error) error {
	var placed *Error
	if errors.As(err, &placed) {
		return err
	}
	var f *failure
	if !errors.As(err, &f) {
		f = errLibrary
	}
	if f.err != nil || f.secret != "" {
		return f // about a secret, not about the function
	}
	return c.about(&failure{msg: c.f.Name + ": " + f.msg, hint: f.hint, refused: f.refused})
}

var errTooBig = fail("a value is larger than 1 MiB, or a list longer than 100000 elements")

// size returns the work of handling v once, and an error if v is larger than a
// value may be.
func size(v any) (steps int, err error) {
	n, limit := 0, maxText
	switch v := v.(type) {
	case string:
		n = len(v)
	case text:
		n = len(v.s)
	case []byte:
		n = len(v)
	case []any:
		n, limit = len(v), maxList
	case []string:
		n, limit = len(v), maxList
	case []int:
		n, limit = len(v), maxList
	case map[string]any:
		n, limit = len(v), maxList
	}
	if n > limit {
		return 0, errTooBig
	}
	const most = 8 * maxText
	left := most
	weigh(v, &left, 0)
	return (most - max(left, 0)) / 16, nil
}

// weigh takes from left the bytes that v holds, and some for every element, in
// depth: comparing or printing a list is as much work as what is in it.
func weigh(v any, left *int, depth int) {
	const element = 64
	*left -= element
	if *left < 0 || depth > maxNesting {
		return
	}
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case text:
		*left -= len(v.s)
	case []byte:
		*left -= len(v)
	case *object:
		*left -= len(v.raw)
	case *array:
		*left -= len(v.raw)
	case []int:
		*left -= element * len(v)
	case []string:
		for _, s := range v {
			*left -= element + len(s)
		}
	case []any:
		for i := 0; i < len(v) && *left >= 0; i++ {
			weigh(v[i], left, depth+1)
		}
	case map[string]any:
		for k, e := range v {
			if weigh(e, left, depth+1); *left < 0 {
				return
			}
			*left -= len(k)
		}
	}
}

// within returns an error if n copies of something of size each, and more, are
// larger than a value may be: functions that multiply ask before they start.
func within(more, n, each int) error {
	if n > 0 && each > 0 && (n > maxText || each > maxText || n*each+more > maxText) {
		return errTooBig
	}
	return nil
}
