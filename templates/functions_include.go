package templates

import "strconv"

func includeRows() []row {
	return []row{
		{names: "include", args: "FILE [VALUE]", doc: "The text that the file of the template directory renders to. In it, . and $ are VALUE. Its define blocks can be called here; those of the including text go before them.",
			example: `{{ include "greeting.tmpl" (secret "db").user }}`, result: "hello app", fn: neverCalled, min: 1, max: 2, naming: namesFile, reveals: true},
		{names: "executeTemplate", args: "NAME [VALUE]", doc: "The text that a template defined by define or block renders to, for pipes; the action template prints it.",
			example: `{{ define "row" }}a={{ . }}{{ end }}{{ executeTemplate "row" 1 | indent 2 }}`, result: "  a=1", fn: neverCalled, min: 1, max: 2, naming: namesTemplate, reveals: true},
		{names: "var", args: "NAME", doc: "A variable of the configuration, set under vars.",
			example: `{{ var "db_host" }}`, result: "db.internal", fn: variableValue, min: 1, max: 1, naming: namesVar},
		{names: "env", args: "NAME", doc: "The environment variable NAME, as it was when the template was read, or nothing if it is not set. Only those under allow_env can be read.",
			example: `{{ env "ZONE" }}`, result: "eu-1a", fn: envValue, min: 1, max: 1, naming: namesEnv, reveals: true},
		{names: "mustEnv", args: "NAME", doc: "The environment variable NAME; one that is not set, or empty, is an error.",
			example: `{{ mustEnv "ZONE" }}`, result: "eu-1a", fn: mustEnv, min: 1, max: 1, naming: namesEnv, reveals: true},
		{names: "envOrDefault", args: "NAME FALLBACK", doc: "The environment variable NAME, or FALLBACK if it is not set.",
			example: `{{ envOrDefault "UNSET" "eu-1b" }}`, result: "eu-1b", fn: envOrDefault, min: 2, max: 2, naming: namesEnv, reveals: true},
	}
}

func (c *call) includeFile() (any, error) {
	name, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	if name, err = fileName(name); err != nil {
		return nil, err
	}
	s := c.r.t.files[name]
	return c.r.capture(body{s.main.Root, s}, c.args[1:])
}

func (c *call) executeTemplate() (any, error) {
	name, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	b, ok := c.r.t.defined[name]
	if !ok { // check has seen literal names
		return nil, fail("a template whose name is computed is not defined")
	}
	return c.r.capture(b, c.args[1:])
}

// capture renders b and returns its text.
func (r *rendering) capture(b body, value []any) (string, error) {
	var dot any
	if len(value) > 0 {
		dot = value[0]
	}
	out, limit := r.out, r.limit
	r.out, r.limit = nil, min(limit, maxText)
	err := r.body(b, dot)
	text := string(r.out)
	r.out, r.limit = out, limit
	return text, err
}

// body renders b with dot.
func (r *rendering) body(b body, dot any) error {
	if r.calls++; r.calls > maxCalls {
		return fail("templates call one another too deeply")
	}
	from := r.from
	r.from = b.from
	_, err := r.list(&scope{vars: []variable{{"$", dot}}}, dot, b.root)
	r.from = from
	r.calls--
	return err
}

func variableValue(c *call) (any, error) {
	name, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	v, ok := c.r.t.vars[name]
	if !ok {
		return nil, &failure{msg: "a variable whose name is computed is not in the configuration", hint: unknownVar(c.r.t.vars)}
	}
	return v, nil
}

// environment returns the environment variable that the first argument names.
func (c *call) environment() (envVar, error) {
	name, err := asText(c.args[0])
	if err != nil {
		return envVar{}, err
	}
	v, ok := c.r.t.env[name]
	if !ok {
		return v, &failure{msg: "an environment variable whose name is computed is not allowed", hint: notAllowed(name).hint}
	}
	return v, nil
}

func envValue(c *call) (any, error) {
	v, err := c.environment()
	return v.value, err
}

func mustEnv(c *call) (any, error) {
	v, err := c.environment()
	if name, _ := asText(c.args[0]); err == nil && v.value == "" { // the name stands in the configuration
		err = fail("environment variable " + strconv.Quote(name) + " is empty")
	}
	return v.value, err
}

func envOrDefault(c *call) (any, error) {
	v, err := c.environment()
	if err == nil && !v.found {
		return c.args[1], nil
	}
	return v.value, err
}
