package templates

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// naming says what the first argument of a function names.
type naming int

const (
	namesNothing naming = iota
	namesSecret
	namesSecretOrElement // the function has
	namesFile
	namesTemplate
	namesVar
	namesEnv
)

// names are the variables and environment variables that a template names.
type names struct {
	vars, env      map[string]bool
	anyVar, anyEnv bool // some name is computed
}

// named checks the name that a call's first argument gives.
func (c *checker) named(id *parse.IdentifierNode, cmd, before *parse.CommandNode) {
	name, known := firstArgument(cmd, before)
	switch functions()[id.Ident].names {
	case namesSecret:
		c.secret(cmd, before, false)
	case namesSecretOrElement:
		if testsSecret(cmd.Args[1:], before != nil) {
			c.secret(cmd, before, true)
		}
	case namesFile:
		if !known || len(cmd.Args) < 2 {
			c.fail(id, "the name of an included file is computed", `it stands in the template: include "NAME"`)
			return
		}
		c.include(cmd, name)
	case namesTemplate:
		if known {
			c.calls = append(c.calls, called{name, cmd, c.from})
		}
	case namesVar:
		c.variable(cmd, name, known)
	case namesEnv:
		c.environment(cmd, name, known)
	}
}

// firstArgument returns the first argument of a command if it is a literal
// string.
func firstArgument(cmd, before *parse.CommandNode) (name string, known bool) {
	if s, ok := firstNode(cmd, before).(*parse.StringNode); ok {
		return s.Text, true
	}
	return "", false
}

// firstNode returns the first argument of a command, or nil if that is computed by
// the commands before it.
func firstNode(cmd, before *parse.CommandNode) parse.Node {
	switch {
	case len(cmd.Args) > 1:
		return bare(cmd.Args[1])
	case before != nil && len(before.Args) == 1:
		return bare(before.Args[0])
	}
	return nil
}

// bare returns a node without parentheses around it.
func bare(n parse.Node) parse.Node {
	for {
		p, ok := n.(*parse.PipeNode)
		if !ok || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 || len(p.Decl) > 0 {
			return n
		}
		n = p.Cmds[0].Args[0]
	}
}

// testsSecret tells the two meanings of has apart: with a name alone, or with
// nothing but literal strings, it asks for a secret or a key of it; everything
// else is sprig's question whether a list holds an element.
func testsSecret(args []parse.Node, piped bool) bool {
	if len(args) < 2 {
		return len(args) == 0 || !piped
	}
	return !piped && !slices.ContainsFunc(args, func(n parse.Node) bool { _, ok := n.(*parse.StringNode); return !ok })
}

// secret records which secret a call names, or that it is computed.
func (c *checker) secret(cmd, before *parse.CommandNode, test bool) {
	name, known := firstArgument(cmd, before)
	if v, ok := firstNode(cmd, before).(*parse.VariableNode); ok && len(v.Ident) == 1 {
		name, known = c.fixedVariable(v.Ident[0])
	}
	if !known {
		c.t.dynamic = true
		return
	}
	c.t.secrets = append(c.t.secrets, SecretUse{Name: name, Place: c.from.place(int(cmd.Position())), Test: test})
}

func (c *checker) variable(cmd *parse.CommandNode, name string, known bool) {
	if !known {
		c.names.anyVar = true
		return
	}
	if _, ok := c.t.vars[name]; !ok {
		c.fail(cmd, "variable "+strconv.Quote(name)+" is not in the configuration", unknownVar(c.t.vars))
	}
	if c.names.vars == nil {
		c.names.vars = make(map[string]bool)
	}
	c.names.vars[name] = true
}

func unknownVar(vars map[string]string) string {
	if len(vars) == 0 {
		return "variables are set under vars:"
	}
	return "variables set under vars: " + strings.Join(sortedKeys(vars), ", ")
}

func (c *checker) environment(cmd *parse.CommandNode, name string, known bool) {
	if !known {
		c.names.anyEnv = true
		return
	}
	if _, ok := c.t.env[name]; !ok {
		c.failed(cmd, notAllowed(name))
	}
	if c.names.env == nil {
		c.names.env = make(map[string]bool)
	}
	c.names.env[name] = true
}

