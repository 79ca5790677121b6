package agent

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// TestTheEndpointGetsAViewOfEachChange makes passes by hand: the endpoint gets another
// view when a read has brought something, or when a value becomes too old by itself,
// and the same one otherwise.
func TestTheEndpointGetsAViewOfEachChange(t *testing.T) {
	dir, now := memoryDir(t), time.Hour
	cfg, err := config.Parse(filepath.Join(dir, "agent.yaml"), []byte("state_dir: "+dir+"/state\n"+strings.ReplaceAll(oneSecret, "DIR", dir)))
	must(t, err)
	a, err := New(context.Background(), cfg, Options{Local: local.New(local.Options{}), clock: func() time.Duration { return now }})
	must(t, err)
	defer a.Close()
	ref := secret.Current("prod/db")
	put := func(v *secret.Version, err error) {
		a.store.Put([]store.Update{{Name: "db", Ref: ref, Version: v, Err: err, At: now}})
	}
	var last *endpoint.View
	another := func(want bool, when string) {
		t.Helper()
		a.pass(context.Background(), true)
		if got := a.view != last; got != want {
			t.Errorf("%s: another view is %v", when, got)
		}
		last = a.view
	}
	another(true, "at the start")
	put(newVersion(ref, "v1", "x"), nil)
	another(true, "a version")
	another(false, "nothing")
	put(newVersion(ref, "v1", "x"), nil)
	another(true, "the version confirmed")
	put(nil, &secret.Error{Kind: secret.Throttled})
	another(true, "a failure")
	now += 59 * time.Minute
	another(false, "some time")
	now += 2 * time.Minute
	another(true, "max_stale")
	another(false, "nothing after that")
}
