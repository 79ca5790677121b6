package templates

import (
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
// which secrets it names.
type checker struct {
	t     *Template
	errs  []error
	deep  bool // reported once
	depth int
	// top says that . is still what the template was started with, and main
	// that $ is.
	top, main bool
}

func (c *checker) template() {
	c.top, c.main = true, true
	c.node(c.t.main.Root)
	c.top, c.main = false, false
	for _, name := range slices.Sorted(maps.Keys(c.t.defined)) {
		c.node(c.t.defined[name].Root)
	}
}

func (c *checker) fail(n parse.Node, msg, hint string) {
	c.errs = append(c.errs, c.t.errorAt(n, &failure{msg: msg, hint: hint}))
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
		if c.t.defined[n.Name] == nil {
			c.fail(n, "template "+strconv.Quote(n.Name)+" is not defined", `a template is defined in the same text: {{ define "NAME" }}…{{ end }}`)
		}
	}
	for _, child := range children(n) {
		c.node(child)
	}
}

// rebound checks a block in whose body . is something else.
func (c *checker) rebound(b *parse.BranchNode) {
	c.node(b.Pipe)
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
	for _, cmd := range p.Cmds {
		c.nested(cmd, func() { c.command(cmd, before) })
		before = cmd
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
	c.call(id, given)
	if f := functions()[id.Ident]; f != nil && f.names {
		c.secretName(cmd, before)
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

// call checks that the function exists and takes as many arguments.
func (c *checker) call(id *parse.IdentifierNode, given int) {
	f := functions()[id.Ident]
	if f == nil {
		c.fail(id, "function "+strconv.Quote(id.Ident)+" is not defined", whyNot(id.Ident))
		return
	}
	if given < f.min || f.max >= 0 && given > f.max {
		c.fail(id, id.Ident+" takes "+f.arity()+", not "+strconv.Itoa(given), "it is used as: "+f.Signature)
	}
}

// secretName records which secret a call names, or that it is computed.
func (c *checker) secretName(cmd, before *parse.CommandNode) {
	var arg parse.Node
	switch {
	case len(cmd.Args) > 1:
		arg = cmd.Args[1]
	case before != nil && len(before.Args) == 1:
		arg = before.Args[0]
	}
	for {
		p, ok := arg.(*parse.PipeNode)
		if !ok || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 || len(p.Decl) > 0 {
			break
		}
		arg = p.Cmds[0].Args[0]
	}
	s, ok := arg.(*parse.StringNode)
	if !ok {
		c.t.dynamic = true
		return
	}
	line, _ := c.t.place(cmd.Position())
	c.t.secrets = append(c.t.secrets, SecretUse{Name: s.Text, File: c.t.name, Line: line})
}
