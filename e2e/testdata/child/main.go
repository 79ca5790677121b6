// Command child is a program that tests have supervised. It needs nothing beside
// it, so that it runs in an empty container too.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[1] {
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "signals":
		signals(os.Args[2])
	case "orphans":
		orphans()
	case "leave":
		leave()
	case "masked":
		masked()
	case "ticks":
		ticks(os.Args[2])
	case "reader":
		reader(os.Args[2])
	case "env":
		fmt.Println(os.Getenv(os.Args[2]))
	}
}

// signals appends the number of every signal it gets to a file; KILL ends it.
func signals(path string) {
	ch := make(chan os.Signal, 1000)
	for n := syscall.Signal(1); n <= 64; n++ {
		if n != syscall.SIGURG { // Go's own
			signal.Notify(ch, n)
		}
	}
	say(path, "ready")
	for sig := range ch {
		n, _ := sig.(syscall.Signal)
		say(path, strconv.Itoa(int(n)))
	}
}

func say(path, line string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// ticks writes its pid to a file of dir and goes on ticking in another. It starts no
// programs: a shell that Ctrl-Z meets while it starts one hangs, for it cannot stop
// before the new one runs, and the new one has stopped (vfork(2)).
func ticks(dir string) {
	say(filepath.Join(dir, "pid"), strconv.Itoa(os.Getpid()))
	for ; ; time.Sleep(20 * time.Millisecond) {
		say(filepath.Join(dir, "ticks"), "tick")
	}
}

// reader writes its pid to a file of dir and, once there is a file called ask, reads
// a line from the keyboard.
func reader(dir string) {
	say(filepath.Join(dir, "asking"), strconv.Itoa(os.Getpid()))
	for {
		if _, err := os.Stat(filepath.Join(dir, "ask")); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var line string
	_, err := fmt.Scanln(&line)
	fmt.Println("child-got", line, err)
}

// orphans leaves processes behind, which end, and prints how many zombies are
// left of them.
func orphans() {
	for range 20 {
		cmd := exec.Command(os.Args[0], "leave", "first")
		if err := cmd.Run(); err != nil {
			panic(err)
		}
	}
	left := -1
	for end := time.Now().Add(20 * time.Second); left != 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = zombies()
	}
	fmt.Printf("pid 1 is %s, zombies left: %d\n", comm("1"), left)
	os.Exit(5)
}

// leave starts another and ends, so that the other is an orphan. The other lives
// for a moment.
func leave() {
	if len(os.Args) < 3 {
		time.Sleep(50 * time.Millisecond)
		return
	}
	cmd := exec.Command(os.Args[0], "leave")
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

func zombies() int {
	n := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, _ := os.ReadFile(path)
		if _, rest, ok := strings.Cut(string(data), ") "); ok && (rest[0] == 'Z' || strings.Contains(string(data), "(child) S 1 ")) && !strings.HasPrefix(string(data), strconv.Itoa(os.Getpid())+" ") {
			n++
		}
	}
	return n
}

func comm(pid string) string {
	data, _ := os.ReadFile("/proc/" + pid + "/comm")
	return strings.TrimSpace(string(data))
}

// masked runs a program with USR1 and USR2 blocked, and HUP and INT ignored.
func masked() {
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	var set unix.Sigset_t
	set.Val[0] = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGUSR2-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		panic(err)
	}
	panic(syscall.Exec(os.Args[2], os.Args[2:], os.Environ()))
}
