package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"secretsd/sinks/process"
)

func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

func TestOrphansAreReapedAndNobodyElse(t *testing.T) {
	out, err := exec.Command(os.Args[0], "reaper").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheExitOfAChildIsReportedExactly(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0}, {"exit 1", 1}, {"exit 7", 7}, {"exit 255", 255},
		{"kill -TERM $$", 143}, {"kill -KILL $$", 137}, {"kill -INT $$", 130}, {"kill -SEGV $$", 139},
	} {
		t.Run(tt.script, func(t *testing.T) {
			r := run(t, process.Options{Once: true})
			r.sup.Set(shell(t, tt.script), true)
			if exit, err := r.wait(); err != nil || exit.Status() != tt.want {
				t.Errorf("got %d, %v, want %d", exit.Status(), err, tt.want)
			}
			if st := r.sup.Status(); st.State != process.Ended || st.PID != 0 || st.Starts != 1 {
				t.Errorf("the status is %+v", st)
			}
		})
	}
}

func TestWhatCannotBeStartedIsSaid(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/nowhere/program": 127, "/etc/passwd": 126, plain: 126} {
		r := run(t, process.Options{Once: true})
		p := shell(t, "")
		p.Path = path
		r.sup.Set(p, true)
		_, err := r.wait()
		var failed *process.StartError
		if !errors.As(err, &failed) || failed.Status() != want {
			t.Errorf("%s: got %v, want status %d", path, err, want)
		}
	}
}

// family is a script that ignores TERM and has children that do too: one in its
// group, one that has left it, and one that has lost its parent as well.
const family = `trap '' TERM
sh -c 'trap "" TERM; echo $$ >> "$1"; while :; do sleep 0.05; done' sh "$1" &
setsid sh -c 'trap "" TERM; echo $$ >> "$1"; while :; do sleep 0.05; done' sh "$1" &
sh -c 'setsid sh -c "trap \"\" TERM; echo \$\$ >> \"\$1\"; while :; do sleep 0.05; done" sh "$1" &' sh "$1"
echo $$ >> "$1"
while :; do sleep 0.05; done`

func TestAChildThatIgnoresTermIsKilledWithAllThatDescendsFromIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{})
	p := shell(t, family, file)
	p.KillTimeout = 300 * time.Millisecond
	r.sup.Set(p, true)
	list := pids(t, file, 4)
	began := time.Now()
	r.cancel()
	if exit, err := r.wait(); err != nil || exit.Signal != syscall.SIGKILL {
		t.Errorf("the child ended with %v, %v", exit, err)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it was killed after %s", took)
	}
	for _, pid := range list {
		if lives(pid) {
			t.Errorf("process %d of %v lives", pid, list)
		}
	}
	if !strings.Contains(r.log.String(), "the child did not end in time and is killed") {
		t.Error("nobody was told")
	}
}

// TestOthersOfTheAgentLive holds that with other processes of the agent about, an
// orphan that could be theirs is left alone.
func TestOthersOfTheAgentLive(t *testing.T) {
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{})
	p := shell(t, family, file)
	p.KillTimeout = 100 * time.Millisecond
	r.sup.Set(p, true)
	list := pids(t, file, 4)
	r.sup.StartsOthers() // as a later configuration has it
	r.cancel()
	r.wait()
	if !lives(other.Process.Pid) {
		t.Error("a process that is none of the child's was killed")
	}
	alive := 0
	for _, pid := range list {
		if lives(pid) {
			alive++
			_ = syscall.Kill(pid, syscall.SIGKILL) // the orphan, our own
		}
	}
	if alive != 1 {
		t.Errorf("%d of the child's four processes live, want the orphan alone", alive)
	}
}

// TestAProgramInTheAgentsGroupIsNotTheChilds: nobody says of the programs that the
// agent's libraries start that they do.
func TestAProgramInTheAgentsGroupIsNotTheChilds(t *testing.T) {
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{})
	p := shell(t, family, file)
	p.KillTimeout = 100 * time.Millisecond
	r.sup.Set(p, true)
	list := pids(t, file, 4)
	r.cancel()
	r.wait()
	if !lives(other.Process.Pid) {
		t.Error("a process that is none of the child's was killed")
	}
	for _, pid := range list {
		if lives(pid) {
			t.Errorf("process %d of %v lives", pid, list)
		}
	}
}

// TestWhatIsLeftBehindIsAskedToEnd holds that a child that ends when it is asked
// to gives those behind it the same chance.
func TestWhatIsLeftBehindIsAskedToEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	r := run(t, process.Options{})
	r.sup.Set(shell(t, `sh -c 'trap "echo asked >> $1; exit" TERM; echo ready >> $1; while :; do sleep 0.02; done' sh "$1" & wait`, file), true)
	eventually(t, "it runs", func() bool { return content(file) == "ready\n" })
	r.cancel()
	if exit, _ := r.wait(); exit.Signal != syscall.SIGTERM {
		t.Errorf("the child ended with %v", exit)
	}
	if diff := cmp.Diff("ready\nasked\n", content(file)); diff != "" {
		t.Errorf("what was left behind (-want +got):\n%s", diff)
	}
}

