package templates

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"text/template/parse"
)

// walk calls visit for n and every node below it, in the order of the text.
func walk(n parse.Node, visit func(parse.Node)) {
	visit(n)
	for _, c := range children(n) {
		walk(c, visit)
	}
}

// children returns the nodes directly below n.
func children(n parse.Node) []parse.Node {
	switch n := n.(type) {
	case *parse.ListNode:
		return n.Nodes
	case *parse.ActionNode:
		return []parse.Node{n.Pipe}
	case *parse.IfNode:
		return branch(&n.BranchNode)
	case *parse.WithNode:
		return branch(&n.BranchNode)
	case *parse.RangeNode:
		return branch(&n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			return []parse.Node{n.Pipe}
		}
	case *parse.PipeNode:
		out := make([]parse.Node, len(n.Cmds))
		for i, c := range n.Cmds {
			out[i] = c
		}
		return out
	case *parse.CommandNode:
		return n.Args
	case *parse.ChainNode:
		return []parse.Node{n.Node}
	}
	return nil
}

func branch(b *parse.BranchNode) []parse.Node {
	out := []parse.Node{b.Pipe, b.List}
	if b.ElseList != nil {
		out = append(out, b.ElseList)
	}
	return out
}

// checker finds what is wrong with a template before any secret is known, and
// what it names: secrets, files, variables.
type checker struct {
	t       *Template
	library *Library
	delims  [2]string
	errs    []*Error
	deep    bool // reported once
	depth   int
	from    *source // the text that is looked at
	root    *parse.ListNode
	// fixed are the variables below each root that hold one literal string only.
	fixed map[*parse.ListNode]map[string]string
	chain []string // the files that lead to it
	calls []called
	// children are the files that each text includes itself.
	children map[*source][]string
	// top says that . is still what the template was started with, and main
	// that $ is.
	top, main bool
	names     names
}

// called is a template that some text calls by name.
type called struct {
	name string
	node parse.Node
	from *source
}

// check looks at the template and all it includes.
func (c *checker) check() {
	c.top, c.main = true, true
	c.source(c.t.main)
	c.t.defined = c.definitions(c.t.main, make(map[*source]map[string]body))
	for _, call := range c.calls {
		if _, ok := c.t.defined[call.name]; !ok {
			c.from = call.from
			c.fail(call.node, "template "+strconv.Quote(call.name)+" is not defined", `a template is defined in the same text or one it includes: {{ define "NAME" }}…{{ end }}`)
		}
	}
}

// source checks one text.
func (c *checker) source(s *source) {
	from, depth, root := c.from, c.depth, c.root
	c.from, c.depth, c.root = s, 0, s.main.Root
	c.node(c.root)
	c.top, c.main = false, false
	for _, name := range slices.Sorted(maps.Keys(s.defined)) {
		c.root = s.defined[name].Root
		c.node(c.root)
	}
	c.from, c.depth, c.root = from, depth, root
}

// fails says that there is something wrong at n.
func (c *checker) fail(n parse.Node, msg, hint string) {
	c.failed(n, &failure{msg: msg, hint: hint})
}

func (c *checker) failed(n parse.Node, err error) {
	var placed *Error
	if errors.As(err, &placed) {
		c.errs = append(c.errs, placed)
		return
	}
	var f *failure
	if !errors.As(err, &f) {
		f = errLibrary
	}
	c.errs = append(c.errs, c.from.errorAt(n, f))
}

