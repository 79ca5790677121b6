package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (v *validator) targets() {
	names := map[string]int{}
	for i := range v.c.Targets {
		t, key := &v.c.Targets[i], fmt.Sprintf("targets[%d]", i)
		up := []any{t}
		if t.Name == "" {
			v.fault(&t.Name, up, "", "%s.name: missing", key)
		} else if first, taken := names[t.Name]; taken {
			v.fault(&t.Name, up, "", "%s.name: %q is already the name of targets[%d]", key, t.Name, first)
		}
		names[t.Name] = i
		v.step(&t.Step, up, key)
		v.atLeast(&t.Retry.Initial, MinInterval, up, key+".retry.initial")
		v.atLeast(&t.Retry.Max, max(t.Retry.Initial.Std(), MinInterval), up, key+".retry.max")
		v.confirm(t, up, key)
		for j := range t.Ladder {
			v.step(&t.Ladder[j], []any{&t.Ladder[j], t}, fmt.Sprintf("%s.ladder[%d]", key, j))
		}
	}
}

// step checks one way of telling. What only agent/notify knows, such as the names
// of signals, is checked where the target is made.
func (v *validator) step(s *Step, up []any, key string) {
	switch s.Ways() {
	case 1:
	case 0:
		if s.Signal != "" {
			v.fault(&s.Signal, up, "give process: {pid_file: PATH}", "%s.signal: there is no process that it could be sent to", key)
			return
		}
		v.fault(up[0], up[1:], "give process: {pid_file: PATH}, command: [PROGRAM, ARGUMENT], http: URL or unit: NAME", "%s: nothing to tell", key)
		return
	default:
		v.fault(up[0], up[1:], "", "%s: give process, command, http or unit, and only one of them", key)
		return
	}
	if s.Signal != "" && s.Process == nil {
		v.fault(&s.Signal, up, "", "%s.signal: only a process can be sent a signal", key)
	}
	if s.User != "" && len(s.Command) == 0 {
		v.fault(&s.User, up, "", "%s.user: only a command is run as a user", key)
	}
	v.hook(&s.Hook, s.Command, up, key)
	if s.Process != nil && v.c.lines[&s.Process] != 0 { // else it is the target's
		v.process(s.Process, append([]any{s.Process}, up...), key+".process")
	}
	if s.Unit != nil && s.Unit.Name == "" {
		v.fault(&s.Unit.Name, append([]any{s.Unit}, up...), "", "%s.unit.name: missing", key)
	}
	v.request(s.HTTP, up, key)
	v.atLeast(&s.Timeout, MinInterval, up, key+".timeout")
}

// hook checks what only a command has.
func (v *validator) hook(h *Hook, command []string, up []any, key string) {
	if len(command) == 0 {
		if h.Env != nil {
			v.fault(&h.Env, up, "", "%s.env: only a command has an environment", key)
		}
		if h.Output != "" {
			v.fault(&h.Output, up, "", "%s.output: only a command has output", key)
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(h.Env)) {
		place := key + ".env." + name
		switch {
		case h.Env[name] == nil:
			v.fault(place, up, `write "" for an empty variable`, "%s: no value", place)
		case strings.HasPrefix(name, "SECRETSD_"):
			v.fault(place, up, "give it another name", "%s: variables that begin with SECRETSD_ say what has changed", place)
		}
	}
	v.output(&h.Output, up, key)
}

func (v *validator) output(field *string, up []any, key string) {
	if *field != "" && *field != outputDiscard && *field != outputLog {
		v.fault(field, up, "", "%s.output: want %s or %s, not %q", key, outputDiscard, outputLog, *field)
	}
}

func (v *validator) process(p *Process, up []any, key string) {
	if p.Ways() != 1 {
		v.fault(p, up, "for example process: {pid_file: /run/app/app.pid}",
			"%s: give one of pid_file, exe, argv0, cgroup, unit and child: true", key)
		return
	}
	for name, path := range map[string]*string{"pid_file": &p.PIDFile, "exe": &p.Exe, "cgroup": &p.Cgroup} {
		if *path != "" {
			v.absolute(path, up, key+"."+name)
		}
	}
}

func (v *validator) request(h *HTTP, up []any, key string) {
	if h != nil && h.URL == "" {
		v.fault(&h.URL, append([]any{h}, up...), "for example http://127.0.0.1:8080/reload", "%s.http.url: missing", key)
	}
}

// confirm checks what comes after a target was told.
func (v *validator) confirm(t *Target, up []any, key string) {
	f := t.Confirm
	if f == nil {
		const hint = "say by confirm how the target shows that it works"
		if len(t.Ladder) > 0 {
			v.fault(&t.Ladder, up, hint, "%s.ladder: without confirm nothing leads to it", key)
		}
		if t.Rollback {
			v.fault(&t.Rollback, up, hint, "%s.rollback: without confirm nothing leads to it", key)
		}
		return
	}
	up = append([]any{f}, up...)
	if f.Ways() != 1 {
		v.fault(f, up, "for example confirm: {http: http://127.0.0.1:8080/healthz}", "%s.confirm: give one of http, command and tcp", key)
	}
	if f.User != "" && len(f.Command) == 0 {
		v.fault(&f.User, up, "", "%s.confirm.user: only a command is run as a user", key)
	}
	v.hook(&f.Hook, f.Command, up, key+".confirm")
	v.request(f.HTTP, up, key+".confirm")
	v.atLeast(&f.Timeout, MinInterval, up, key+".confirm.timeout")
	if f.Delay >= f.Timeout {
		v.fault(&f.Delay, up, "", "%s.confirm.delay: %s is not less than the timeout, %s", key, f.Delay.Std(), f.Timeout.Std())
	}
}
