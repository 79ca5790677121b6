package templates

import (
	"math"
	"strconv"
	"strings"
)

func numberRows() []row {
	return append([]row{
		{names: "int", args: "VALUE", doc: "A whole number, from a text too; a fraction is cut off.", example: `{{ int (secret "pin") }}`, result: "42", fn: func(n int) int { return n }},
		{names: "int64", args: "VALUE", doc: "The same as int.", example: `{{ int64 "42" }}`, result: "42", fn: func(n int) int64 { return int64(n) }},
		{names: "float64", args: "VALUE", doc: "A number with a fraction, from a text too.", example: `{{ float64 "1.50" }}`, result: "1.5", fn: func(n float64) float64 { return n }},
		{names: "atoi parseInt", args: "TEXT", doc: "The whole number that TEXT holds; any other text is an error.", example: `{{ atoi "42" }}`, result: "42", fn: parseInt},
		{names: "parseUint", args: "TEXT", doc: "The whole number without a sign that TEXT holds.", example: `{{ parseUint "42" }}`, result: "42",
			fn: func(s string) (int, error) {
				if strings.HasPrefix(s, "-") {
					return 0, fail("a number has a sign")
				}
				return parseInt(s)
			}},
		{names: "parseFloat", args: "TEXT", doc: "The number that TEXT holds.", example: `{{ parseFloat "1.50" }}`, result: "1.5",
			fn: func(s string) (float64, error) { return asFloat(s) }},
		{names: "parseBool", args: "TEXT", doc: "true of 1, t, true; false of 0, f, false.", example: `{{ parseBool "true" }}`, result: "true",
			fn: func(s string) (bool, error) {
				b, err := strconv.ParseBool(s)
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
		{names: "add", args: "NUMBER...", doc: "The sum of whole numbers.", example: `{{ add 1 (secret "db").port }}`, result: "5433",
			fn: func(n ...int) int64 { return fold(0, n, func(a, b int64) int64 { return a + b }) }},
		{names: "add1", args: "NUMBER", doc: "One more.", example: `{{ add1 1 }}`, result: "2", fn: func(n int) int64 { return int64(n) + 1 }},
		{names: "sub", args: "A B", doc: "A less B.", example: `{{ sub 5 2 }}`, result: "3", fn: func(a, b int) int64 { return int64(a) - int64(b) }},
		{names: "subtract", args: "B A", doc: "A less B, for pipes.", example: `{{ 5 | subtract 2 }}`, result: "3", fn: func(b, a int) int64 { return int64(a) - int64(b) }},
		{names: "mul multiply", args: "A B...", doc: "The product of whole numbers.", example: `{{ mul 2 3 }}`, result: "6",
			fn: func(a int, n ...int) int64 { return fold(int64(a), n, func(a, b int64) int64 { return a * b }) }},
		{names: "div", args: "A B", doc: "A divided by B, without a fraction.", example: `{{ div 7 2 }}`, result: "3", fn: func(a, b int) (int64, error) { return divide(a, b, false) }},
		{names: "divide", args: "B A", doc: "A divided by B, for pipes.", example: `{{ 7 | divide 2 }}`, result: "3", fn: func(b, a int) (int64, error) { return divide(a, b, false) }},
		{names: "mod", args: "A B", doc: "What is left of A divided by B.", example: `{{ mod 7 2 }}`, result: "1", fn: func(a, b int) (int64, error) { return divide(a, b, true) }},
		{names: "modulo", args: "B A", doc: "What is left of A divided by B, for pipes.", example: `{{ 7 | modulo 2 }}`, result: "1", fn: func(b, a int) (int64, error) { return divide(a, b, true) }},
		{names: "max biggest maximum", args: "NUMBER...", doc: "The largest whole number.", example: `{{ max 1 3 2 }}`, result: "3",
			fn: func(a int, n ...int) int64 { return fold(int64(a), n, func(a, b int64) int64 { return max(a, b) }) }},
		{names: "min minimum", args: "NUMBER...", doc: "The smallest whole number.", example: `{{ min 3 1 2 }}`, result: "1",
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

func divide(a, b int, rest bool) (int64, error) {
	if b == 0 {
		return 0, fail("a division by zero")
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
