# Reads `go test -v ./...` and prints of each package its closing line, every
# skipped test with its reason, and every failed test with all it said.
function told(test) { printf "%s", said[test]; delete said[test] }

/^=== (RUN|NAME|CONT|PAUSE)/ { test = $3; next }
/^ *--- (FAIL|SKIP): /       { print; told($3); if ($0 !~ /^ /) test = ""; next }
/^ *--- PASS: /              { delete said[$3]; if ($0 !~ /^ /) test = ""; next }
/^(panic|fatal error): /     { test = "" }
/^(ok|FAIL|\?)[ \t]/         { test = ""; if (/^FAIL/) for (t in said) told(t); delete said; print; next }
/^(PASS|FAIL)$/              { next }
test == ""                   { print; next }
                             { said[test] = said[test] $0 "\n" }