// TestAWrapperLeavesBehindWhatTheChildDoes is the other side of it: a child that
// ends by itself has done what it wanted.
func TestAWrapperLeavesBehindWhatTheChildDoes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{Once: true})
	r.sup.Set(shell(t, `sh -c 'echo $$ > "$1"; exec sleep 600' sh "$1" & while [ ! -s "$1" ]; do sleep 0.01; done; exit 3`, file), true)
	exit, _ := r.wait()
	pid := pids(t, file, 1)[0]
	if exit.Status() != 3 || !lives(pid) {
		t.Errorf("exit %v, and what was left behind lives: %v", exit, lives(pid))
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // our own
}

// counter is a script that counts the signals it gets.
const counter = `for s in HUP INT QUIT USR1 USR2 TERM; do trap "echo $s >> \"$1\"" $s; done; trap 'echo TERM >> "$1"; exit 4' TERM
echo "ready $X" >> "$1"; while :; do sleep 0.02; done`

func TestAChange(t *testing.T) {
	for _, tt := range []struct {
		how    process.OnChange
		second string
		starts uint64
	}{
		{process.Restart, "ready one\nTERM\nready two\n", 2},
		{process.Signal, "ready one\nHUP\n", 1},
		{process.Leave, "ready one\n", 1},
	} {
		t.Run(tt.how.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			set := func(r *supervised, x string, act bool) {
				p := shell(t, counter, file)
				env, err := process.NewEnvironment([]string{"PATH=/usr/bin:/bin", "X=" + x}, nil)
				if err != nil {
					t.Fatal(err)
				}
				p.Env, p.OnChange = env, tt.how
				r.sup.Set(p, act)
			}
			r := run(t, process.Options{})
			set(r, "one", true)
			eventually(t, "it runs", func() bool { return content(file) == "ready one\n" && r.sup.Status().State == process.Running })
			set(r, "two", true)
			eventually(t, "the change is done", func() bool { return content(file) == tt.second && r.sup.Status().State == process.Running })
			if st := r.sup.Status(); st.Starts != tt.starts || st.Crashes != 0 {
				t.Errorf("the status is %+v", st)
			}
			// What is no change changes nothing, and the next start has what is new.
			set(r, "three", false)
			pid, _, err := r.sup.Child()
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is started again", func() bool { return content(file) == tt.second+"ready three\n" })
			if st := r.sup.Status(); st.Crashes != 1 {
				t.Errorf("the status is %+v", st)
			}
		})
	}
}

// TestChangesWhileTheChildEndsAreOneStart gathers what comes while the child takes
// its time to end.
func TestChangesWhileTheChildEndsAreOneStart(t *testing.T) {
	file, gate := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "gate")
	r := run(t, process.Options{})
	set := func(x string) {
		r.sup.Set(shell(t, `trap 'while [ ! -e "$2" ]; do sleep 0.01; done; exit' TERM; echo "$3" >> "$1"; while :; do sleep 0.02; done`, file, gate, x), true)
	}
	set("1")
	eventually(t, "it runs", func() bool { return content(file) == "1\n" })
	set("2")
	eventually(t, "it is ending", func() bool { return r.sup.Status().State == process.Ending })
	set("3")
	set("4")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it runs again", func() bool { return content(file) == "1\n4\n" && r.sup.Status().State == process.Running })
	if st := r.sup.Status(); st.Starts != 2 {
		t.Errorf("it was started %d times", st.Starts)
	}
}

// TestASignalWaitsForItsHandler: HUP would end a child that is still starting.
func TestASignalWaitsForItsHandler(t *testing.T) {
	file, gate := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "gate")
	const script = `echo "$3" >> "$1"; while [ ! -e "$2" ]; do sleep 0.01; done; trap 'echo HUP >> "$1"' HUP; while :; do sleep 0.02; done`
	r := run(t, process.Options{})
	set := func(x string) {
		p := shell(t, script, file, gate, x)
		p.OnChange = process.Signal
		r.sup.Set(p, true)
	}
	set("one")
	eventually(t, "it runs", func() bool { return content(file) == "one\n" })
	set("two")
	eventually(t, "the supervisor has looked", func() bool { return strings.Contains(r.log.String(), "telling the child") })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told", func() bool { return content(file) == "one\nHUP\n" })
	if st := r.sup.Status(); st.Starts != 1 {
		t.Errorf("the status is %+v", st)
	}
}

