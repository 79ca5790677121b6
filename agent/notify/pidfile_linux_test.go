package notify_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

func TestPidFilesThatCannotBeUsed(t *testing.T) {
	p := counter(t)
	good := strconv.Itoa(p.pid())
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(content string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o644) }
	}
	for _, tc := range []struct {
		name  string
		make  func(path string) error
		class string
		part  string
	}{
		{"missing", func(string) error { return nil }, "absent", "no pid file"},
		{"empty", write(""), "absent", "is empty"},
		{"blank", write(" \n"), "absent", "is empty"},
		{"rubbish", write("hunter2\n"), "failed", "first line is not a process id"},
		{"negative", write("-" + good), "failed", "first line is not a process id"},
		{"signed", write("+" + good), "failed", "first line is not a process id"},
		{"zero", write("0\n"), "failed", "first line is not a process id"},
		{"too big", write("4294967297\n"), "failed", "first line is not a process id"},
		{"two numbers", write(good + " " + good), "failed", "first line is not a process id"},
		{"huge", write(strings.Repeat("1", 1<<20)), "failed", "first line is longer than 64 bytes"},
		{"binary", write("\x00\x01\xff" + good), "failed", "first line is not a process id"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }, "failed", "is not a regular file"},
		{"fifo", func(path string) error { return unix.Mkfifo(path, 0o644) }, "failed", "is not a regular file"},
		{"link", func(path string) error { return os.Symlink(pidFileOf(t, p), path) }, "failed", "is a symbolic link"},
		{"world-writable", func(path string) error {
			if err := os.WriteFile(path, []byte(good), 0o644); err != nil {
				return err
			}
			return os.Chmod(path, 0o666)
		}, "failed", "can be written by everybody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.make(at(tc.name)); err != nil {
				t.Fatal(err)
			}
			err := notify.Attempt(hup(at(tc.name)), change("/a"))
			wantFailure(t, err, tc.class, tc.part)
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), good) {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestPidFilesWithMoreThanANumber(t *testing.T) {
	p := counter(t)
	pid := strconv.Itoa(p.pid())
	for _, content := range []string{
		pid,
		pid + "\n",
		"  " + pid + "\r\n",
		pid + "\n/var/lib/postgresql/15/main\n1700000000\n5432\n/var/run/postgresql\nlocalhost\n",
		pid + "\n" + strings.Repeat("x", 8<<20),
	} {
		path := pidFile(t, content)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := notify.Attempt(hup(path), change("/a")); err != nil {
			t.Errorf("%.20q: %v", content, err)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("%.20q: %d bytes allocated", content, grown)
		}
		p.expect(t, "SIGHUP")
	}
}

func TestDirectoryLinksOnTheWayToAPidFile(t *testing.T) {
	p := counter(t)
	real := filepath.Dir(pidFileOf(t, p))
	trustedDir := t.TempDir()
	for name, to := range map[string]string{"abs": real, "rel": "abs", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(trustedDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	up := filepath.Join(trustedDir, "up")
	if err := os.Symlink("../"+filepath.Base(trustedDir)+"/./rel", up); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"abs", "rel", "up"} {
		if err := notify.Attempt(hup(filepath.Join(trustedDir, name, "app.pid")), change("/a")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p.expect(t, "SIGHUP")
	}
	err := notify.Attempt(hup(filepath.Join(trustedDir, "loop", "app.pid")), change("/a"))
	wantFailure(t, err, "failed", "is a symbolic link")

	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(open, "run")); err != nil {
		t.Fatal(err)
	}
	err = notify.Attempt(hup(filepath.Join(open, "run", "app.pid")), change("/a"))
	wantFailure(t, err, "failed", "a symbolic link that others may have made")

	if os.Geteuid() == 0 {
		foreign := filepath.Join(trustedDir, "foreign")
		if err := os.Symlink(real, foreign); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(foreign, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		err = notify.Attempt(hup(filepath.Join(foreign, "app.pid")), change("/a"))
		wantFailure(t, err, "failed", "a symbolic link that others may have made")
	}
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestWhoMayNameAProcess(t *testing.T) {
	needRoot(t)
	const other = 65533
	for _, tc := range []struct {
		file, process uint32
		told          bool
	}{
		{0, 0, true},
		{0, nobody, true},
		{nobody, nobody, true},
		{nobody, 0, false},
		{other, nobody, false},
	} {
		p := shell(t, reporting, tc.process)
		path := pidFileOf(t, p)
		if err := os.Chown(path, int(tc.file), int(tc.file)); err != nil {
			t.Fatal(err)
		}
		err := notify.Attempt(hup(path), change("/a"))
		if tc.told {
			if err != nil {
				t.Errorf("file of %d, process of %d: %v", tc.file, tc.process, err)
			}
			p.expect(t, "SIGHUP")
		} else {
			wantFailure(t, err, "failed", "but the pid file belongs to uid")
		}
		p.mark(t)
		p.expect(t, "SIGUSR1")
	}
}

func TestRubbishInAPidFileDegradesUntilItIsMended(t *testing.T) {
	p := counter(t)
	path := pidFile(t, "starting...")
	log := &logs{}
	events := make(chan event, 100)
	target := hup(path)
	target.Retry.Initial = time.Millisecond
	n := notify.New([]notify.Target{target}, notify.Options{
		Logger:  log.logger(),
		Settled: func(target string, o notify.Outcome) { events <- event{target, o} },
	})
	runNotifier(t, n)
	n.Notify("app", change("/a"))
	for range 3 {
		wantOutcome(t, events, notify.Failed)
	}
	if st := n.Status()[0]; st.State != notify.StateFailing && st.State != notify.StateTelling {
		t.Errorf("status: %+v", st)
	}
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(p.pid())), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for e := within(t, events, "delivered"); e.Kind != notify.Delivered; e = within(t, events, "delivered") {
		if e.Kind != notify.Failed {
			t.Fatalf("outcome %v", e.Kind)
		}
	}
	p.expect(t, "SIGHUP")
	if warned := log.at(slog.LevelWarn); len(warned) != 1 || !strings.Contains(warned[0], "hint=its first line must be") {
		t.Errorf("warned %q, want once and with a hint", warned)
	}
}
