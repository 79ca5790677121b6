package notify

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns the first thing that is wrong with t, or nil. It touches no
// file; [CheckCommand] does.
func (t Target) Validate() error {
	if t.Name == "" {
		return errors.New("target: name is missing")
	}
	if err := t.validate(); err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	return nil
}

func (t Target) validate() error {
	if slices.Min([]time.Duration{t.Debounce, t.Splay, t.Retry.Initial, t.Retry.Max}) < 0 {
		return errors.New("durations cannot be negative")
	}
	if err := t.Step.Validate(); err != nil {
		return err
	}
	switch {
	case t.Confirm != nil:
		if err := t.Confirm.Validate(); err != nil {
			return fmt.Errorf("confirm: %w", err)
		}
	case len(t.Ladder) > 0 || t.Rollback:
		return errors.New("ladder and rollback need something that confirms")
	}
	for i, s := range t.Ladder {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("step %d of the ladder: %w", i+1, err)
		}
	}
	return nil
}

// Validate returns the first thing that is wrong with s, or nil.
func (s Step) Validate() error {
	if given(s.Process != nil, len(s.Command) > 0, s.HTTP != nil, s.Unit != nil) != 1 {
		return errors.New("give either a process, a command, an HTTP request or a unit")
	}
	switch {
	case s.Timeout < 0:
		return errors.New("durations cannot be negative")
	case s.User != "" && len(s.Command) == 0:
		return errors.New("only a command is run as a user")
	case s.HTTP != nil:
		return s.HTTP.validate("POST", "POST", "PUT", "PATCH", "GET")
	case s.Unit != nil:
		return s.Unit.validate()
	case s.Process != nil:
		return s.validateSignal()
	}
	return validateCommand(s.Command)
}

// given returns how many of them are true.
func given(set ...bool) (n int) {
	for _, is := range set {
		if is {
			n++
		}
	}
	return n
}

func (s Step) validateSignal() error {
	if err := s.Process.validate(); err != nil {
		return err
	}
	if s.Signal == 0 {
		return errors.New("signal is missing")
	}
	_, err := signalNumber(int(s.Signal))
	return err
}

func (p *Process) validate() error {
	if given(p.PidFile != "", p.Exe != "", p.Argv0 != "", p.Cgroup != "", p.Unit != "", p.Child) != 1 {
		return errors.New("process: give either a pid file, a program, an argv0, a cgroup, a unit or the child")
	}
	for _, named := range []struct{ what, path string }{{"pid file", p.PidFile}, {"program", p.Exe}, {"cgroup", p.Cgroup}} {
		switch {
		case named.path == "":
		case !filepath.IsAbs(named.path):
			return fmt.Errorf("%s %q is not an absolute path", named.what, named.path)
		case path.Clean(named.path) != named.path || named.path == "/":
			return fmt.Errorf("%s %q is no plain path of one", named.what, named.path)
		}
	}
	if p.Unit == "" {
		return nil
	}
	if !strings.HasSuffix(p.Unit, ".service") {
		return &failure{
			msg:  fmt.Sprintf("unit %q is no service, and only services have a main process", p.Unit),
			hint: "write its whole name, for example nginx.service",
		}
	}
	return unitName(p.Unit)
}

func validateCommand(argv []string) error {
	if err := commandName(argv[0]); err != nil {
		return err
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return errors.New("a command's argument cannot hold a NUL byte")
		}
	}
	return nil
}

// validate checks the request; methods are those it may have, after the one that
// it has by default.
func (h *HTTP) validate(fallback string, methods ...string) error {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return &failure{msg: fmt.Sprintf("url %q is no http or https URL", h.URL), hint: "write for example http://127.0.0.1:8080/reload"}
	case !isPort(u.Port()):
		return &failure{msg: fmt.Sprintf("url %q has a port that does not exist", h.URL), hint: "ports go from 1 to 65535"}
	case u.User != nil || u.Fragment != "":
		return &failure{msg: "url has a user, a password or a fragment", hint: "a configuration file is no place for passwords: use a command"}
	case !loopback(u.Hostname()):
		return &failure{
			msg:  fmt.Sprintf("url %q leads away from this machine", h.URL),
			hint: "use localhost or a loopback address; for another machine use a command, such as curl",
		}
	}
	if m := h.method(fallback); !slices.Contains(methods, m) {
		return &failure{msg: fmt.Sprintf("method %q cannot be used", m), hint: "one of " + strings.Join(methods, ", ")}
	}
	if h.Status != 0 && (h.Status < 200 || h.Status > 599) {
		return &failure{msg: fmt.Sprintf("status %d is none that ends a request", h.Status), hint: "one from 200 to 599"}
	}
	return nil
}

// isPort reports whether a URL's port can be connected to; without one it has its
// scheme's.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

func (h *HTTP) method(fallback string) string {
	if h.Method == "" {
		return fallback
	}
	return h.Method
}

// loopback reports whether host is a loopback address or localhost, which is one
// by RFC 6761, section 6.3, whatever a resolver says.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// unitSyntax is that of unit names in systemd.unit(5), with the types that can be
// reloaded or restarted.
var unitSyntax = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|path|mount|automount|swap)$`)

func unitName(name string) error {
	if len(name) > 255 || !unitSyntax.MatchString(name) {
		return &failure{msg: fmt.Sprintf("unit %q is no unit's name", name), hint: "write the whole name, for example nginx.service"}
	}
	return nil
}

func (u *Unit) validate() error {
	if err := unitName(u.Name); err != nil {
		return err
	}
	if !slices.Contains(Actions, u.Action) {
		return &failure{msg: fmt.Sprintf("action %q is unknown", u.Action), hint: "one of " + strings.Join(Actions, ", ")}
	}
	return nil
}

// Validate returns the first thing that is wrong with p, or nil.
func (p *Probe) Validate() error {
	switch {
	case given(p.HTTP != nil, len(p.Command) > 0, p.TCP != "") != 1:
		return errors.New("give either an HTTP request, a command or a TCP address")
	case p.Timeout < 0 || p.Delay < 0:
		return errors.New("durations cannot be negative")
	case p.Timeout > 0 && p.Delay >= p.Timeout:
		return errors.New("delay is not less than timeout, so that the target would never be asked")
	case p.User != "" && len(p.Command) == 0:
		return errors.New("only a command is run as a user")
	case p.HTTP != nil:
		return p.HTTP.validate("GET", "GET")
	case p.TCP != "":
		return tcpAddress(p.TCP)
	}
	return validateCommand(p.Command)
}

func tcpAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || port == "0" {
		return &failure{msg: fmt.Sprintf("tcp %q is no address", addr), hint: "write host:port, such as 127.0.0.1:5432"}
	}
	if !loopback(host) {
		return &failure{msg: fmt.Sprintf("tcp %s leads away from this machine", addr), hint: "use localhost or a loopback address"}
	}
	return nil
}
