package templates

import (
	"errors"
	"strconv"
	"text/template/parse"
)

// rendering is one execution of one template.
type rendering struct {
	t     *Template
	pass  *Pass
	from  *source // the text that is executed
	out   []byte
	limit int // the most bytes that out may have
	used  []string
	work  int // steps taken
	calls int // templates calling one another
}

// scope holds the variables of one template; an inner variable hides an outer
// one of the same name.
type scope struct{ vars []variable }

type variable struct {
	name  string
	value any
}

func (s *scope) push(name string, v any) { s.vars = append(s.vars, variable{name, v}) }

// find returns the innermost variable of that name; the parser has seen its
// declaration.
func (s *scope) find(name string) *variable {
	for i := len(s.vars) - 1; i > 0; i-- {
		if s.vars[i].name == name {
			return &s.vars[i]
		}
	}
	return &s.vars[0]
}

// flow says how the walk through a list of nodes ended.
type flow int

const (
	next flow = iota
	breakLoop
	continueLoop
)

func (r *rendering) run() error {
	r.from, r.limit = r.t.main, r.t.maxOutput
	_, err := r.list(&scope{vars: []variable{{"$", nil}}}, nil, r.t.main.main.Root)
	return err
}

// fail gives err its place. An error that has one already keeps it, and what
// is neither ours nor a failure loses its text.
func (r *rendering) fail(n parse.Node, err error) error {
	var placed *Error
	if errors.As(err, &placed) {
		return err
	}
	var f *failure
	if !errors.As(err, &f) {
		f = fail("the template cannot be rendered")
	}
	return r.from.errorAt(n, f)
}

// spend counts work done at n.
func (r *rendering) spend(n parse.Node, steps int) error {
	if r.work += steps; r.work > r.t.maxSteps {
		return r.fail(n, fail("the template does more work than is allowed"))
	}
	return nil
}

// write appends to the output.
func (r *rendering) write(n parse.Node, s string) error {
	if len(r.out)+len(s) > r.limit {
		return r.fail(n, fail("the output is larger than "+inBytes(r.limit)))
	}
	r.out = append(r.out, s...)
	return r.spend(n, len(s)/64)
}

// inBytes returns a number of bytes in words.
func inBytes(n int) string {
	if n%(1<<20) == 0 {
		return strconv.Itoa(n>>20) + " MiB"
	}
	return strconv.Itoa(n) + " bytes"
}

func (r *rendering) list(s *scope, dot any, l *parse.ListNode) (flow, error) {
	if l == nil {
		return next, nil
	}
	for _, n := range l.Nodes {
		if err := r.spend(n, 1); err != nil {
			return next, err
		}
		if f, err := r.node(s, dot, n); f != next || err != nil {
			return f, err
		}
	}
	return next, nil
}

func (r *rendering) node(s *scope, dot any, n parse.Node) (flow, error) {
	switch n := n.(type) {
	case *parse.TextNode:
		if len(r.out)+len(n.Text) > r.limit {
			return next, r.write(n, string(n.Text))
		}
		r.out = append(r.out, n.Text...)
		return next, r.spend(n, len(n.Text)/64)
	case *parse.ActionNode:
		return next, r.action(s, dot, n)
	case *parse.IfNode:
		return r.branch(s, dot, &n.BranchNode, false)
	case *parse.WithNode:
		return r.branch(s, dot, &n.BranchNode, true)
	case *parse.RangeNode:
		return r.loop(s, dot, n)
	case *parse.TemplateNode:
		return next, r.template(s, dot, n)
	case *parse.BreakNode:
		return breakLoop, nil
	case *parse.ContinueNode:
		return continueLoop, nil
	case *parse.CommentNode:
		return next, nil
	default:
		return next, r.fail(n, fail("this kind of action is not known"))
	}
}

func (r *rendering) action(s *scope, dot any, n *parse.ActionNode) error {
	v, err := r.pipe(s, dot, n.Pipe)
	if err != nil || len(n.Pipe.Decl) > 0 {
		return err
	}
	str, err := asText(v)
	if err != nil {
		return r.fail(n, err)
	}
	return r.write(n, str)
}

// branch executes if, and with, which alone changes dot.
func (r *rendering) branch(s *scope, dot any, b *parse.BranchNode, with bool) (flow, error) {
	mark := len(s.vars)
	defer func() { s.vars = s.vars[:mark] }()
	v, err := r.pipe(s, dot, b.Pipe)
	if err != nil {
		return next, err
	}
	if !truth(v) {
		return r.list(s, dot, b.ElseList)
	}
	if with {
		dot = v
	}
	return r.list(s, dot, b.List)
}

func (r *rendering) template(s *scope, dot any, n *parse.TemplateNode) error {
	var arg any
	if n.Pipe != nil {
		var err error
		if arg, err = r.pipe(s, dot, n.Pipe); err != nil {
			return err
		}
	}
	if err := r.body(r.t.defined[n.Name], arg); err != nil {
		return r.fail(n, err)
	}
	return nil
}

// loop executes range.
func (r *rendering) loop(s *scope, dot any, n *parse.RangeNode) (flow, error) {
	mark := len(s.vars)
	defer func() { s.vars = s.vars[:mark] }()
	v, err := r.pipe(s, dot, n.Pipe)
	if err != nil {
		return next, err
	}
	body := len(s.vars)
	ran := false
	at := tracer{&scope{vars: s.vars[:mark]}, dot}
	err = r.each(n, v, at, func(key, elem any) (flow, error) {
		ran = true
		r.bind(s, n.Pipe, body, key, elem)
		f, err := r.list(s, elem, n.List)
		s.vars = s.vars[:body]
		return f, err
	})
	if err != nil || ran {
		return next, err
	}
	f, err := r.list(s, dot, n.ElseList)
	if f == breakLoop {
		f = next // text/template ends the else branch alone, not the loop around
	}
	return f, err
}

