package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// machine is a real systemd in namespaces of its own, whose units are in dir, which
// it knows as /run/test.
type machine struct {
	t   *testing.T
	dir string
}

// newMachine makes a machine with units, by name, that is not running yet. Nothing
// of the real machine's /run, /tmp, /var/tmp and /dev/shm is seen there, nor can be
// cleared away by its systemd-tmpfiles.
func newMachine(t *testing.T, units map[string]string) *machine {
	t.Helper()
	need(t, "systemd-analyze")
	if os.Geteuid() != 0 {
		lacking(t, "root, to boot a systemd")
	}
	m := &machine{t: t, dir: t.TempDir()}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m.put("secretsd", textOf(t, path), 0o755)
	m.put("app", appScript, 0o644)
	for name, text := range units {
		m.put("units/"+name, "[Unit]\nDefaultDependencies=no\n"+text, 0o644)
	}
	m.put("boot", `set -e
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /run/test
mount --bind "$1" /run/test
for dir in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
if [ -d /run/test/rules.d ]; then mount --bind /run/test/rules.d /etc/polkit-1/rules.d; fi
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc SYSTEMD_UNIT_PATH=/run/test/units \
  SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=1 \
  /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
`, 0o644)
	m.rotate("one")
	return m
}

// boot boots the machine with the units that are wanted, and returns when its last
// agent is ready.
func (m *machine) boot(wanted ...string) {
	m.t.Helper()
	m.put("units/test.target", "[Unit]\nRequires="+strings.Join(wanted, " ")+"\n", 0o644)
	var said lockedBuffer
	cmd := exec.Command(need(m.t, "unshare"), "-m", "-p", "-u", "-i", "-C", "--fork", "--kill-child", "/bin/sh", m.dir+"/boot", m.dir)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	m.t.Cleanup(func() {
		// As pid 1 it takes no notice of SIGTERM.
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		if m.t.Failed() {
			m.t.Logf("systemd printed:\n%s", said.String())
			for _, name := range []string{"root.log", "let.log", "nobody.log", "app.log"} {
				m.t.Logf("%s:\n%s", name, m.text(name))
			}
		}
	})
	eventually(m.t, "the agents are ready", func() bool {
		select {
		case <-ended:
			lacking(m.t, "a machine that lets systemd boot in namespaces: "+said.String())
		default:
		}
		for _, unit := range wanted {
			name := strings.TrimSuffix(unit, ".service")
			_, err := os.Stat(m.dir + "/" + name + ".yaml")
			if err == nil && !strings.Contains(m.text(name+".log"), "msg=ready") {
				return false
			}
		}
		return true
	})
}

func (m *machine) put(name, text string, mode os.FileMode) {
	m.t.Helper()
	putFile(m.t, filepath.Join(m.dir, name), text, mode)
}

func (m *machine) text(name string) string { return content(filepath.Join(m.dir, name)) }

// rotate publishes another version of the one secret.
func (m *machine) rotate(value string) {
	m.t.Helper()
	m.put("secrets.yaml.new", "secrets: [{name: db, string: "+value+"}]\n", 0o644)
	if err := os.Rename(m.dir+"/secrets.yaml.new", m.dir+"/secrets.yaml"); err != nil {
		m.t.Fatal(err)
	}
}

// service is a unit that runs one command.
func service(command, more string) string {
	return "[Service]\nExecStart=" + command + "\n" + more + "\n"
}

// agentUnit is an agent that logs to NAME.log, beside its configuration NAME.yaml.
func agentUnit(name, more string) string {
	return fmt.Sprintf(`After=app.service
[Service]
Type=notify
ExecStart=/run/test/secretsd run --config /run/test/%[1]s.yaml
StandardError=append:/run/test/%[1]s.log
RuntimeDirectory=%[1]s
%[2]s
`, name, more)
}

// agentYAML is the configuration of an agent whose one file has these targets.
func agentYAML(name string, targets ...string) string {
	var names []string
	for _, t := range targets {
		names = append(names, regexp.MustCompile(`name: (\w+)`).FindStringSubmatch(t)[1])
	}
	return fmt.Sprintf(`source: {local: {path: /run/test/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: /run/%[1]s/state
secrets: [{name: db, id: db}]
files: [{path: /run/%[1]s/out, contents: '{{ secret "db" }}', notify: [%[2]s]}]
targets:
  - %[3]s
`, name, strings.Join(names, ", "), strings.Join(targets, "\n  - "))
}

// appScript reports its starts and signals in app.log.
const appScript = `exec >>/run/test/app.log
echo started
trap 'echo HUP' HUP
trap 'echo USR1' USR1
while :; do sleep 0.05; done
`

// bus are the units of the system bus and of polkit, as Debian has them.
var bus = map[string]string{
	"dbus.socket": "[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
	"dbus.service": `Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
`,
	"polkit.service": `After=dbus.socket
[Service]
Type=dbus
BusName=org.freedesktop.PolicyKit1
ExecStart=/usr/lib/polkit-1/polkitd --no-debug
`,
}