func TestASecondRequestToEndKills(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{Once: true})
	r.sup.Set(shell(t, family, file), true)
	list := pids(t, file, 4)
	r.sup.Forward(syscall.SIGTERM)
	eventually(t, "it is asked", func() bool { return r.sup.Status().State == process.Ending })
	r.sup.Forward(syscall.SIGTERM) // at once: the same request
	second := time.NewTimer(1100 * time.Millisecond)
	<-second.C
	if !lives(list[3]) {
		t.Fatal("two requests at once have killed the child")
	}
	r.sup.Forward(syscall.SIGTERM)
	began := time.Now()
	if exit, err := r.wait(); err != nil || exit.Signal != syscall.SIGKILL {
		t.Errorf("the child ended with %v, %v", exit, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it was waited for, for %s", took)
	}
	for _, pid := range list {
		if lives(pid) {
			t.Errorf("process %d of %v lives", pid, list)
		}
	}
}

func TestKillWaitsForNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	r := run(t, process.Options{})
	r.sup.Set(shell(t, family, file), true)
	list := pids(t, file, 4)
	r.cancel()
	eventually(t, "it is asked", func() bool { return r.sup.Status().State == process.Ending })
	r.sup.Kill()
	r.wait()
	for _, pid := range list {
		if lives(pid) {
			t.Errorf("process %d of %v lives", pid, list)
		}
	}
}

func TestASignalBeforeThereIsAChild(t *testing.T) {
	r := run(t, process.Options{Once: true})
	r.sup.Forward(syscall.SIGUSR1) // nobody to tell
	r.sup.Forward(syscall.SIGTERM)
	if exit, err := r.wait(); err != nil || exit.Status() != 143 {
		t.Errorf("got %v, %v", exit, err)
	}
	if r.sup.Forward(syscall.SIGTERM) {
		t.Error("a supervisor that has ended takes signals")
	}
}

func TestTargetsReachTheChildOnlyWhileItCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	r := run(t, process.Options{})
	tell := func(sig syscall.Signal) error {
		pid, _, err := r.sup.Child()
		if err != nil {
			return err
		}
		return syscall.Kill(pid, sig)
	}
	if err := tell(syscall.SIGHUP); !errors.Is(err, process.ErrNoChild) {
		t.Errorf("without a child: %v", err)
	}
	r.sup.Set(shell(t, counter, file), true)
	eventually(t, "it runs", func() bool { return strings.HasPrefix(content(file), "ready") })
	eventually(t, "it can be told", func() bool { return tell(syscall.SIGUSR1) == nil })
	eventually(t, "it is told", func() bool { return strings.HasSuffix(content(file), "USR1\n") })
	r.sup.Set(shell(t, counter+"; :", file), true)
	if err := tell(syscall.SIGHUP); !errors.Is(err, process.ErrNoChild) && strings.Count(content(file), "ready") < 2 {
		t.Errorf("a child that is about to be replaced: %v", err)
	}
	eventually(t, "it is replaced", func() bool { return strings.Count(content(file), "ready") == 2 })
	if strings.Contains(content(file), "HUP") {
		t.Errorf("the child that was replaced was told: %s", content(file))
	}
	r.sup.Set(nil, true)
	eventually(t, "it has ended", func() bool { return r.sup.Status().State == process.Waiting })
	r.sup.Set(shell(t, counter, file), true)
	eventually(t, "there is one again", func() bool { return strings.Count(content(file), "ready") == 3 })
}

func TestAStoppedChildCanBeEnded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	r := run(t, process.Options{})
	r.sup.Set(shell(t, counter, file), true)
	pid := 0
	eventually(t, "it runs", func() (ok bool) {
		var err error
		pid, _, err = r.sup.Child()
		return err == nil && strings.HasPrefix(content(file), "ready")
	})
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stopped", func() bool { return strings.Contains(content(fmt.Sprintf("/proc/%d/stat", pid)), ") T ") })
	r.cancel()
	if exit, err := r.wait(); err != nil || exit.Code != 4 {
		t.Errorf("the child ended with %v, %v, want its own status 4", exit, err)
	}
}

func TestNothingIsLeftOfManyChildren(t *testing.T) {
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	round := func() {
		r := run(t, process.Options{})
		for i := range 5 {
			r.sup.Set(shell(t, "sleep 600; :", fmt.Sprint(i)), true)
			eventually(t, "it runs", func() bool { return r.sup.Status().Starts == uint64(i+1) })
		}
		r.cancel()
		r.wait()
	}
	round()
	goroutines, files := runtime.NumGoroutine(), descriptors()
	for range 5 {
		round()
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	if now := descriptors(); now > files {
		t.Errorf("%d descriptors, %d before", now, files)
	}
}
