package notify_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// The units of a real systemd are in e2e/units_test.go; these are of one that
// cannot be asked.

func reload() notify.Target {
	t := via(notify.Step{Unit: &notify.Unit{Name: "app.service", Action: "reload"}})
	t.Timeout = 300 * time.Millisecond
	return t
}

func TestWithoutASystemBusAUnitFails(t *testing.T) {
	if _, err := net.Dial("unix", "/run/systemd/private"); err == nil {
		t.Skip("there is a systemd here, whose units are not the test's to touch")
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	service := found(notify.Process{Unit: "app.service"})
	for _, target := range []notify.Target{reload(), service} {
		err := notify.Attempt(target, change("/a"))
		wantFailure(t, err, "failed", "connect to systemd")
		if hint := notify.HintOf(err); !strings.Contains(hint, "/run/dbus/system_bus_socket") {
			t.Errorf("hint: %q", hint)
		}
	}
}

// hangingBus is a system bus that never answers.
func hangingBus(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, ln, silence)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
}

func TestASystemBusThatNeverAnswersIsCut(t *testing.T) {
	hangingBus(t)
	began := time.Now()
	service := found(notify.Process{Unit: "app.service"})
	service.Timeout = 300 * time.Millisecond
	for _, target := range []notify.Target{reload(), service} {
		wantFailure(t, notify.Attempt(target, change("/a")), "failed", "connect to systemd: no answer in time")
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}