// bind sets the loop's variables; with one, it is the element.
func (r *rendering) bind(s *scope, p *parse.PipeNode, body int, key, elem any) {
	values := []any{key, elem}[2-len(p.Decl):]
	for i, d := range p.Decl {
		if p.IsAssign {
			s.find(d.Ident[0]).value = values[i]
		} else {
			s.vars[body-len(p.Decl)+i].value = values[i]
		}
	}
}

// each calls do for the elements of v until it returns breakLoop or an error.
func (r *rendering) each(n *parse.RangeNode, v any, at tracer, do func(key, elem any) (flow, error)) error {
	step := func(key, elem any) (bool, error) {
		if err := r.spend(n, 1); err != nil {
			return false, err
		}
		f, err := do(key, elem)
		return f != breakLoop && err == nil, err
	}
	if m, ok := asMap(v); ok {
		for _, k := range sortedKeys(m) {
			if more, err := step(k, m[k]); !more {
				return err
			}
		}
		return nil
	}
	if l, ok := asList(v); ok {
		for i, e := range l {
			if more, err := step(i, e); !more {
				return err
			}
		}
		return nil
	}
	return r.eachOther(n, v, at, step)
}

// eachOther goes through what is neither an object nor a list: nothing, or the
// whole numbers below one.
func (r *rendering) eachOther(n *parse.RangeNode, v any, at tracer, step func(key, elem any) (bool, error)) error {
	switch v.(type) {
	case nil, none:
		return nil
	case int, int64, number:
		count, err := asInt(v)
		if err != nil {
			return r.fail(n, err)
		}
		if len(n.Pipe.Decl) > 1 {
			return r.fail(n, fail("range over a number has one variable, not two"))
		}
		for i := range count {
			if more, err := step(nil, i); !more {
				return err
			}
		}
		return nil
	}
	f := fail("range needs a list, an object or a number, not a " + kind(v))
	if t, ok := v.(text); ok {
		f.secret = t.secret
		f.hint = `a JSON array alone is text; its elements are those of: fromJson (secret "NAME")`
	}
	return r.fail(n, at.pipe(n.Pipe.Cmds).about(f, "it"))
}

// pipe evaluates a pipeline and sets the variables it declares.
func (r *rendering) pipe(s *scope, dot any, p *parse.PipeNode) (any, error) {
	var v any
	for i := range p.Cmds {
		var err error
		if v, err = r.command(s, dot, p.Cmds[:i+1], v); err != nil {
			return nil, err
		}
	}
	for _, d := range p.Decl {
		if p.IsAssign {
			s.find(d.Ident[0]).value = v
		} else {
			s.push(d.Ident[0], v)
		}
	}
	return v, nil
}

// command evaluates the last of commands; piped is the result of those before it.
func (r *rendering) command(s *scope, dot any, cmds []*parse.CommandNode, piped any) (any, error) {
	before, cmd := cmds[:len(cmds)-1], cmds[len(cmds)-1]
	id, ok := cmd.Args[0].(*parse.IdentifierNode)
	if !ok {
		return r.operand(s, dot, cmd.Args[0]) // check has seen that it stands alone
	}
	f := functions()[id.Ident]
	if f.lazy {
		return r.andOr(s, dot, cmd, piped, len(before) > 0, id.Ident == "or")
	}
	c := call{r: r, f: f, node: id, nodes: cmd.Args[1:], before: before, s: s, dot: dot}
	c.args = make([]any, 0, len(cmd.Args))
	for _, a := range cmd.Args[1:] {
		v, err := r.operand(s, dot, a)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, v)
	}
	if len(before) > 0 {
		c.args = append(c.args, piped)
	}
	return c.do()
}

// andOr evaluates and, and or, whose arguments are evaluated only until the
// outcome is known.
func (r *rendering) andOr(s *scope, dot any, cmd *parse.CommandNode, last any, piped, or bool) (any, error) {
	var v any
	for _, a := range cmd.Args[1:] {
		var err error
		if v, err = r.operand(s, dot, a); err != nil || truth(v) == or {
			return v, err
		}
	}
	if piped {
		v = last
	}
	return v, nil
}

// operand evaluates one argument.
func (r *rendering) operand(s *scope, dot any, n parse.Node) (any, error) {
	if err := r.spend(n, 1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.NilNode:
		return nil, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		v, _ := constant(n)
		return v, nil
	case *parse.FieldNode:
		return r.fields(n, dot, n.Ident)
	case *parse.VariableNode:
		return r.fields(n, s.find(n.Ident[0]).value, n.Ident[1:])
	case *parse.ChainNode:
		v, err := r.operand(s, dot, n.Node)
		if err != nil {
			return nil, err
		}
		return r.fields(n, v, n.Field)
	case *parse.PipeNode:
		return r.pipe(s, dot, n)
	case *parse.IdentifierNode:
		c := call{r: r, f: functions()[n.Ident], node: n}
		return c.do()
	default:
		return nil, r.fail(n, fail("this kind of operand is not known"))
	}
}

// fields follows keys from one object to the next.
func (r *rendering) fields(n parse.Node, v any, keys []string) (any, error) {
	start := v
	for i, k := range keys {
		var err error
		if v, err = field(v, k, true, r.t.missing); err != nil {
			var f *failure
			if errors.As(err, &f) && f.secret == "" {
				err = follow(start, keys[:i]).about(f, "it")
			}
			return nil, r.fail(n, err)
		}
	}
	return v, nil
}
