package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kill ends the agent as a crash does.
func (r *rotating) kill() {
	r.t.Helper()
	r.agent.signal(syscall.SIGKILL)
	r.agent.wait()
}

// again runs the agent once more.
func (r *rotating) again() {
	r.t.Helper()
	r.agent = secretsd(r.t, cleanEnv(), "run", "--config", r.conf)
}

// TestAKilledAgentStillShowsThePendingVersion kills it between setSecret and
// finishSecret: neither a file nor a child has the refused version again.
func TestAKilledAgentStillShowsThePendingVersion(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	r := startRotating(t, "{name: db, id: prod/db, pending: true}", `
exec:
  command: [sh, -c, 'echo "$PASSWORD" >> `+seen+`; exec sleep 3600']
  env: {PASSWORD: '{{ secret "db" }}'}
`)
	second := r.pend("CANARY-two")
	if got := r.refused(r.first); got.VersionID != second || content(r.file) != "CANARY-two" {
		t.Fatalf("%+v, the file holds %q", got, content(r.file))
	}
	eventually(t, "the child has it", func() bool { return content(seen) == "CANARY-one\nCANARY-two\n" })
	state := content(filepath.Join(r.dir, "state", "state.json"))
	if !strings.Contains(state, second) || strings.Contains(state, "CANARY") {
		t.Errorf("the state is %s", state)
	}
	r.kill()
	r.again()
	r.agent.until("msg=ready")
	eventually(t, "a child is there again", func() bool { return strings.Count(content(seen), "\n") == 3 })
	if content(r.file) != "CANARY-two" || content(seen) != "CANARY-one\nCANARY-two\nCANARY-two\n" || strings.Contains(r.agent.out.String(), "published file") {
		t.Errorf("the file holds %q, the children had %q", content(r.file), content(seen))
	}

	// The wrapper knows it too, where it has the same state directory.
	r.kill()
	alone := filepath.Join(r.dir, "alone.yaml") // without a file that it would wait for
	write(t, alone, regexp.MustCompile(`(?m)^files: .*$`).ReplaceAllString(content(r.conf), ""))
	once := []string{"exec", "--config", alone, "--wait", "2s", "--", "sh", "-c", `echo "with $PASSWORD"`}
	if out, code := runTo(t, cleanEnv(), once...); code != 0 || !strings.Contains(out, "with CANARY-two") {
		t.Errorf("exec ends with %d: %s", code, out)
	}
	r.broken.Store(true)
	if out, code := runTo(t, cleanEnv(), once...); code != 4 || strings.Contains(out, "CANARY") || !strings.Contains(out, "AWSPENDING cannot be read") {
		t.Errorf("exec ends in an outage with %d: %s", code, out)
	}

	// In an outage the file stays, and no child is started, until the answer comes.
	r.again()
	r.agent.until("AWSPENDING cannot be read")
	if out, _ := runTo(t, cleanEnv(), "status", "--config", r.conf); !strings.Contains(out, "refused, pending not readable") {
		t.Errorf("status says\n%s", out)
	}
	steady(t, "nothing shows the refused version", func() bool {
		return content(r.file) == "CANARY-two" && content(seen) == "CANARY-one\nCANARY-two\nCANARY-two\n"
	})
	r.broken.Store(false)
	r.agent.until("msg=ready")
	eventually(t, "a child is there again", func() bool { return content(seen) == "CANARY-one\nCANARY-two\nCANARY-two\nCANARY-two\n" })
	r.finish(r.first, second)
	eventually(t, "the current version is the new one", func() bool {
		return r.refused(r.first) == answered{Name: "db", VersionID: second, State: "published"}
	})
	if content(r.file) != "CANARY-two" {
		t.Errorf("the file holds %q", content(r.file))
	}
}

// login is a program that reads the rendered file and logs in with it, all the time. The
// database is a model: it takes one password.
type login struct {
	*rotating
	mu       sync.Mutex
	password string
	// told are the versions of which the agent has answered that it knows of their
	// refusal, with what to use in their place.
	told map[string]bool
	// logins are counted by outcome; avoidable are refusals by what the file held
	// though the agent had been told of it.
	ok, refusedOnce int
	avoidable       []string
	last            string
}

func (l *login) set(password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.password = password
}

