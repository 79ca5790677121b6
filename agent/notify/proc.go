package notify

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// procStatus is what counts of /proc/PID/status (proc_pid_status(5)).
type procStatus struct {
	tgid       int
	real, save uint32 // user ids
	// handled has bit n-1 set for signal n if it is caught or ignored by the
	// process, or blocked by its main thread.
	handled uint64
}

// handles reports whether sig does something other than its default.
func (s procStatus) handles(sig syscall.Signal) bool {
	return sig >= 1 && sig <= 64 && s.handled&(1<<(uint(sig)-1)) != 0
}

// mayBeSignalledBy reports whether uid could signal the process itself: its
// real or its saved user id (kill(2)). The effective one does not count, or a
// daemon of root that acts for a user for a moment would be that user's.
func (s procStatus) mayBeSignalledBy(uid uint32) bool { return uid == s.real || uid == s.save }

// parseStatus reads /proc/PID/status. All fields that count must be there. The
// kernel escapes newlines in the process's name, so a line is a field.
func parseStatus(b []byte) (procStatus, error) {
	var s procStatus
	missing := map[string]bool{"Tgid": true, "Uid": true, "SigBlk": true, "SigIgn": true, "SigCgt": true}
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
	return s, nil
}

func (s *procStatus) set(key string, fields []string) error {
	want, base, bits := 1, 16, 64
	switch key {
	case "Uid":
		want, base, bits = 4, 10, 32 // real, effective, saved, file system
	case "Tgid":
		base, bits = 10, 31
	}
	if len(fields) != want {
		return fmt.Errorf("parse status: %s has %d values", key, len(fields))
	}
	nums := make([]uint64, want)
	for i, f := range fields {
		n, err := strconv.ParseUint(f, base, bits)
		if err != nil {
			return fmt.Errorf("parse status: %s is not a number", key)
		}
		nums[i] = n
	}
	switch key {
	case "Uid":
		s.real, s.save = uint32(nums[0]), uint32(nums[2])
	case "Tgid":
		s.tgid = int(nums[0])
	default:
		s.handled |= nums[0]
	}
	return nil
}