// said returns the line that an agent logged last of a target, or "".
func (m *machine) said(agent, target string) string {
	var last string
	for line := range strings.Lines(m.text(agent + ".log")) {
		if strings.Contains(line, "target="+target+" ") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

func (m *machine) wantSaid(agent, target string, parts ...string) {
	m.t.Helper()
	eventually(m.t, "the log says of "+target+": "+strings.Join(parts, ", "), func() bool {
		for _, part := range parts {
			if !strings.Contains(m.said(agent, target), part) {
				return false
			}
		}
		return true
	})
}

// TestUnitsAreReloaded has agents tell units of a real systemd over the system bus:
// as root, as a user whom the polkit rule we ship lets, and as one without rights.
func TestUnitsAreReloaded(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a systemd: not in the short round")
	}
	need(t, "dbus-daemon")
	need(t, "pkcheck")
	units := map[string]string{
		"app.service":    service("/bin/sh /run/test/app", "ExecReload=/bin/kill -HUP $MAINPID"),
		"again.service":  service("/bin/sh -c 'echo started >>/run/test/again.log; exec sleep 1000'", ""),
		"idle.service":   service("/bin/touch /run/test/idle-was-started", "ExecReload=/bin/true"),
		"slow.service":   service("/bin/sleep 1000", "ExecReload=/bin/sleep 1000"),
		"broken.service": service("/bin/sleep 1000", "ExecReload=/bin/false"),
		"plain.service":  service("/bin/sleep 1000", ""),
		"fix.service":    service("/bin/touch /run/test/fixed", "Type=oneshot"),
		"root.service":   agentUnit("root", ""),
		"nobody.service": agentUnit("nobody", "User=nobody"),
		"let.service":    agentUnit("let", "User=daemon"),
	}
	for name, text := range bus {
		units[name] = text
	}
	m := newMachine(t, units)
	m.put("root.yaml", agentYAML("root",
		"{name: reload, unit: {name: app.service, action: reload}}",
		"{name: main, signal: USR1, process: {unit: app.service}}",
		"{name: again, unit: {name: again.service, action: try-restart}}",
		"{name: left, unit: idle.service}",
		"{name: idle, unit: {name: idle.service, action: reload}}",
		"{name: awaited, process: {unit: idle.service}}",
		"{name: slow, unit: {name: slow.service, action: reload}, timeout: 500ms}",
		"{name: broken, unit: {name: broken.service, action: reload}}",
		"{name: plain, unit: {name: plain.service, action: reload}}",
		"{name: missing, unit: {name: nosuch.service, action: restart}}",
		"{name: sick, unit: {name: app.service, action: reload}, confirm: {command: [/usr/bin/test, -e, /run/test/fixed], timeout: 1s}, ladder: [{unit: {name: nosuch.service, action: restart}}, {unit: {name: fix.service, action: restart}}]}",
	), 0o644)
	m.put("nobody.yaml", agentYAML("nobody",
		"{name: app, unit: {name: app.service, action: try-reload-or-restart}}",
		"{name: main, signal: USR1, process: {unit: app.service}}",
	), 0o644)
	m.put("let.yaml", agentYAML("let",
		"{name: app, unit: {name: app.service, action: try-reload-or-restart}}",
		"{name: reload, unit: {name: app.service, action: reload}}",
		"{name: verb, unit: {name: app.service, action: restart}}",
		"{name: unit, unit: {name: plain.service, action: reload}}",
	), 0o644)
	rule := strings.NewReplacer(`"secretsd"`, `"daemon"`, "nginx.service", "app.service").Replace(textOf(t, "../packaging/systemd/secretsd.rules"))
	m.put("rules.d/50-secretsd.rules", rule, 0o644)
	m.boot("dbus.socket", "polkit.service", "app.service", "again.service", "slow.service", "broken.service", "plain.service", "root.service", "nobody.service", "let.service")
	m.rotate("two")
	for _, target := range []string{"reload", "main", "again", "left"} {
		m.wantSaid("root", target, `"target told"`)
	}
	for target, parts := range map[string][]string{
		"idle":    {`"nobody to tell yet`, `reload idle.service: it is not running`},
		"awaited": {`"nobody to tell yet`, `idle has no main process: it is not running`},
		"slow":    {`reload slow.service: systemd was not done with it within 500ms, and goes on`},
		"broken":  {`reload broken.service: the job ended as failed`, `journalctl -u broken.service`},
		"plain":   {`reload is not applicable`, `without ExecReload= cannot be reloaded`},
		"missing": {`nosuch.service not found`, `systemctl status nosuch.service`},
		"sick":    {`"target confirmed"`},
	} {
		m.wantSaid("root", target, parts...)
	}
	if log := m.text("root.log"); !strings.Contains(log, `"a step of the ladder failed" target=sick step=1 kind=unit`) {
		t.Error("the step of the ladder that must fail did not")
	}
	if got := strings.Count(m.text("again.log"), "started"); got != 2 {
		t.Errorf("what was to be restarted started %d times", got)
	}
	if _, err := os.Stat(m.dir + "/idle-was-started"); err == nil {
		t.Error("a unit that was not running was started")
	}
	// The first publication is a process's affair too; of two reloads that are asked
	// for at the same time systemd makes one.
	eventually(t, "the application has been reloaded and signalled twice", func() bool {
		log := m.text("app.log")
		return strings.Contains(log, "HUP") && strings.Count(log, "USR1") == 2 && strings.Count(log, "started") == 1
	})
	m.wantSaid("let", "app", `"target told"`)
	m.wantSaid("let", "reload", `"target told"`)
	m.wantSaid("let", "verb", `uid 1 may not do that`, `the verb restart`)
	m.wantSaid("let", "unit", `uid 1 may not do that`, `the verb reload`)
	m.wantSaid("nobody", "app", `uid 65534 may not do that`, `org.freedesktop.systemd1.manage-units`, `the verb reload-or-try-restart`)
	m.wantSaid("nobody", "main", `send SIGUSR1 to process`, `CAP_KILL`)
}

// TestTheAgentLeavesItsOwnUnitAlone: a restart of the agent by the agent is owed
// again when it has started again. By another name, or by what its unit depends on,
// that is the same; only its own name can be known before systemd is asked.
func TestTheAgentLeavesItsOwnUnitAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a systemd: not in the short round")
	}
	m := newMachine(t, map[string]string{
		"app.service":   service("/bin/sh /run/test/app", "ExecReload=/bin/kill -HUP $MAINPID"),
		"base.service":  service("/bin/sleep 1000", ""),
		"next.service":  "BindsTo=base.service\nAfter=base.service\n" + service("/bin/sleep 1000", ""),
		"root.service":  "Requires=app.service\nPartOf=next.service\n" + agentUnit("root", ""),
		"named.service": service("/bin/sh -c '/run/test/secretsd run --config /run/test/self.yaml; echo ended $? >>/run/test/ended.log; exec sleep 1000'", "StandardError=append:/run/test/own.log\nRuntimeDirectory=self"),
	})
	if err := os.Symlink("root.service", m.dir+"/units/alias.service"); err != nil {
		t.Fatal(err)
	}
	m.put("root.yaml", agentYAML("root",
		"{name: alias, unit: {name: alias.service, action: restart}}",
		"{name: again, unit: {name: app.service, action: restart}}",
		"{name: base, unit: base.service}",
		"{name: reload, unit: {name: app.service, action: reload}}",
		"{name: either, unit: app.service}",
	), 0o644)
	m.put("self.yaml", agentYAML("self", "{name: self, unit: named.service}"), 0o644)
	m.boot("app.service", "base.service", "next.service", "named.service", "root.service")
	m.rotate("two")
	for _, target := range []string{"reload", "either"} {
		m.wantSaid("root", target, `"target told"`)
	}
	m.wantSaid("root", "alias", `unit alias.service is the agent's own, which would be told without end`, `process: {child: true}`)
	m.wantSaid("root", "again", `restart app.service: it would take the agent's own unit root.service along`, `by Wants= and After= alone`)
	m.wantSaid("root", "base", `try-reload-or-restart base.service: it would take the agent's own unit root.service along`)
	if got := strings.Count(m.text("app.log"), "started"); got != 1 {
		t.Errorf("the application was started %d times", got)
	}
	eventually(t, "the agent has ended", func() bool { return strings.HasPrefix(m.text("ended.log"), "ended ") })
	if got := m.text("ended.log"); got != "ended 3\n" {
		t.Errorf("the agent that names its own unit %q, want 3", got)
	}
	if got := m.text("own.log"); !strings.Contains(got, "self.yaml:7: unit named.service is the agent's own") || !strings.Contains(got, "hint: name the unit") {
		t.Errorf("it said %q", got)
	}
}

// TestUnitsAreReloadedWithoutABus shows that root needs no system bus.
func TestUnitsAreReloadedWithoutABus(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a systemd: not in the short round")
	}
	m := newMachine(t, map[string]string{
		"app.service":    service("/bin/sh /run/test/app", "ExecReload=/bin/kill -HUP $MAINPID"),
		"root.service":   agentUnit("root", ""),
		"nobody.service": agentUnit("nobody", "User=nobody"),
	})
	m.put("root.yaml", agentYAML("root", "{name: app, unit: app.service}", "{name: main, signal: USR1, process: {unit: app.service}}"), 0o644)
	m.put("nobody.yaml", agentYAML("nobody", "{name: app, unit: app.service}"), 0o644)
	m.boot("app.service", "root.service", "nobody.service")
	m.rotate("two")
	m.wantSaid("root", "app", `"target told"`)
	m.wantSaid("root", "main", `"target told"`)
	eventually(t, "the application has been reloaded once and signalled", func() bool {
		log := m.text("app.log")
		return strings.Count(log, "HUP") == 1 && strings.Count(log, "USR1") == 2
	})
	m.wantSaid("nobody", "app", `connect to systemd: system bus not found`, `or as root /run/systemd/private`)
}
