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

// TestKilledAtAnyMomentOfALadderFilesGoBack kills an agent again and again while a
// target does not confirm, each time a little later, up to the rollback and beyond: the
// next one gives all files back what the target can use, tells it, and says so.
func TestKilledAtAnyMomentOfALadderFilesGoBack(t *testing.T) {
	const kills, files = 10, 40
	o, _ := newServed(t)
	put := o.put
	var list strings.Builder
	for i := range files {
		fmt.Fprintf(&list, "  - {path: DIR/f%d, contents: '{{ secret \"db\" }}', notify: [app]}\n", i)
	}
	all := func(want string) bool {
		for i := range files {
			if content(o.path(fmt.Sprintf("f%d", i))) != want {
				return false
			}
		}
		return true
	}
	put("good")
	o.write("files:\n" + list.String() + fmt.Sprintf(`
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "$(cat DIR/f0) $(cat DIR/f%[1]d)" >> DIR/told']
    debounce: 0s
    confirm: {command: [/bin/sh, -c, 'grep -q good DIR/f0'], timeout: 150ms, delay: 0s}
    ladder: [{command: [/bin/true]}]
    rollback: true
`, files-1))
	run := func() { o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf) }
	run()
	o.agent.until("msg=ready")
	for k := range kills {
		bad := fmt.Sprintf("bad-%d", k)
		put(bad)
		eventually(t, "the first file follows", func() bool { return content(o.path("f0")) == bad })
		if k%2 == 0 { // amid telling, asking and climbing
			<-time.After(time.Duration(k) * 35 * time.Millisecond)
		} else { // amid the rollback
			o.agent.until("it is unconfirmed")
			<-time.After(time.Duration(k) * 300 * time.Microsecond)
		}
		o.agent.signal(syscall.SIGKILL)
		o.agent.wait()
		run()
		eventually(t, "all files have gone back", func() bool {
			st := o.status("--output", "json")
			return all("good") && strings.Contains(st, "did not confirm it, and the file was rolled back") && strings.Contains(st, `"state": "idle"`) && !strings.Contains(st, `"unconfirmed": true`)
		})
		if lines := strings.Split(strings.TrimSpace(content(o.path("told"))), "\n"); lines[len(lines)-1] != "good good" {
			t.Errorf("after kill %d the target was told last of %q", k, lines[len(lines)-1])
		}
	}
}
