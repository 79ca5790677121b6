//go:build linux

package agent

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
)

// BenchmarkRotation is what lies between a new version in the agent and the
// application that has heard of it: from the version in the store to the signal
// received, with the file renamed and what is owed written down before; 1,000 targets
// told in one pass; and a pass over 1,000 files in which nothing has changed: one that
// nobody has brought anything to, one after a refresh has confirmed every version, and
// one that compares every file. Beside each stands the least that it could be.
func BenchmarkRotation(b *testing.B) {
	b.Run("version-to-signal", versionToSignal)
	b.Run("1000-targets", thousandTargets)
	b.Run("nothing-changed/idle", nothingChangedIdle)
	b.Run("nothing-changed/refreshed", nothingChanged)
	b.Run("nothing-changed/heal", nothingChangedHeal)
}

// benchAgent is a whole agent whose versions come from the benchmark.
type benchAgent struct {
	*Agent
	dir     string
	settled chan notify.Outcome
}

// newBenchAgent makes an agent of conf, which has the secrets s0 to sN.
func newBenchAgent(b *testing.B, secrets int, conf func(dir string) string) *benchAgent {
	b.Helper()
	x := &benchAgent{dir: memoryDir(b), settled: make(chan notify.Outcome, 4096)}
	text := fmt.Sprintf("state_dir: %s/state\nrefresh: {interval: 24h}\nheal_interval: 24h\nsecrets:\n", x.dir)
	for i := range secrets {
		text += fmt.Sprintf("  - {id: s%d}\n", i)
	}
	cfg, err := config.Parse(filepath.Join(x.dir, "agent.yaml"), []byte(text+conf(x.dir)))
	if err != nil {
		b.Fatal(err)
	}
	if x.Agent, err = New(b.Context(), cfg, Options{Local: local.New(local.Options{})}); err != nil {
		b.Fatal(err)
	}
	x.notifier = notify.New(x.build.targets, notify.Options{Settled: func(target string, o notify.Outcome) {
		x.Agent.settled(target, o)
		x.settled <- o
	}})
	x.apply.tell = x.notifier.Notify
	return x
}

// put enters version n of the first secrets as one round.
func (x *benchAgent) put(secrets, n int) {
	updates := make([]store.Update, secrets)
	for i := range updates {
		name := "s" + strconv.Itoa(i)
		ref := secret.Current(name)
		updates[i] = store.Update{Name: name, Ref: ref, Version: newVersion(ref, strconv.Itoa(n), strconv.Itoa(n)), At: x.clock(), Wall: time.Now()}
	}
	x.store.Put(updates)
}

func (x *benchAgent) run(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// delivered waits until n targets were told.
func (x *benchAgent) delivered(b *testing.B, n int) {
	for n > 0 {
		select {
		case o := <-x.settled:
			if o.Kind == notify.Delivered {
				n--
			} else {
				b.Fatalf("a target was not told: %s, %v", o.Kind, o.Err)
			}
		case <-time.After(30 * time.Second):
			b.Fatalf("%d targets were never told", n)
		}
	}
}

// startTold starts a process that says so when it is told.
func startTold(b *testing.B) (pid int, heard *bufio.Scanner) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	app := exec.Command(exe, "told")
	out, err := app.StdoutPipe()
	if err == nil {
		err = app.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	heard = bufio.NewScanner(out)
	hear(b, heard)
	return app.Process.Pid, heard
}

func hear(b *testing.B, heard *bufio.Scanner) {
	b.Helper()
	if !heard.Scan() {
		b.Fatal("the process has ended")
	}
}

func writePid(b *testing.B, path string, pid int) {
	b.Helper()
	if err := os.WriteFile(path, []byte(strconv.Itoa(pid)), 0o600); err != nil {
		b.Fatal(err)
	}
}

func versionToSignal(b *testing.B) {
	pid, heard := startTold(b)
	x := newBenchAgent(b, 1, func(dir string) string {
		writePid(b, dir+"/pid", pid)
		return fmt.Sprintf("files: [{path: %s/f, contents: '{{ secret \"s0\" }}', notify: [app]}]\ntargets: [{name: app, process: {pid_file: %s/pid}, debounce: 0s}]\n", dir, dir)
	})
	x.run(b)
	var took, bare []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		x.put(1, n)
		hear(b, heard)
		took = append(took, time.Since(began))
		x.delivered(b, 1)
		began = time.Now()
		replace(b, filepath.Join(x.dir, "bare"), strconv.Itoa(n))
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			b.Fatal(err)
		}
		hear(b, heard)
		bare = append(bare, time.Since(began))
	}
	compare(b, took, bare)
}

// thousandTargets has one file of which 1,000 targets are told, each a pid file of its
// own. It is the time until the signal was sent, for a process that was sent many may
// see one.
func thousandTargets(b *testing.B) {
	const many = 1000
	pid, _ := startTold(b)
	pidFile := func(dir string, i int) string { return fmt.Sprintf("%s/pid%d", dir, i) }
	x := newBenchAgent(b, 1, func(dir string) string {
		var targets, names strings.Builder
		for i := range many {
			writePid(b, pidFile(dir, i), pid)
			fmt.Fprintf(&targets, "  - {name: t%d, process: {pid_file: %s}, debounce: 0s}\n", i, pidFile(dir, i))
			fmt.Fprintf(&names, "t%d, ", i)
		}
		return fmt.Sprintf("files: [{path: %s/f, contents: '{{ secret \"s0\" }}', notify: [%s]}]\ntargets:\n%s", dir, names.String(), targets.String())
	})
	x.run(b)
	var took, bare []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		x.put(1, n)
		for range many {
			x.delivered(b, 1)
			took = append(took, time.Since(began))
		}
		began = time.Now()
		replace(b, filepath.Join(x.dir, "bare"), strconv.Itoa(n))
		for i := range many {
			bareSignal(b, pidFile(x.dir, i))
			bare = append(bare, time.Since(began))
		}
	}
	compare(b, took, bare)
}

