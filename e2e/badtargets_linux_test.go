package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bystander is a process without a handler, which a signal would end.
func bystander(t *testing.T) *process {
	t.Helper()
	return start(t, cleanEnv(), "/bin/sleep", "600")
}

// silent is a server that takes connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return ln.Addr().String()
}

// TestBadTargetsHarmNobodyElse has one agent with every kind of target that does not
// behave, and one that does: that one is told of each rotation at once, nobody is
// signalled whom nobody meant, and each of the others says what is wrong with it.
func TestBadTargetsHarmNobodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "root, to own a pid file as another user")
	}
	f := newFixture(t)
	_, hups := application(t, f.dir)
	dead := exec.CommandContext(t.Context(), "/bin/true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	foreign, heir := bystander(t), bystander(t)
	for name, pid := range map[string]int{"dead": dead.Process.Pid, "foreign": foreign.cmd.Process.Pid, "heir": heir.cmd.Process.Pid, "first": 1} {
		write(t, f.dir+"/"+name+".pid", fmt.Sprintln(pid))
	}
	write(t, f.dir+"/rubbish.pid", "starting, password is hunter2\n")
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.dir+"/heir.pid", past, past); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(f.dir+"/foreign.pid", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	hook := func(name, script string) string {
		return fmt.Sprintf("{name: %s, timeout: 1s, command: [/bin/sh, -c, %q, %s]}", name, script, f.dir)
	}
	targets := []string{
		"{name: app, debounce: 0s, process: {pid_file: DIR/app.pid}}",
		"{name: rubbish, process: {pid_file: DIR/rubbish.pid}}",
		"{name: dead, process: {pid_file: DIR/dead.pid}}",
		"{name: foreign, process: {pid_file: DIR/foreign.pid}}",
		"{name: heir, process: {pid_file: DIR/heir.pid}}",
		"{name: first, process: {pid_file: DIR/first.pid}}",
		hook("hangs", `trap '' TERM; echo $$ > $0/hangs; while :; do sleep 0.05; done`),
		hook("forks", `sh -c 'trap "" TERM; echo $$ > $0/forks; while :; do sleep 0.05; done' $0 & sleep 600`),
		hook("leaves", `sleep 600 & echo $! >> $0/leaves`),
		hook("floods", `cat $0/out; timeout 0.5 yes hunter2; timeout 0.2 yes hunter2 >&2; echo done > $0/floods`),
		hook("killed", `kill -9 $$`),
		fmt.Sprintf("{name: silent, command: [/bin/true], confirm: {http: 'http://%s/', delay: 0s, timeout: 1s}}", silent(t)),
	}
	var names, list strings.Builder
	for _, target := range targets {
		name, _, _ := strings.Cut(strings.TrimPrefix(target, "{name: "), ",")
		fmt.Fprintf(&names, "%s, ", name)
		fmt.Fprintf(&list, "  - %s\n", strings.ReplaceAll(target, "DIR", f.dir))
	}
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: 'hunter2 {{ secret "db" }}', notify: [%[2]s]}]
targets:
%[3]s`, f.dir, names.String(), list.String()))
	agent := f.run()
	status := func(name string) string {
		out, code := runTo(t, cleanEnv(), "status", "--config", f.conf, "--output", "json")
		var st struct{ Targets []map[string]any }
		if err := json.Unmarshal([]byte(out), &st); code != 0 || err != nil {
			t.Fatalf("status ended with %d, %v:\n%s", code, err, out)
		}
		for _, target := range st.Targets {
			if target["name"] == name {
				return fmt.Sprint(target["state"], ": ", target["error"])
			}
		}
		return "none"
	}
	eventually(t, "the application is told of the first publication", func() bool { return hups() == 1 })
	slowest := time.Duration(0)
	for i := range 5 {
		f.set("db", fmt.Sprint("version", i))
		began := time.Now()
		eventually(t, "the application is told", func() bool { return hups() == i+2 })
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 5*time.Second {
		t.Errorf("the application was told after %s", slowest)
	}
	for name, want := range map[string]string{
		"app":     "idle: <nil>",
		"rubbish": "failing: ",
		"dead":    "absent: no process",
		"foreign": "failing: process " + fmt.Sprint(foreign.cmd.Process.Pid) + " runs as uid 0, but the pid file belongs to uid 65534",
		"heir":    "unready: process " + fmt.Sprint(heir.cmd.Process.Pid) + " started after the pid file was written",
		"first":   "failing: pid 1 is the first process",
		"hangs":   "failing: command did not finish within 1s and was ended",
		"forks":   "failing: command did not finish within 1s and was ended",
		"leaves":  "idle: <nil>",
		"floods":  "idle: <nil>",
		"killed":  "failing: command was ended by SIGKILL",
		"silent":  "unconfirmed: ",
	} {
		got := ""
		eventually(t, name+" is "+want, func() bool { got = status(name); return strings.HasPrefix(got, want) })
	}
	for what, p := range map[string]*process{"the process of a foreign pid file": foreign, "a process that took over a pid": heir} {
		if !lives(p.cmd.Process.Pid) {
			t.Errorf("%s was ended", what)
		}
	}
	agent.signal(syscall.SIGTERM)
	if out, code := agent.wait(); code != 0 || strings.Contains(out, "hunter2") {
		t.Errorf("the agent ends with %d, and says what hooks print: %v", code, strings.Contains(out, "hunter2"))
	}
	w := wrapper{f}
	for _, name := range []string{"hangs", "forks"} {
		if pid := w.pid(name); lives(pid) {
			t.Errorf("what %s started is still there", name)
		}
	}
	// What a hook that has done its work leaves behind is its own affair.
	left := strings.Fields(content(f.dir + "/leaves"))
	if len(left) == 0 {
		t.Error("the hook that leaves a process behind did not run")
	}
	for _, word := range left {
		pid, err := strconv.Atoi(word)
		if err != nil || !lives(pid) {
			t.Errorf("what a hook has left behind was ended: %v", err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // our own hook's
	}
}
