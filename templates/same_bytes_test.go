package templates_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"secretsd/templates"
)

// operands are what functions are called with, as they stand in a template.
var operands = []string{
	`""`, `"a"`, `"a,b"`, `"b=1;a=2"`, `"it's \"$x\" \\ % # ;"`, `" x\n"`, `"é☃"`, `"YWI="`, `"1.10"`, `"0042"`, `"-"`, `"user"`, `"db"`, `"[a-c]+"`,
	"0", "1", "2", "-1", "7", "1.5", "true", "false", `(list)`, `(list 3 1 2)`, `(list "b" "a" "b")`, `(dict)`, `(dict "b" 2 "a" (dict "z" 1 "y" (list 1 2)))`,
	`(secret "db")`, `(secret "db").password`, `(secret "db").hosts`, `(secret "db").tls`, `(secret "big")`, `(secret "tags")`, `(secret "lines")`, `(secretBinary "key-store")`,
	`(fromJson "{\"b\":1,\"a\":[1,2.50]}")`,
}

// drawnCalls returns calls of every function that seed draws, beside its
// example.
func drawnCalls(seed uint64) map[string][]string {
	calls := make(map[string][]string)
	for _, f := range templates.Functions() {
		random := rand.New(rand.NewPCG(seed, uint64(len(calls))))
		calls[f.Name] = []string{f.Example}
		for range 60 {
			call := f.Name
			for range random.IntN(5) {
				call += " " + operands[random.IntN(len(operands))]
			}
			calls[f.Name] = append(calls[f.Name], "{{ "+call+" }}")
		}
	}
	return calls
}

// outcomes returns a digest of what the calls of each function come to, bytes
// or error, and how many gave bytes.
func outcomes(seed uint64) (digests map[string]string, rendered int) {
	s := secrets(templates.SecretsOfExamples())
	s["big"] = `{"k9":1,"k2":{"x":1,"y":2},"k3":"v","k4":4,"k5":5,"k6":6,"k7":7,"k8":8,"k1":9}`
	digests = make(map[string]string)
	for name, calls := range drawnCalls(seed) {
		h := sha256.New()
		for _, text := range calls {
			o := templates.OptionsOfExamples()
			o.Name, o.Text = "a.tmpl", text
			got, err := render(s, o)
			if err == nil {
				rendered++
			}
			fmt.Fprintf(h, "%q %v\n", got, err)
		}
		digests[name] = hex.EncodeToString(h.Sum(nil))
	}
	return digests, rendered
}

const seedVariable = "SECRETSD_TEST_SEED"

// TestMain is also the other process: started with a seed, it prints the
// outcomes and runs no tests.
func TestMain(m *testing.M) {
	if seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		digests, _ := outcomes(seed)
		for name, digest := range digests {
			fmt.Println(name, digest)
		}
		os.Exit(0)
	}
	code := m.Run()
	if classDir != "" {
		_ = os.RemoveAll(classDir)
	}
	os.Exit(code)
}

// TestSameInputsGiveTheSameBytes calls every function with drawn arguments,
// twice in this process and once in another, whose maps have other orders and
// whose random sources other states.
func TestSameInputsGiveTheSameBytes(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	first, rendered := outcomes(seed)
	again, _ := outcomes(seed)
	if least := 5 * len(first); rendered < least {
		t.Errorf("only %d calls of %d functions give bytes: the test proves little", rendered, len(first))
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), seedVariable+"="+strconv.FormatUint(seed, 10), "TZ=Asia/Tokyo", "LC_ALL=tr_TR.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		name, digest, _ := strings.Cut(lines.Text(), " ")
		if first[name] != digest || again[name] != digest {
			t.Errorf("%s gives other bytes in another round (seed %d)", name, seed)
		}
		compared++
	}
	if compared != len(first) {
		t.Errorf("%d of %d functions were compared", compared, len(first))
	}
}
