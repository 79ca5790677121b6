package notify_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// via returns a target that is told by s.
func via(s notify.Step) notify.Target { return notify.Target{Name: "app", Step: s} }

// found returns a target whose process p gets SIGHUP.
func found(p notify.Process) notify.Target {
	return via(notify.Step{Process: &p, Signal: syscall.SIGHUP})
}

// confirmed returns a target that has to confirm by p.
func confirmed(p notify.Probe) notify.Target {
	t := hook("true")
	t.Confirm = &p
	return t
}

func TestTargetsAreValidated(t *testing.T) {
	pid := notify.Process{PidFile: "/run/a"}
	nginx := &notify.Unit{Name: "nginx.service", Action: "reload"}
	url := func(u string) notify.Target { return via(notify.Step{HTTP: &notify.HTTP{URL: u}}) }
	ladder := func(s notify.Step) notify.Target {
		t := confirmed(notify.Probe{TCP: "127.0.0.1:80"})
		t.Ladder = []notify.Step{{Unit: nginx}, s}
		return t
	}
	for name, tc := range map[string]struct {
		target notify.Target
		part   string
	}{
		"pid file":   {found(pid), ""},
		"program":    {found(notify.Process{Exe: "/usr/sbin/nginx"}), ""},
		"argv0":      {found(notify.Process{Argv0: "nginx: master process nginx"}), ""},
		"cgroup":     {found(notify.Process{Cgroup: "/system.slice/nginx.service"}), ""},
		"service":    {found(notify.Process{Unit: "app@1.service"}), ""},
		"child":      {found(notify.Process{Child: true}), ""},
		"command":    {hook("true", "{}"), ""},
		"unit":       {via(notify.Step{Unit: nginx}), ""},
		"escaped":    {via(notify.Step{Unit: &notify.Unit{Name: `a-b\x2dc@x:y.socket`, Action: "restart"}}), ""},
		"http":       {url("http://127.0.0.1:8080/-/reload?now=1"), ""},
		"https":      {url("https://localhost/reload"), ""},
		"http on v6": {url("http://[::1]:1/"), ""},
		"mapped":     {url("http://[::ffff:127.0.0.9]:1/"), ""},
		"ladder":     {ladder(notify.Step{Command: []string{"true"}, User: "root"}), ""},

		"no name":        {notify.Target{Step: notify.Step{Command: []string{"true"}}}, "target: name is missing"},
		"nothing":        {notify.Target{Name: "a"}, "give either a process, a command"},
		"two ways":       {via(notify.Step{Process: &pid, Signal: 1, Command: []string{"true"}}), "give either a process, a command"},
		"relative":       {found(notify.Process{PidFile: "run/a"}), "not an absolute path"},
		"with dots":      {found(notify.Process{Exe: "/usr/../bin/app"}), "no plain path"},
		"every cgroup":   {found(notify.Process{Cgroup: "/"}), "no plain path"},
		"no process":     {found(notify.Process{}), "give either a pid file"},
		"two processes":  {found(notify.Process{PidFile: "/run/a", Child: true}), "give either a pid file"},
		"socket":         {found(notify.Process{Unit: "app.socket"}), "is no service"},
		"short unit":     {found(notify.Process{Unit: "nginx"}), "is no service"},
		"no signal":      {via(notify.Step{Process: &pid}), "signal is missing"},
		"wrong signal":   {via(notify.Step{Process: &pid, Signal: 99}), "not a signal"},
		"stop":           {via(notify.Step{Process: &pid, Signal: syscall.SIGSTOP}), "no process can handle it"},
		"relative hook":  {hook("bin/x"), "is a relative path"},
		"empty hook":     {hook(""), "command is empty"},
		"NUL":            {hook("true", "a\x00b"), "NUL"},
		"user of nobody": {via(notify.Step{Unit: nginx, User: "root"}), "only a command is run as a user"},
		"negative":       {notify.Target{Name: "a", Step: hook("true").Step, Debounce: -1}, "cannot be negative"},
		"negative time":  {via(notify.Step{Command: []string{"true"}, Timeout: -1}), "cannot be negative"},

		"no unit's name": {via(notify.Step{Unit: &notify.Unit{Name: "../x.service", Action: "reload"}}), "is no unit's name"},
		"short name":     {via(notify.Step{Unit: &notify.Unit{Name: "nginx", Action: "reload"}}), "is no unit's name"},
		"slice":          {via(notify.Step{Unit: &notify.Unit{Name: "system.slice", Action: "reload"}}), "is no unit's name"},
		"stop it":        {via(notify.Step{Unit: &notify.Unit{Name: "a.service", Action: "stop"}}), `action "stop" is unknown`},

		"no url":       {url(""), "is no http or https URL"},
		"no host":      {url("http:///reload"), "is no http or https URL"},
		"file":         {url("file:///etc/passwd"), "is no http or https URL"},
		"opaque":       {url("http:127.0.0.1"), "is no http or https URL"},
		"password":     {url("http://a:b@localhost/"), "a password"},
		"fragment":     {url("http://localhost/#x"), "a fragment"},
		"no such port": {url("http://localhost:99999/"), "a port that does not exist"},
		"elsewhere":    {url("http://example.com/"), "leads away from this machine"},
		"metadata":     {url("http://169.254.169.254/"), "leads away from this machine"},
		"any address":  {url("http://0.0.0.0:1/"), "leads away from this machine"},
		"looks local":  {url("http://localhost.example.com/"), "leads away from this machine"},
		"in octal":     {url("http://0177.0.0.1/"), "leads away from this machine"},
		"wrong method": {via(notify.Step{HTTP: &notify.HTTP{URL: "http://localhost/", Method: "DELETE"}}), `method "DELETE" cannot be used`},
		"lower case":   {via(notify.Step{HTTP: &notify.HTTP{URL: "http://localhost/", Method: "post"}}), `method "post" cannot be used`},
		"no status":    {via(notify.Step{HTTP: &notify.HTTP{URL: "http://localhost/", Status: 100}}), "status 100"},

		"ladder to nowhere": {notify.Target{Name: "a", Step: hook("true").Step, Ladder: []notify.Step{{Unit: nginx}}}, "need something that confirms"},
		"rollback alone":    {notify.Target{Name: "a", Step: hook("true").Step, Rollback: true}, "need something that confirms"},
		"wrong step":        {ladder(notify.Step{}), "step 2 of the ladder: give either"},
		"confirm nothing":   {confirmed(notify.Probe{}), "confirm: give either"},
		"confirm twice":     {confirmed(notify.Probe{TCP: "127.0.0.1:80", Command: []string{"true"}}), "confirm: give either"},
		"confirm by post":   {confirmed(notify.Probe{HTTP: &notify.HTTP{URL: "http://localhost/", Method: "POST"}}), `method "POST"`},
		"confirm elsewhere": {confirmed(notify.Probe{HTTP: &notify.HTTP{URL: "http://10.0.0.1/"}}), "leads away"},
		"port 0":            {confirmed(notify.Probe{TCP: "127.0.0.1:0"}), "is no address"},
		"no port":           {confirmed(notify.Probe{TCP: "127.0.0.1"}), "is no address"},
		"tcp elsewhere":     {confirmed(notify.Probe{TCP: "db.example.com:5432"}), "leads away"},
		"never asked":       {confirmed(notify.Probe{TCP: "127.0.0.1:80", Delay: time.Second, Timeout: time.Second}), "never be asked"},
		"user of a port":    {confirmed(notify.Probe{TCP: "127.0.0.1:80", User: "root"}), "only a command is run as a user"},
	} {
		err := tc.target.Validate()
		if tc.part == "" && err != nil || tc.part != "" && (err == nil || !strings.Contains(err.Error(), tc.part)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.part)
		}
	}
}