// joined returns the errors of one text after those of another, each in the
// order of the text.
func (c *checker) joined() error {
	rank := map[string]int{c.t.main.name: 0}
	for _, err := range c.errs {
		if _, ok := rank[err.File]; !ok {
			rank[err.File] = len(rank)
		}
	}
	slices.SortStableFunc(c.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	errs := make([]error, 0, len(c.errs))
	for _, err := range c.errs {
		if len(errs) == maxErrors {
			errs = append(errs, &Error{Place: Place{File: c.t.main.name}, Msg: "there are more errors"})
			break
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// node checks n and what is below it.
func (c *checker) node(n parse.Node) { c.nested(n, func() { c.at(n) }) }

// nested runs check one level deeper, or reports that n is too deep: nothing
// is left unchecked without an error.
func (c *checker) nested(n parse.Node, check func()) {
	c.depth++
	if c.depth <= maxBlocks {
		check()
	} else if !c.deep {
		c.fail(n, "blocks and parentheses are nested too deeply", "")
		c.deep = true
	}
	c.depth--
}

func (c *checker) at(n parse.Node) {
	switch n := n.(type) {
	case *parse.CommandNode:
		c.command(n, nil)
		return
	case *parse.PipeNode:
		c.pipe(n)
		return
	case *parse.IfNode:
		c.condition(n.Pipe)
		c.node(n.List)
		if n.ElseList != nil {
			c.node(n.ElseList)
		}
		return
	case *parse.WithNode:
		c.rebound(&n.BranchNode)
		return
	case *parse.RangeNode:
		c.rebound(&n.BranchNode)
		return
	case *parse.FieldNode:
		if c.top {
			c.emptyDot(n, n.Ident[0])
		}
	case *parse.VariableNode:
		if c.main && n.Ident[0] == "$" && len(n.Ident) > 1 {
			c.emptyDot(n, n.Ident[1])
		}
	case *parse.NumberNode:
		if _, ok := constant(n); !ok {
			c.fail(n, "the number "+n.Text+" does not fit", "")
		}
	case *parse.TemplateNode:
		c.calls = append(c.calls, called{n.Name, n, c.from})
	}
	for _, child := range children(n) {
		c.node(child)
	}
}

// condition checks what decides about a block.
func (c *checker) condition(p *parse.PipeNode) {
	before := len(c.t.secrets)
	c.node(p)
	for i := range c.t.secrets[before:] {
		use := &c.t.secrets[before+i]
		use.Decides = !use.Test
	}
}

// rebound checks a block in whose body . is something else.
func (c *checker) rebound(b *parse.BranchNode) {
	c.condition(b.Pipe)
	top := c.top
	c.top = false
	c.node(b.List)
	c.top = top
	if b.ElseList != nil {
		c.node(b.ElseList)
	}
}

// emptyDot reports a key asked of the value the template was started with,
// which holds nothing. Inside define it is what the caller passed, and only
// rendering tells.
func (c *checker) emptyDot(n parse.Node, key string) {
	c.fail(n, "."+key+" is asked of nothing: . holds no value here", `a secret's key is (secret "NAME").`+key)
}

func (c *checker) pipe(p *parse.PipeNode) {
	var before *parse.CommandNode
	for i, cmd := range p.Cmds {
		c.nested(cmd, func() { c.command(cmd, before) })
		if id, ok := cmd.Args[0].(*parse.IdentifierNode); ok && id.Ident == "fail" && fixedAll(p.Cmds[:i]) && fixedAll(cmd.Args[1:]) {
			c.show(id)
		}
		before = cmd
	}
}

// show notes that the message of a call of fail holds no value.
func (c *checker) show(id *parse.IdentifierNode) {
	if c.t.shown == nil {
		c.t.shown = make(map[*parse.IdentifierNode]bool)
	}
	c.t.shown[id] = true
}

// fixedAll reports whether all nodes come from the template's text alone.
func fixedAll[N parse.Node](nodes []N) bool {
	return !slices.ContainsFunc(nodes, func(n N) bool { return !fixed(n) })
}

// fixed reports whether the value of n comes from the template's text alone,
// or from what is no secret: variables and version ids.
func fixed(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.StringNode, *parse.NumberNode, *parse.BoolNode, *parse.NilNode:
		return true
	case *parse.PipeNode:
		return len(n.Decl) == 0 && fixedAll(n.Cmds)
	case *parse.CommandNode:
		return fixedAll(n.Args)
	case *parse.IdentifierNode:
		f := functions()[n.Ident]
		return f != nil && !f.reveals
	default:
		return false
	}
}

// command checks one command; before is the one whose result is its last
// argument, or nil.
func (c *checker) command(cmd, before *parse.CommandNode) {
	id, ok := cmd.Args[0].(*parse.IdentifierNode)
	if !ok {
		if _, isNil := cmd.Args[0].(*parse.NilNode); isNil {
			c.fail(cmd, "nil is not a command", "")
		}
		if len(cmd.Args) > 1 || before != nil {
			c.fail(cmd, "a value that is no function is given an argument", "")
		}
		for _, a := range cmd.Args {
			c.argument(a)
		}
		return
	}
	given := len(cmd.Args) - 1
	if before != nil {
		given++
	}
	if c.call(id, given) {
		c.named(id, cmd, before)
	}
	for _, a := range cmd.Args[1:] {
		c.argument(a)
	}
}

// argument checks an operand. A function that stands there alone is called
// without arguments, as text/template does.
func (c *checker) argument(n parse.Node) {
	switch a := n.(type) {
	case *parse.IdentifierNode:
		c.call(a, 0)
		return
	case *parse.ChainNode:
		c.argument(a.Node)
		return
	}
	c.node(n)
}

// call checks that the function exists and takes as many arguments, and
// reports whether that is so.
func (c *checker) call(id *parse.IdentifierNode, given int) bool {
	f := functions()[id.Ident]
	if f == nil {
		c.fail(id, "function "+strconv.Quote(id.Ident)+" is not defined", whyNot(id.Ident))
		return false
	}
	if given < f.min || f.max >= 0 && given > f.max {
		c.fail(id, id.Ident+" takes "+f.arity()+", not "+strconv.Itoa(given), "it is used as: "+f.Signature)
		return false
	}
	return true
}
