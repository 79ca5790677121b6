package templates

import (
	"strings"
	"unicode/utf8"
)

func envRows() []row {
	return []row{
		{names: "shellQuote", args: "TEXT", doc: "TEXT as one word of a POSIX shell, whatever it holds; a NUL is an error.",
			example: `P={{ shellQuote (secret "db").password }}`, result: `P='it'\''s "9" & <more>'`, fn: shellQuote},
		{names: "toShell", args: "OBJECT", doc: "OBJECT as assignments of a POSIX shell: a line for each key, sorted.",
			example: `{{ pick (secret "db") "user" "password" | toShell }}`, result: "password='it'\\''s \"9\" & <more>'\nuser='app'\n", fn: toShell},
		{names: "dotenvQuote", args: "TEXT", doc: "TEXT as a value of a .env file, in a form that python-dotenv, dotenv of Node and docker compose read alike. What they do not is an error.",
			example: `P={{ dotenvQuote (secret "db").password }}`, result: `P=it's "9" & <more>`, fn: dotenvQuote},
		{names: "toDotenv", args: "OBJECT", doc: "OBJECT as a .env file: a line for each key, sorted.",
			example: `{{ pick (secret "db") "user" "port" | toDotenv }}`, result: "port=5432\nuser=app\n", fn: toDotenv},
	}
}

// shellQuote uses single quotes, inside which a POSIX shell takes every byte as
// it is (POSIX.1-2024, XCU 2.2.2); a quote in the text leaves them for a moment.
func shellQuote(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", fail("a NUL byte cannot stand in a word of a shell")
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

func toShell(v any) (string, error) {
	return eachLine(v, func(key, value string) (string, error) {
		if !variableName().MatchString(key) {
			return "", errVariableName
		}
		value, err := shellQuote(value)
		return key + "=" + value, err
	})
}

var errVariableName = &failure{msg: "its name is not one of a variable: letters, digits and _", hint: "leave it out with omit, and write its line by itself"}

func toDotenv(v any) (string, error) {
	return eachLine(v, func(key, value string) (string, error) {
		if !variableName().MatchString(key) {
			return "", errVariableName
		}
		value, err := dotenvQuote(value)
		return key + "=" + value, err
	})
}

// plainDotenv needs no quotes for any reader, those that know none among them.
var plainDotenv = pattern(`^[A-Za-z0-9_./:@%+,=-]+$`)

// dotenvQuote finds the one way of writing s that all readers understand alike.
// There is no common escape: Node's knows none but \n and \r, python-dotenv and
// compose undo others, and each has its own idea of $. So s stands as it is in
// some kind of quotes, or in none.
func dotenvQuote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", notUTF8("a .env file")
	}
	if err := without(s, "a .env file", noNUL, forbidden{"\r", "a carriage return"}); err != nil {
		return "", err
	}
	if plainDotenv().MatchString(s) {
		return s, nil
	}
	// python-dotenv puts a variable's value in place of ${NAME} in any quotes.
	if !strings.Contains(s, "${") {
		// In single quotes python-dotenv undoes \\ and \', compose \' alone.
		if !strings.Contains(s, "'") && !strings.Contains(s, `\\`) && !strings.HasSuffix(s, `\`) {
			return "'" + s + "'", nil
		}
		// In double quotes both undo more, and compose knows $NAME.
		if !strings.ContainsAny(s, "\"\\$") {
			return `"` + s + `"`, nil
		}
		if !strings.ContainsAny(s[:1], "'\"`") && !strings.ContainsAny(s, "#\n$") && trimmed(s, "") == nil {
			return s, nil
		}
	}
	return "", &failure{
		msg:  "no way of writing the text is read alike by all readers of .env files: it has quotes, backslashes or a $ in an unlucky mixture",
		hint: "for a file that a shell reads use shellQuote or toShell; else rotate to a password without ' \\ and ${",
	}
}
