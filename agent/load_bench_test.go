package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkCheckConfig is what reading and checking a configuration of 1,000
// secrets and files costs.
func BenchmarkCheckConfig(b *testing.B) {
	dir := memoryDir(b)
	var conf strings.Builder
	conf.WriteString("source: {local: {}}\nsecrets:\n")
	for i := range 1000 {
		fmt.Fprintf(&conf, "  - {name: s%d, id: app/s%d}\n", i, i)
	}
	conf.WriteString("files:\n")
	for i := range 1000 {
		fmt.Fprintf(&conf, "  - {path: %s/f%d, contents: '{{ (secret \"s%d\").key }}'}\n", dir, i, i)
	}
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte(conf.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cfg, err := ReadConfig(path)
		if err == nil {
			err = CheckConfig(context.Background(), cfg, Options{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