func notAllowed(name string) *failure {
	return &failure{
		msg:  "environment variable " + strconv.Quote(name) + " is not allowed",
		hint: "name it under allow_env: of this file, or set a variable under vars:",
	}
}

// include checks an included file, on the first time with all it includes.
func (c *checker) include(n parse.Node, name string) {
	name, err := fileName(name)
	if err != nil {
		c.failed(n, err)
		return
	}
	if i := slices.Index(c.chain, name); i >= 0 {
		c.fail(n, "include goes in a circle: "+strings.Join(append(slices.Clone(c.chain[i:]), name), " includes "), "")
		return
	}
	if c.t.files[name] == nil {
		if err := c.load(name); err != nil {
			c.failed(n, c.meantDefined(name, err))
			return
		}
	}
	if c.children == nil {
		c.children = make(map[*source][]string)
	}
	if !slices.Contains(c.children[c.from], name) {
		c.children[c.from] = append(c.children[c.from], name)
	}
}

// meantDefined gives an error about a file the hint that Helm's include, which
// takes the name of a defined template, has another name here.
func (c *checker) meantDefined(name string, err error) error {
	f := new(failure)
	if c.from.defined[name] == nil || !errors.As(err, &f) {
		return err
	}
	return &failure{msg: f.msg, err: f.err, hint: "what a defined template renders to is: executeTemplate " + strconv.Quote(name) + " VALUE"}
}

// load reads an included file, and checks it.
func (c *checker) load(name string) error {
	if c.library == nil {
		return &failure{msg: "there is no directory to include from"}
	}
	if len(c.t.files) == maxFiles {
		return &failure{msg: "the template includes more than 100 files"}
	}
	s, err := c.library.get(name, c.delims)
	if err != nil {
		return err
	}
	if c.t.files == nil {
		c.t.files = make(map[string]*source)
	}
	c.t.files[name] = s
	c.chain = append(c.chain, name)
	top, main := c.top, c.main
	c.top, c.main = false, false
	c.source(s)
	c.top, c.main = top, main
	c.chain = c.chain[:len(c.chain)-1]
	return nil
}

// definitions returns the templates that can be called in a text: its own go
// before those of the files it includes, which must not define the same.
func (c *checker) definitions(s *source, known map[*source]map[string]body) map[string]body {
	if m, ok := known[s]; ok {
		return m
	}
	var m map[string]body
	add := func(name string, b body) {
		if m == nil {
			m = make(map[string]body)
		}
		m[name] = b
	}
	for _, file := range c.children[s] {
		theirs := c.definitions(c.t.files[file], known)
		for _, name := range sortedKeys(theirs) {
			have, twice := m[name]
			if twice && have != theirs[name] && s.defined[name] == nil {
				c.errs = append(c.errs, &Error{
					Place: Place{File: s.name}, Msg: "template " + strconv.Quote(name) + " is defined in " + have.from.name + " and in " + theirs[name].from.name,
					hint: "define it in " + s.name + ", whose own templates go before those it includes, or give one another name",
				})
			}
			add(name, theirs[name])
		}
	}
	for name, tree := range s.defined {
		add(name, body{tree.Root, s})
	}
	known[s] = m
	return m
}

// digest returns the digest of all that a rendering depends on but secrets.
func (c *checker) digest(o Options) [sha256.Size]byte {
	b := make([]byte, 0, len(o.Text)+64)
	put := func(texts ...string) {
		for _, s := range texts {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
	}
	put(o.Text, o.Delims[0], o.Delims[1], strconv.FormatBool(c.t.missing), strconv.Itoa(c.t.maxOutput), strconv.Itoa(c.t.maxSteps))
	for _, name := range sortedKeys(c.t.files) {
		put("include", name, c.t.files[name].text)
	}
	for _, name := range sortedKeys(c.t.vars) {
		if c.names.anyVar || c.names.vars[name] {
			put("var", name, c.t.vars[name])
		}
	}
	for _, name := range sortedKeys(c.t.env) {
		if c.names.anyEnv || c.names.env[name] {
			put("env", name, c.t.env[name].value, strconv.FormatBool(c.t.env[name].found))
		}
	}
	return sha256.Sum256(b)
}