func nothingChangedIdle(b *testing.B) {
	x := settled(b)
	measurePass(b, func() { x.pass(b.Context(), false) }, func() { x.sameVersions(b) })
}

func nothingChanged(b *testing.B) {
	x := settled(b)
	measurePass(b, func() {
		x.put(passFiles, 1)
		x.pass(b.Context(), false)
	}, func() {
		x.put(passFiles, 1)
		x.sameVersions(b)
	})
}

// sameVersions is the least that finds out that nothing has changed.
func (x *benchAgent) sameVersions(b *testing.B) {
	for name, e := range x.store.Snapshot().Entries() {
		if x.apply.applied[name] != e.Version {
			b.Fatal("a version has changed")
		}
	}
}

func nothingChangedHeal(b *testing.B) {
	x := settled(b)
	measurePass(b, func() { x.pass(b.Context(), true) }, func() {
		for i := range passFiles {
			path := fmt.Sprintf("%s/f%d", x.dir, i)
			if _, err := os.Lstat(path); err != nil {
				b.Fatal(err)
			}
			if _, err := os.ReadFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}

const passFiles = 1000

// settled is an agent that does not run, with 1,000 secrets, a file of each, and
// nothing left to do.
func settled(b *testing.B) *benchAgent {
	x := newBenchAgent(b, passFiles, func(dir string) string {
		conf := "files:\n"
		for i := range passFiles {
			conf += fmt.Sprintf("  - {path: %s/f%d, contents: '{{ secret \"s%d\" }}'}\n", dir, i, i)
		}
		return conf
	})
	b.Cleanup(x.Close)
	x.put(passFiles, 1)
	x.pass(b.Context(), false)
	if !x.ready {
		b.Fatal("not everything is in place")
	}
	return x
}

// measurePass reports the processor time of pass, and how many times that of bare it
// is.
func measurePass(b *testing.B, pass, bare func()) {
	b.ReportAllocs()
	n := 0
	began := cpuTime(b)
	for b.Loop() {
		pass()
		n++
	}
	per := (cpuTime(b) - began) / time.Duration(n)
	began = cpuTime(b)
	for range n {
		bare()
	}
	floor := (cpuTime(b) - began) / time.Duration(n)
	b.ReportMetric(float64(per.Nanoseconds())/1000, "cpu-µs/op")
	b.ReportMetric(float64(per)/float64(max(floor, 1)), "cpu-ratio")
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// replace is the least that publishes a file.
func replace(b *testing.B, path, text string) {
	if err := os.WriteFile(path+".new", []byte(text), 0o400); err != nil {
		b.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		b.Fatal(err)
	}
}

// bareSignal is the least that signals the process of a pid file, and nobody else.
func bareSignal(b *testing.B, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		b.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGHUP, nil, 0); err != nil {
		b.Fatal(err)
	}
	_ = unix.Close(fd)
}

// compare reports the median and the 99th percentile, in µs and as multiples of what
// the bare system calls take.
func compare(b *testing.B, took, bare []time.Duration) {
	slices.Sort(took)
	slices.Sort(bare)
	for _, p := range []int{50, 99} {
		ours, floor := took[len(took)*p/100], bare[len(bare)*p/100]
		b.ReportMetric(float64(ours.Microseconds()), fmt.Sprintf("p%d-µs", p))
		b.ReportMetric(float64(ours)/float64(floor), fmt.Sprintf("p%d-ratio", p))
	}
	b.ReportMetric(0, "ns/op") // the bare system calls are in it
}

// BenchmarkHeld is what becomes of the verdicts of thousands of checks that refuse what
// they were given, of which each comes by itself: until all of it is written down.
func BenchmarkHeld(b *testing.B) {
	for _, many := range []int{500, 4000} {
		b.Run(strconv.Itoa(many), func(b *testing.B) {
			x := newBenchAgent(b, 1, func(dir string) string {
				conf := "files:\n"
				for i := range many {
					conf += fmt.Sprintf("  - {path: %s/f%d, contents: '{{ secret \"s0\" }}'}\n", dir, i)
				}
				return conf
			})
			b.Cleanup(x.Close)
			refused := (&notify.Command{Argv: []string{"/bin/false"}, Timeout: time.Minute}).Run(b.Context())
			x.put(1, 1)
			x.pass(b.Context(), false)
			n := 0
			for b.Loop() {
				n++
				for _, o := range x.apply.outputs {
					content := [32]byte{}
					o.gate.asking = &content
					held := &heldBack{versions: []notify.SecretVersion{{Name: "s0", VersionID: strconv.Itoa(n)}}, source: o.source}
					act := x.apply.judge(verdict{path: o.path, content: content, held: held, err: refused})
					if next, ok := x.apply.nextTry(); act || ok && next <= x.clock() {
						x.pass(b.Context(), false)
					}
				}
				x.apply.noteHeld()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n*many), "µs/verdict")
		})
	}
}