// try logs in once.
func (l *login) try(ctx context.Context) {
	data, err := os.ReadFile(l.file)
	if err != nil {
		l.t.Error(err) // the file was there once and is to stay
		return
	}
	f := strings.Fields(string(data))
	if len(f) != 3 || f[1] != f[2] {
		l.t.Errorf("two names of one secret differ: %q", data)
		return
	}
	version, password := f[0], f[1]
	l.mu.Lock()
	right := password == l.password
	switch {
	case right:
		l.ok, l.last = l.ok+1, version
	case l.told[version]:
		l.avoidable = append(l.avoidable, version)
	default:
		l.refusedOnce++
	}
	l.mu.Unlock()
	if right {
		return
	}
	if got, err := l.tell(ctx, version); err == nil && got != version {
		l.mu.Lock()
		l.told[version] = true
		l.mu.Unlock()
	}
}

// tell says which version was refused, and returns the one to use. An agent that is
// just being killed or started does not answer.
func (l *login) tell(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.endpoint+"/secretsd/refresh?"+url.Values{"secretId": {"db"}, "refused": {version}}.Encode(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Vault-Token", strings.TrimSpace(content(filepath.Join(l.dir, "token"))))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var got answered
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	err = json.NewDecoder(resp.Body).Decode(&got)
	return got.VersionID, err
}

func (l *login) run(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.try(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// TestRotationsOfOneUserWhileTheAgentIsKilled kills the agent at any moment of each
// rotation, has it reload, and AWSPENDING be not readable for a while. A version of
// which a program has told the agent that it is refused, and been answered, never comes
// back.
func TestRotationsOfOneUserWhileTheAgentIsKilled(t *testing.T) {
	const rotations, killsEach = 30, 2
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	r := startRotating(t, "{name: db, id: prod/db, pending: true}", "")
	write(t, r.conf, strings.NewReplacer(
		`'{{ secret "db" }}'`, `'{{ version "db" }} {{ secret "db" }} {{ secret "same" }}'`,
		"pending: true}", "pending: true}, {name: same, id: '"+r.arn+"', pending: true}",
	).Replace(content(r.conf)))
	r.kill()
	r.again()
	r.agent.until("msg=ready")
	l := &login{rotating: r, password: "CANARY-one", told: map[string]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	var client sync.WaitGroup
	client.Go(func() { l.run(ctx) })
	defer client.Wait()
	defer cancel()
	wait := func(most time.Duration) { <-time.After(time.Duration(rnd.Int64N(int64(most)))) }
	current := r.first
	for n := range rotations {
		var moments []time.Duration
		for range killsEach {
			moments = append(moments, time.Duration(rnd.Int64N(int64(250*time.Millisecond))))
		}
		value, offset := fmt.Sprintf("CANARY-%d", n), time.Duration(rnd.Int64N(int64(200*time.Millisecond)))
		var killer sync.WaitGroup
		killer.Go(func() {
			for _, m := range moments {
				<-time.After(m)
				r.agent.signal(syscall.SIGKILL)
				<-r.agent.done
				r.again()
			}
		})
		var trouble sync.WaitGroup
		trouble.Go(func() {
			<-time.After(offset + 20*time.Millisecond)
			r.broken.Store(n%2 == 1)
			<-time.After(150 * time.Millisecond)
			r.broken.Store(false)
		})
		next := r.pend(value)
		wait(60 * time.Millisecond)
		l.set(value)
		if n%3 > 0 { // else finishSecret comes at any time
			killer.Wait()
			eventually(t, "the program logs in with the pending version", func() bool { return l.uses(next) })
			r.agent.until("msg=ready") // SIGHUP would end it before
			r.agent.signal(syscall.SIGHUP)
			wait(100 * time.Millisecond)
		} else {
			wait(400 * time.Millisecond)
		}
		r.finish(current, next)
		eventually(t, "the program logs in with the new version", func() bool { return l.uses(next) })
		killer.Wait()
		trouble.Wait()
		current = next
	}
	cancel()
	client.Wait()
	t.Logf("%d logins, %d refused before the agent was told, %d after", l.ok, l.refusedOnce, len(l.avoidable))
	if len(l.avoidable) > 0 {
		t.Errorf("%d logins were refused by what the file held, though the agent had been told: %v", len(l.avoidable), l.avoidable)
	}
}

func (l *login) uses(version string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last == version
}
