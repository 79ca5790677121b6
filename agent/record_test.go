package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/agent/audit"
	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

// TestAFloodOfStrangersLeavesTheAuditReadable observes a hundred thousand
// requests of nobody known, and right ones among them.
func TestAFloodOfStrangersLeavesTheAuditReadable(t *testing.T) {
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	a, err := New(context.Background(), r.config("secrets: [{name: db, id: prod/db}]\naudit: {path: DIR/audit.log, required: true}"), Options{Local: r.svc})
	must(t, err)
	const flood = 100_000
	for i := range flood {
		must(t, a.observe(&endpoint.Exchange{Method: "GET", Outcome: endpoint.OutcomeForwarded}))
		if i%(flood/10) == 0 {
			must(t, a.observe(&endpoint.Exchange{Method: "GET", Outcome: endpoint.OutcomeOK, Client: "web", Secret: "db"}))
		}
	}
	a.Close()
	var right, strangers, withheld uint64
	data, err := os.ReadFile(filepath.Join(r.dir, "audit.log"))
	must(t, err)
	for line := range strings.Lines(string(data)) {
		var e audit.Entry
		must(t, json.Unmarshal([]byte(line), &e))
		withheld += e.Withheld
		if e.Client == "web" {
			right++
		} else {
			strangers++
		}
	}
	if right != 10 {
		t.Errorf("%d lines of right requests, want 10", right)
	}
	if strangers < 500 || strangers > 2000 || strangers+withheld+a.audit.withheld.Load() != flood {
		t.Errorf("%d lines of strangers, %d said to be withheld", strangers, withheld)
	}
}
