package templates

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

func numberRows() []row {
	return append([]row{
		{names: "int", args: "VALUE", doc: "A whole number, from a text too; a fraction is cut off.", example: `{{ int (secret "pin") }}`, result: "42", fn: func(n int) int { return n }},
		{names: "int64", args: "VALUE", doc: "The same as int.", example: `{{ int64 "42" }}`, result: "42", fn: func(n int) int64 { return int64(n) }},
		{names: "float64", args: "VALUE", doc: "A number with a fraction, from a text too.", example: `{{ float64 "1.50" }}`, result: "1.5", fn: func(n float64) float64 { return n }},
		{names: "atoi", args: "TEXT", doc: "The whole number that TEXT holds; any other text is an error.", example: `{{ atoi "42" }}`, result: "42", fn: parseInt},
		{names: "parseInt", args: "TEXT", doc: "The whole number that TEXT holds, 0 of an empty one.", example: `{{ parseInt "42" }}`, result: "42",
			fn: func(s string) (int, error) { return parseInt(cmp.Or(s, "0")) }},
		{names: "parseUint", args: "TEXT", doc: "The whole number without a sign that TEXT holds, 0 of an empty one.", example: `{{ parseUint "42" }}`, result: "42",
			fn: func(s string) (int, error) {
				if strings.HasPrefix(s, "-") {
					return 0, fail("a number has a sign")
				}
				return parseInt(cmp.Or(s, "0"))
			}},
		{names: "parseFloat", args: "TEXT", doc: "The number that TEXT holds, 0 of an empty one.", example: `{{ parseFloat "1.50" }}`, result: "1.5",
			fn: func(s string) (float64, error) { return asFloat(cmp.Or(s, "0")) }},
		{names: "parseBool", args: "TEXT", doc: "true of 1, t, true; false of 0, f, false and an empty text.", example: `{{ parseBool "true" }}`, result: "true",
			fn: func(s string) (bool, error) {
				b, err := strconv.ParseBool(cmp.Or(s, "0"))
				if err != nil {
					return false, fail("the text is neither true nor false")
				}
				return b, nil
			}},
		{names: "toDecimal", args: "TEXT", doc: "The number that TEXT writes in octal.", example: `{{ toDecimal "0640" }}`, result: "416",
			fn: func(s string) (int64, error) {
				n, err := strconv.ParseInt(s, 8, 64)
				if err != nil {
					return 0, fail("the text is not an octal number")
				}
				return n, nil
			}},
		{names: "add", args: "NUMBER...", doc: "The sum; a fraction in one of them makes it one with a fraction.", example: `{{ add 1 (secret "db").port }} {{ add 1.5 2 }}`, result: "5433 3.5",
			fn: func(n ...any) (any, error) {
				return calculate(n, func(a, b int64) int64 { return a + b }, func(a, b float64) float64 { return a + b })
			}},
		{names: "sprig_add", args: "NUMBER...", doc: "The sum of whole numbers; fractions are cut off.", example: `{{ sprig_add 1.5 2 }}`, result: "3",
			fn: func(n ...int) int64 { return fold(0, n, func(a, b int64) int64 { return a + b }) }},
		{names: "add1", args: "NUMBER", doc: "One more.", example: `{{ add1 1 }}`, result: "2", fn: func(n int) int64 { return int64(n) + 1 }},
		{names: "sub", args: "A B", doc: "A less B.", example: `{{ sub 5 2 }}`, result: "3", fn: func(a, b int) int64 { return int64(a) - int64(b) }},
		{names: "subtract", args: "B A", doc: "A less B, for pipes; with a fraction if one of them has one.", example: `{{ 5 | subtract 2 }}`, result: "3",
			fn: func(b, a any) (any, error) {
				return calculate([]any{a, b}, func(a, b int64) int64 { return a - b }, func(a, b float64) float64 { return a - b })
			}},
		{names: "multiply", args: "A B", doc: "The product; with a fraction if one of them has one.", example: `{{ multiply 2 1.25 }}`, result: "2.5",
			fn: func(b, a any) (any, error) {
				return calculate([]any{a, b}, func(a, b int64) int64 { return a * b }, func(a, b float64) float64 { return a * b })
			}},
		{names: "mul", args: "A B...", doc: "The product of whole numbers.", example: `{{ mul 2 3 }}`, result: "6",
			fn: func(a int, n ...int) int64 { return fold(int64(a), n, func(a, b int64) int64 { return a * b }) }},
		{names: "div", args: "A B", doc: "A divided by B, without a fraction.", example: `{{ div 7 2 }}`, result: "3", fn: func(a, b int) (int64, error) { return divide(a, b, false) }},
		{names: "divide", args: "B A", doc: "A divided by B, for pipes. Whole numbers in the template give a whole number; one with a fraction or from JSON gives a fraction.", example: `{{ 7 | divide 2 }} {{ 7 | divide 2.0 }}`, result: "3 3.5", fn: quotient},
		{names: "mod", args: "A B", doc: "What is left of A divided by B.", example: `{{ mod 7 2 }}`, result: "1", fn: func(a, b int) (int64, error) { return divide(a, b, true) }},
		{names: "modulo", args: "B A", doc: "What is left of A divided by B, for pipes.", example: `{{ 7 | modulo 2 }}`, result: "1", fn: func(b, a int) (int64, error) { return divide(a, b, true) }},
		{names: "maximum", args: "A B", doc: "The larger number, as it is.", example: `{{ maximum 1 1.5 }}`, result: "1.5", fn: func(b, a any) (any, error) { return larger(a, b, 1) }},
		{names: "minimum", args: "A B", doc: "The smaller number, as it is.", example: `{{ minimum 1 1.5 }}`, result: "1", fn: func(b, a any) (any, error) { return larger(a, b, -1) }},
		{names: "max biggest", args: "NUMBER...", doc: "The largest whole number.", example: `{{ max 1 3 2 }}`, result: "3",
			fn: func(a int, n ...int) int64 { return fold(int64(a), n, func(a, b int64) int64 { return max(a, b) }) }},
		{names: "min", args: "NUMBER...", doc: "The smallest whole number.", example: `{{ min 3 1 2 }}`, result: "1",
			fn: func(a int, n ...int) int64 { return fold(int64(a), n, func(a, b int64) int64 { return min(a, b) }) }},
	}, fractionRows()...)
}

