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

func TestTheUnitOfAProcess(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/app.service\n":                                         "app.service",
		"0::/system.slice/system-app.slice/app@1.service/payload/b.service\n":    "app@1.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n": "user@1000.service",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                       "",
		"0::/system.slice/_cgroup.service\n":                                     "cgroup.service",
		"0::/\n":                                                                 "",
		"0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n":                   "",
		"0::/docker/0123/app.service\n":                                          "",
		"3:cpu:/x.service\n2:name=systemd:/system.slice/a.service\n1::/\n":       "a.service",
		"5:memory:/app.service\n":                                                "",
		"rubbish\n:\n":                                                           "",
		"":                                                                       "",
	} {
		if got := notify.UnitOf([]byte(groups)); got != want {
			t.Errorf("%q: got %q, want %q", groups, got, want)
		}
	}
}
