package templates

import "text/template/parse"

// fixedVariable returns the string that a variable of the template looked at holds, if
// all that ever sets a variable of that name there is the same literal string. One of
// several strings is known only when the template is rendered: not all of them need
// be names of secrets.
func (c *checker) fixedVariable(name string) (value string, known bool) {
	fixed, ok := c.fixed[c.root]
	if !ok {
		fixed = fixedVariables(c.root)
		if c.fixed == nil {
			c.fixed = make(map[*parse.ListNode]map[string]string)
		}
		c.fixed[c.root] = fixed
	}
	value, known = fixed[name]
	return value, known
}

// fixedVariables returns all such variables below a node.
func fixedVariables(root parse.Node) map[string]string {
	fixed, other := make(map[string]string), map[string]bool{"$": true}
	elements := make(map[*parse.PipeNode]bool)
	walk(root, func(n parse.Node) {
		if r, ok := n.(*parse.RangeNode); ok {
			elements[r.Pipe] = true // its variables are not what the pipeline gives
		}
		p, ok := n.(*parse.PipeNode)
		if !ok {
			return
		}
		for _, d := range p.Decl {
			name := d.Ident[0]
			value, literal := literalPipe(p)
			if before, again := fixed[name]; elements[p] || !literal || again && before != value {
				other[name] = true
			}
			fixed[name] = value
		}
	})
	for name := range other {
		delete(fixed, name)
	}
	return fixed
}

// literalPipe returns the string of a pipeline that is nothing but a literal one.
func literalPipe(p *parse.PipeNode) (value string, ok bool) {
	if len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return "", false
	}
	s, ok := bare(p.Cmds[0].Args[0]).(*parse.StringNode)
	if !ok {
		return "", false
	}
	return s.Text, true
}