func fractionRows() []row {
	return []row{
		{names: "addf", args: "NUMBER...", doc: "The sum, decimal fractions exactly.", example: `{{ addf 0.1 0.2 }}`, result: "0.3", fn: decimals("addf"), min: 1},
		{names: "add1f", args: "NUMBER", doc: "One more.", example: `{{ add1f 0.5 }}`, result: "1.5", fn: func(n float64) (float64, error) { return decimals("addf")(n, 1) }},
		{names: "subf", args: "A B...", doc: "A less the others.", example: `{{ subf 0.3 0.1 }}`, result: "0.2", fn: decimals("subf"), min: 2},
		{names: "mulf", args: "A B...", doc: "The product.", example: `{{ mulf 1.1 1.1 }}`, result: "1.21", fn: decimals("mulf"), min: 2},
		{names: "divf", args: "A B...", doc: "A divided by the others.", example: `{{ divf 1 4 }}`, result: "0.25", fn: decimals("divf"), min: 2},
		{names: "maxf", args: "NUMBER...", doc: "The largest number.", example: `{{ maxf 1.5 2 }}`, result: "2", fn: decimals("maxf"), min: 1},
		{names: "minf", args: "NUMBER...", doc: "The smallest number.", example: `{{ minf 1.5 2 }}`, result: "1.5", fn: decimals("minf"), min: 1},
		{names: "ceil", args: "NUMBER", doc: "The next whole number up.", example: `{{ ceil 1.2 }}`, result: "2", fn: math.Ceil},
		{names: "floor", args: "NUMBER", doc: "The next whole number down.", example: `{{ floor 1.8 }}`, result: "1", fn: math.Floor},
		{names: "round", args: "NUMBER PLACES", doc: "NUMBER with so many decimals.", example: `{{ round 1.256 2 }}`, result: "1.26",
			fn: round},
	}
}

// round rounds half away from zero. (Sprig's goes one too far below zero.)
func round(n float64, places int) float64 {
	pow := math.Pow(10, float64(places))
	return math.Round(n*pow) / pow
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fail("the text is not a whole number")
	}
	return n, nil
}

func fold(start int64, n []int, f func(a, b int64) int64) int64 {
	for _, n := range n {
		start = f(start, int64(n))
	}
	return start
}

// fractional reports whether a number has a fraction, even if it is zero, or
// cannot be counted with as a whole one.
func fractional(v any) bool {
	s, ok := digitsOf(v)
	return !ok || strings.ContainsAny(s, ".eE")
}

// calculate is fold for whole numbers, and for others if there is one with a
// fraction.
func calculate(n []any, whole func(a, b int64) int64, other func(a, b float64) float64) (any, error) {
	if len(n) == 0 {
		return int64(0), nil
	}
	if !slices.ContainsFunc(n, fractional) {
		numbers := make([]int, len(n))
		for i, v := range n {
			var err error
			if numbers[i], err = asInt(v); err != nil {
				return nil, err
			}
		}
		return fold(int64(numbers[0]), numbers[1:], whole), nil
	}
	sum, err := asFloat(n[0])
	for _, v := range n[1:] {
		var f float64
		if err == nil {
			f, err = asFloat(v)
		}
		sum = other(sum, f)
	}
	return sum, err
}

// quotient is consul-template's divide, to which all numbers from JSON are ones
// with a fraction.
func quotient(b, a any) (any, error) {
	_, ajson := a.(number)
	_, bjson := b.(number)
	if !ajson && !bjson && !fractional(a) && !fractional(b) {
		x, err := asInt(a)
		if err != nil {
			return nil, err
		}
		y, err := asInt(b)
		if err != nil {
			return nil, err
		}
		return divide(x, y, false)
	}
	f, err := asFloat(a)
	if err != nil {
		return nil, err
	}
	g, err := asFloat(b)
	if err != nil {
		return nil, err
	}
	if g == 0 {
		return nil, errDivision
	}
	return f / g, nil
}

// larger returns the one of two numbers that is larger, or smaller with -1.
func larger(a, b any, sign int) (any, error) {
	n, err := compareNumbers(a, b)
	if err != nil {
		return nil, err
	}
	if n*sign > 0 {
		return a, nil
	}
	return b, nil
}

var errDivision = fail("a division by zero")

func divide(a, b int, rest bool) (int64, error) {
	if b == 0 {
		return 0, errDivision
	}
	if rest {
		return int64(a) % int64(b), nil
	}
	return int64(a) / int64(b), nil
}

// decimals returns one of sprig's functions on fractions with its arguments
// already numbers.
func decimals(name string) func(...float64) (float64, error) {
	fn := library()[name]
	return func(n ...float64) (float64, error) {
		args := anys(n)
		switch fn := fn.(type) {
		case func(...any) float64:
			return fn(args...), nil
		case func(any, ...any) float64:
			return fn(args[0], args[1:]...), nil
		default:
			return 0, errLibrary
		}
	}
}
