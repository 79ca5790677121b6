package notify

import (
	"errors"
	"iter"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"secretsd/agent/redact"
	"secretsd/agent/secret"
)

// lastWords is how long the end of what a command that has ended has printed is waited
// for. It is there already, unless somebody whom it has left behind may print more.
const lastWords = 100 * time.Millisecond

// printed is what a command prints. It is read for as long as anybody can write it,
// so that no one whom the command has left behind is ended by a broken pipe while the
// agent runs, and only the end is kept.
type printed struct {
	ours, theirs *os.File
	ended        chan struct{}
	// known are the values that were known when the command began: by the time
	// it ends, others may have taken their place.
	known []iter.Seq[secret.Value]

	mu   sync.Mutex
	tail redact.Tail
}

// listen has cmd, which is not started yet but has its environment, print into the
// result. Its tell is called once the command has ended or could not be started.
func listen(cmd *exec.Cmd, known ...iter.Seq[secret.Value]) (*printed, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, &failure{msg: "make a pipe for the command's output", cause: err}
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	p := &printed{ours: ours, theirs: theirs, ended: make(chan struct{}), known: known}
	go p.read()
	return p, nil
}

func (p *printed) read() {
	defer close(p.ended)
	defer func() { _ = p.ours.Close() }()
	buf := make([]byte, redact.TailSize)
	for {
		n, err := p.ours.Read(buf)
		p.mu.Lock()
		_, _ = p.tail.Write(buf[:n]) // never fails
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// tell returns err, which is how the command ended, with the end of what it has
// printed, without what is in it of values. A nil err needs no words.
func (p *printed) tell(err error, values iter.Seq[secret.Value]) error {
	known := append(p.known, values)
	p.known = nil // whom the command has left behind may keep p for ever, but no values
	_ = p.theirs.Close()
	f, ok := errors.AsType[*failure](err)
	if !ok || !f.ran {
		return err
	}
	late := time.NewTimer(lastWords)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
	}
	p.mu.Lock()
	text := p.tail.Text(all(known))
	p.mu.Unlock()
	f.output = strings.TrimSpace(text)
	if f.hint == outputHint {
		f.hint = ""
	}
	return f
}

func all(lists []iter.Seq[secret.Value]) iter.Seq[secret.Value] {
	return func(yield func(secret.Value) bool) {
		for _, list := range lists {
			for v := range list {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// valuesOf returns the values of variables, NAME=VALUE.
func valuesOf(vars []string) iter.Seq[secret.Value] {
	return func(yield func(secret.Value) bool) {
		for _, kv := range vars {
			if _, value, _ := strings.Cut(kv, "="); !yield(secret.NewValue(value)) {
				return
			}
		}
	}
}
