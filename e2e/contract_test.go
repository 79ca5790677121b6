package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// contractRow is one line, or a part of one, of the table of what clients of AWS's
// agent send and get. The table was made of the agent's source and documentation
// and is numbered, C1 to C72. Each row is run against secretsd with the secrets
// configured, against secretsd reading them on demand, and, where its binary is
// at hand, against AWS's agent itself, which shows that the row is true.
type contractRow struct {
	// id is the row's number, and behind a space what is special in this part.
	id string
	// send is a method and a target, and head the headers; nil stands for the
	// right token.
	send string
	head []string
	want answer
	// instead has what a kind answers in place of want, and without the kinds for
	// which the row means nothing. why says the reason of both.
	instead map[kind]answer
	without []kind
	why     string
	// run takes the place of send for rows of several steps, and has a subject of
	// its own with these settings.
	run  func(s *subject)
	with settings
	// held names the test that holds the row in place of this one, as PACKAGE.NAME:
	// a row that needs a clock of minutes, or that nothing runs for.
	held string
}

// contract returns the whole table.
func contract() []contractRow {
	var rows []contractRow
	for _, part := range [][]contractRow{doorRows(), methodRows(), parameterRows(), valueRows(), faultRows(), limitRows(), cacheRows(), textRows(), nameRows(), roleRows()} {
		rows = append(rows, part...)
	}
	return rows
}

// contractRuns is how many agents run at a time. Their rows mostly wait.
const contractRuns = 8

func TestContract(t *testing.T) {
	for _, k := range []kind{configured, onDemand, peer} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(peerBinary); k == peer && err != nil {
				// It is no part of the repository: the rows were proven when it was there.
				t.Skipf("AWS's agent is not at %s, nor named by SECRETSD_PEER", peerBinary)
			}
			runContract(t, k)
		})
	}
}

// runContract runs the rows that send one request one after the other, against
// one subject, and the others beside each other.
func runContract(t *testing.T, k kind) {
	var g errgroup.Group
	g.SetLimit(contractRuns)
	g.Go(func() error {
		t.Run("single", func(t *testing.T) { singleRequests(t, k) })
		return nil
	})
	for _, r := range contract() {
		if r.run == nil || r.not(k) {
			continue
		}
		g.Go(func() error {
			t.Run(r.id, func(t *testing.T) { r.run(newSubject(t, k, r.with)) })
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
}

func singleRequests(t *testing.T, k kind) {
	s := newSubject(t, k, settings{ids: []string{
		"MyTest", "My/Test", "a+b", "b", "KMSACCESSDENIEDTest", "OTHERERRORTest", "NOTFOUNDx", "UNAVAILABLE", "NOMESSAGE", "GARBAGE",
	}})
	for _, r := range contract() {
		if r.send == "" || r.not(k) {
			continue
		}
		t.Run(r.id, func(t *testing.T) {
			s.t = t
			head, want := r.head, r.want
			if head == nil {
				head = []string{tokenT}
			}
			if other, ok := r.instead[k]; ok {
				want = other
			}
			s.compare(r.send, s.ask(r.send, head...), want)
		})
	}
}

// not reports whether the row means nothing for k.
func (r *contractRow) not(k kind) bool {
	for _, other := range r.without {
		if other == k {
			return true
		}
	}
	return false
}

// TestContractIsWhole holds that no row of the contract was left out, and that
// every difference has its reason.
func TestContractIsWhole(t *testing.T) {
	number := regexp.MustCompile(`\bC(\d+)b?\b`)
	seen := map[int]bool{}
	for _, r := range contract() {
		for _, m := range number.FindAllStringSubmatch(r.id, -1) {
			n, _ := strconv.Atoi(m[1]) // digits
			seen[n] = true
		}
		switch {
		case r.held != "":
			isTest(t, r.held)
		case (r.send != "") == (r.run != nil):
			t.Errorf("%s: want either a request or a function", r.id)
		}
		if len(r.instead)+len(r.without) > 0 && r.why == "" {
			t.Errorf("%s: a difference has no reason", r.id)
		}
	}
	for n := 1; n <= 72; n++ {
		if !seen[n] {
			t.Error(fmt.Sprint("C", n, " is not in the table"))
		}
	}
}

// isTest holds that PACKAGE.NAME is a test of this module.
func isTest(t *testing.T, name string) {
	t.Helper()
	dir, test, _ := strings.Cut(name, ".")
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.Contains(content(file), "\nfunc "+test+"(t *testing.T)") {
			return
		}
	}
	t.Errorf("there is no test %s in %s", test, dir)
}
