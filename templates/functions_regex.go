package templates

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
)

func regexRows() []row {
	return []row{
		{names: "regexMatch mustRegexMatch", args: "REGEX TEXT", doc: "Whether TEXT matches (syntax: RE2).", example: `{{ regexMatch "^a+$" "aa" }}`, result: "true",
			fn: func(c *call, re, s string) (bool, error) {
				r, err := c.compile(re, s)
				return err == nil && r.MatchString(s), err
			}},
		{names: "regexFind mustRegexFind", args: "REGEX TEXT", doc: "The first match, or nothing.", example: `{{ regexFind "[0-9]+" "a12b3" }}`, result: "12",
			fn: func(c *call, re, s string) (string, error) {
				r, err := c.compile(re, s)
				if err != nil {
					return "", err
				}
				return r.FindString(s), nil
			}},
		{names: "regexFindAll mustRegexFindAll", args: "REGEX TEXT N", doc: "A list of at most N matches; -1 for all.", example: `{{ regexFindAll "[0-9]" "a12" -1 | join "," }}`, result: "1,2",
			fn: func(c *call, re, s string, n int) ([]string, error) {
				r, err := c.compile(re, s)
				if err != nil {
					return nil, err
				}
				return r.FindAllString(s, atMost(n)), nil
			}},
		{names: "regexReplaceAll", args: "REGEX NEW TEXT", doc: "TEXT with every match made NEW, where ${1} is a group. The order is consul-template's; sprig's is that of sprig_regexReplaceAll.",
			example: `{{ regexReplaceAll "(a)b" "${1}-" "abab" }}`, result: "a-a-",
			fn: func(c *call, re, repl, s string) (string, error) { return c.replaceAll(re, s, repl, true) }},
		{names: "sprig_regexReplaceAll mustRegexReplaceAll", args: "REGEX TEXT NEW", doc: "TEXT with every match made NEW, where ${1} is a group.",
			example: `{{ sprig_regexReplaceAll "(a)b" "abab" "${1}-" }}`, result: "a-a-",
			fn: func(c *call, re, s, repl string) (string, error) { return c.replaceAll(re, s, repl, true) }},
		{names: "regexReplaceAllLiteral mustRegexReplaceAllLiteral", args: "REGEX TEXT NEW", doc: "TEXT with every match made NEW, taken as it is.",
			example: `{{ regexReplaceAllLiteral "b" "ab" "${1}" }}`, result: "a${1}",
			fn: func(c *call, re, s, repl string) (string, error) { return c.replaceAll(re, s, repl, false) }},
		{names: "regexSplit mustRegexSplit", args: "REGEX TEXT N", doc: "A list of at most N parts of TEXT between matches; -1 for all.", example: `{{ regexSplit ",\\s*" "a, b" -1 | join "|" }}`, result: "a|b",
			fn: func(c *call, re, s string, n int) ([]string, error) {
				r, err := c.compile(re, s)
				if err != nil {
					return nil, err
				}
				return r.Split(s, atMost(n)), nil
			}},
		{names: "regexQuoteMeta", args: "TEXT", doc: "A regular expression that matches just TEXT.", example: `{{ regexQuoteMeta "a.b" }}`, result: `a\.b`},
	}
}

// pattern returns an expression that is compiled on its first use: a start must
// not wait for what most templates never need.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

var errRegex = &failure{msg: "the regular expression is not valid", hint: "the syntax is RE2: https://golang.org/s/re2syntax"}

// compile returns the regular expression and counts the work of running it
// over s. The library's own message is kept back: it quotes the expression.
func (c *call) compile(re, s string) (*regexp.Regexp, error) {
	const longest, largest = 10_000, 20_000
	if len(re) > longest {
		return nil, fail("the regular expression is too long")
	}
	tree, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		return nil, errRegex
	}
	n := unfolded(tree)
	if n > largest || tree.MaxCap() > 20 {
		return nil, fail("the regular expression is too large")
	}
	// A step of the automaton takes some 5 ns for each state that is alive.
	if err := c.r.spend(c.node, n*len(s)/8+100*n); err != nil {
		return nil, err
	}
	r, err := regexp.Compile(re)
	if err != nil {
		return nil, errRegex
	}
	return r, nil
}

// unfolded returns how large the program of an expression becomes, whose
// repetitions are copied out.
func unfolded(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += unfolded(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxText)
}

// atMost bounds how many matches are collected, one more than a list may have.
func atMost(n int) int {
	if n < 0 || n > maxList {
		return maxList + 1
	}
	return n
}

// replaceAll builds the result match by match, so as to stop when it grows too
// large.
func (c *call) replaceAll(re, s, repl string, expand bool) (string, error) {
	r, err := c.compile(re, s)
	if err != nil {
		return "", err
	}
	matches := r.FindAllStringSubmatchIndex(s, maxList+1)
	if len(matches) > maxList {
		return "", errTooBig
	}
	var out []byte
	rest := 0
	for _, m := range matches {
		out = append(out, s[rest:m[0]]...)
		if expand {
			if err := within(len(out)+len(repl), strings.Count(repl, "$"), m[1]-m[0]); err != nil {
				return "", err
			}
			out = r.ExpandString(out, repl, s, m)
		} else {
			out = append(out, repl...)
		}
		if rest = m[1]; len(out) > maxText {
			return "", errTooBig
		}
	}
	return string(append(out, s[rest:]...)), nil
}
