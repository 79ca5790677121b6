package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledAtAnyMomentNobodyIsForgotten kills an agent again and again while it
// tells many targets, each time a little later: whatever it was about, the next one
// tells whom it had not told of the file's last content.
func TestKilledAtAnyMomentNobodyIsForgotten(t *testing.T) {
	const many, kills = 30, 12
	f := newFixture(t)
	var names, targets strings.Builder
	for i := range many {
		fmt.Fprintf(&names, "t%d, ", i)
		fmt.Fprintf(&targets, "  - {name: t%d, debounce: 0s, command: [/bin/sh, -c, 'echo \"$SECRETSD_TARGET $(cat $0/out).\" >> $0/told', %s]}\n", i, f.dir)
	}
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: '{{ secret "db" }}', notify: [%[2]s]}]
targets:
%[3]s`, f.dir, names.String(), targets.String()))
	agent := f.run()
	interrupted := 0
	for k := range kills {
		value := fmt.Sprintf("v%d", k)
		untold := func() (n int) {
			told := content(f.dir + "/told")
			for i := range many {
				if !strings.Contains(told, fmt.Sprintf("t%d %s.\n", i, value)) {
					n++
				}
			}
			return n
		}
		f.set("db", value)
		eventually(t, "the file follows", func() bool { return content(f.file) == value })
		<-time.After(time.Duration(k) * 8 * time.Millisecond)
		agent.signal(syscall.SIGKILL)
		agent.wait()
		if n := untold(); n > 0 && n < many {
			interrupted++
		}
		agent = f.run()
		eventually(t, "everybody is told of "+value, func() bool { return untold() == 0 })
	}
	if interrupted == 0 {
		t.Errorf("of %d kills none came between the first and the last who is told", kills)
	}
}
