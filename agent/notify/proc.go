package notify

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"secretsd/agent/disposition"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which the kernel keeps
// at 100 on every architecture that Go supports (time(7)).
const tick = time.Second / 100

// parseStat returns the start time of a process since boot, on CLOCK_BOOTTIME
// and rounded down to a tick: field 22 of /proc/PID/stat (proc_pid_stat(5)).
// The second field, the command's name in parentheses, may itself hold blanks,
// newlines and parentheses; nothing after it can.
func parseStat(b []byte) (start time.Duration, err error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, errors.New("parse stat: no command name")
	}
	const field = 22 - 3 // the first field after the name is the third
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) <= field {
		return 0, fmt.Errorf("parse stat: %d fields after the command name", len(fields))
	}
	ticks, err := strconv.ParseUint(fields[field], 10, 63)
	if err != nil || ticks > uint64(1<<63-1)/uint64(tick) {
		return 0, errors.New("parse stat: start time is out of range")
	}
	return time.Duration(ticks) * tick, nil
}

// parseParent returns the pid of a process's parent: field 4 of /proc/PID/stat.
func parseParent(b []byte) (int, error) {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0, errors.New("parse stat: no parent")
	}
	pid, err := strconv.ParseUint(fields[1], 10, 31)
	if err != nil {
		return 0, errors.New("parse stat: parent is not a number")
	}
	return int(pid), nil
}

// parseArgv0 returns the first argument in /proc/PID/cmdline, and false for a
// kernel thread or a zombie, which have none (proc_pid_cmdline(5)).
func parseArgv0(b []byte) (string, bool) {
	argv0, _, _ := bytes.Cut(b, []byte{0})
	return string(argv0), len(argv0) > 0
}

// within reports whether b, which is /proc/PID/cgroup, says that the process is
// in the control group at path or below it, in any of the hierarchies there are.
// A line is "hierarchy:controllers:path" (cgroups(7)).
func within(b []byte, path string) bool {
	for line := range bytes.Lines(b) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(fields) == 3 && (fields[2] == path || strings.HasPrefix(fields[2], path+"/")) {
			return true
		}
	}
	return false
}

// nested reports whether b, which is /proc/PID/status, is that of a process in a
// pid namespace below the reader's, in which it has a further pid (NSpid,
// proc_pid_status(5)).
func nested(b []byte) bool {
	for line := range strings.Lines(string(b)) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(pids)) > 1
		}
	}
	return false
}

// procStatus is what counts of /proc/PID/status (proc_pid_status(5)).
type procStatus struct {
	tgid       int
	real, save uint32 // user ids
	signals    disposition.Masks
}

// mayBeSignalledBy reports whether uid could signal the process itself: its
// real or its saved user id (kill(2)). The effective one does not count, or a
// daemon of root that acts for a user for a moment would be that user's.
func (s procStatus) mayBeSignalledBy(uid uint32) bool { return uid == s.real || uid == s.save }

// parseStatus reads /proc/PID/status. All fields that count must be there. The
// kernel escapes newlines in the process's name, so a line is a field.
func parseStatus(b []byte) (procStatus, error) {
	var s procStatus
	missing := map[string]bool{"Tgid": true, "Uid": true}
	for line := range strings.Lines(string(b)) {
		key, rest, _ := strings.Cut(line, ":")
		if !missing[key] {
			continue
		}
		delete(missing, key)
		if err := s.set(key, strings.Fields(rest)); err != nil {
			return procStatus{}, err
		}
	}
	for key := range missing {
		return procStatus{}, fmt.Errorf("parse status: no %s", key)
	}
	var err error
	s.signals, err = disposition.Parse(b)
	return s, err
}

func (s *procStatus) set(key string, fields []string) error {
	want, bits := 1, 31
	if key == "Uid" {
		want, bits = 4, 32 // real, effective, saved, file system
	}
	if len(fields) != want {
		return fmt.Errorf("parse status: %s has %d values", key, len(fields))
	}
	nums := make([]uint64, want)
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, bits)
		if err != nil {
			return fmt.Errorf("parse status: %s is not a number", key)
		}
		nums[i] = n
	}
	if key == "Uid" {
		s.real, s.save = uint32(nums[0]), uint32(nums[2])
	} else {
		s.tgid = int(nums[0])
	}
	return nil
}
