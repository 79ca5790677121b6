package templates

import (
	"slices"
	"strings"
	"text/template/parse"
)

// origins say where in secrets a value comes from.
type origins struct {
	from []origin
	// whole says that the value is the one thing at from, and not made of it.
	whole bool
}

// about returns f with the words that what it speaks of is or depends on o.
func (o origins) about(f *failure, what string) *failure {
	if len(o.from) == 0 {
		return f
	}
	is := " depends on "
	switch {
	case o.whole:
		is = " is "
	case strings.HasSuffix(what, "s"):
		is = " depend on "
	}
	named := *f
	named.msg, named.secret = f.msg+"; "+what+is+o.shown(), o.secret()
	return &named
}

// shown lists the places for a message.
func (o origins) shown() string {
	const most = 3
	var list []string
	for _, from := range o.from[:min(len(o.from), most)] {
		list = append(list, from.String())
	}
	if len(o.from) > most {
		list = append(list, "others")
	}
	return strings.Join(list, " and ")
}

// secret returns the secret that all of it is from, or "".
func (o origins) secret() string {
	if len(o.from) == 0 || slices.ContainsFunc(o.from, func(f origin) bool { return f.secret != o.from[0].secret }) {
		return ""
	}
	return o.from[0].secret
}

// with returns what is made of both.
func (o origins) with(other origins) origins {
	made := origins{from: slices.Clone(o.from)}
	for _, f := range other.from {
		if !slices.Contains(made.from, f) {
			made.from = append(made.from, f)
		}
	}
	return made
}

// child returns the origins of a member.
func (o origins) child(key string) origins {
	if !o.whole {
		return o
	}
	return origins{[]origin{o.from[0].child(key)}, true}
}

func wholly(from origin) origins {
	if from.secret == "" {
		return origins{}
	}
	return origins{[]origin{from}, true}
}

// originOf returns where a value that knows it comes from.
func originOf(v any) origin {
	switch v := v.(type) {
	case *object:
		return v.from
	case *array:
		return v.from
	case none:
		return v.from
	case text:
		return origin{secret: v.secret}
	}
	return origin{}
}

// follow returns the origin of what the keys lead to from v, whose members do not
// know theirs where they are text or numbers.
func follow(v any, keys []string) origins {
	from := originOf(v)
	for _, k := range keys {
		m, _ := asMap(v)
		v, from = m[k], from.child(k)
		if from.secret == "" {
			from = originOf(v)
		}
	}
	return wholly(from)
}

// tracer finds origins once something has failed, so that rendering does not pay for
// it: from how the template is written, and from what . and variables hold. A value
// that was put into a variable by itself has lost its own.
type tracer struct {
	s   *scope
	dot any
}

// operand returns the origins of an operand.
func (t tracer) operand(n parse.Node) origins {
	switch n := n.(type) {
	case *parse.DotNode:
		return follow(t.dot, nil)
	case *parse.FieldNode:
		return follow(t.dot, n.Ident)
	case *parse.VariableNode:
		return follow(t.s.find(n.Ident[0]).value, n.Ident[1:])
	case *parse.ChainNode:
		o := t.operand(n.Node)
		for _, key := range n.Field {
			o = o.child(key)
		}
		return o
	case *parse.PipeNode:
		return t.pipe(n.Cmds)
	}
	return origins{}
}

// pipe returns the origins of what the last of commands gives.
func (t tracer) pipe(cmds []*parse.CommandNode) origins {
	var o origins
	var before *parse.CommandNode
	for _, cmd := range cmds {
		o = t.command(cmd, before, o)
		before = cmd
	}
	return o
}

func (t tracer) command(cmd, before *parse.CommandNode, piped origins) origins {
	id, ok := cmd.Args[0].(*parse.IdentifierNode)
	if !ok {
		return t.operand(cmd.Args[0])
	}
	if f := functions()[id.Ident]; f.names == namesSecret {
		if name, known := firstArgument(cmd, before); known && f.reveals {
			return wholly(origin{secret: name})
		}
		return origins{} // a version id is no secret
	}
	args := make([]origins, 0, len(cmd.Args))
	for _, a := range cmd.Args[1:] {
		args = append(args, t.operand(a))
	}
	if before != nil {
		args = append(args, piped)
	}
	if key, known := firstArgument(cmd, nil); known && id.Ident == "field" && len(args) == 2 {
		return args[1].child(key)
	}
	var made origins
	for _, o := range args {
		made = made.with(o)
	}
	return made
}

// about returns f, a failure of the call that names no secret, with the secrets that
// the argument is from, or the arguments if it may be any.
func (c *call) about(f *failure) *failure {
	if f.refused || c.s == nil {
		return f
	}
	if c.bad > 0 || len(c.args) == 1 {
		return c.origins(max(c.bad-1, 0)).about(f, "the argument")
	}
	var all origins
	for i := range c.args {
		all = all.with(c.origins(i))
	}
	return all.about(f, "the arguments")
}

// origins returns those of an argument.
func (c *call) origins(i int) origins {
	if from := originOf(c.args[i]); from.secret != "" {
		return wholly(from)
	}
	t := tracer{c.s, c.dot}
	if i < len(c.nodes) {
		return t.operand(c.nodes[i])
	}
	return t.pipe(c.before)
}
