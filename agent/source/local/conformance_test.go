package local_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"secretsd/agent/source/local"
)

type (
	obj = map[string]any
	arr = []any
	// set is a list in any order.
	set []string
	// named is a list of secrets by their names, in order.
	named []string
	// labelled is a list of versions by id, each with its labels, in any order.
	labelled map[string][]string
	// exact is an object with these members and no others.
	exact obj
	// like is a check of one member.
	like func(any) error
)

// step is one call and what comes back. Texts may hold ${name}, the row's own
// secret name, ${v1} to ${v9}, version ids, and what earlier steps saved.
type step struct {
	op     string
	in     obj
	raw    bool   // by plain HTTP: what the SDK would refuse or fill in itself
	body   string // instead of in, as it is; implies raw
	code   string // of the error; "" means success
	status int    // 0 means 200, or 400 for errors
	// message is compared on our service only: moto words many its own way.
	message string
	want    obj // members that must be there, others may be
	absent  []string
	save    map[string]string // variable to member of the answer
}

// row is one rule. It depends on no other row.
type row struct {
	name string
	// moto says why moto answers otherwise; the row must then fail there.
	moto  string
	steps []step
}

func TestConformance(t *testing.T) {
	names := map[string]bool{}
	for _, r := range rows {
		if names[r.name] {
			t.Errorf("two rows are called %q", r.name)
		}
		names[r.name] = true
	}
	backends := []struct {
		name string
		make func(t *testing.T) *backend
	}{
		{"transport", func(*testing.T) *backend { return inProcess(local.New(local.Options{})) }},
		{"loopback", func(t *testing.T) *backend { return onLoopback(t, local.New(local.Options{})) }},
		{"moto", onMoto},
	}
	for _, make := range backends {
		t.Run(make.name, func(t *testing.T) {
			b := make.make(t)
			for _, r := range rows {
				t.Run(r.name, func(t *testing.T) { b.check(t, r) })
			}
		})
	}
}

func (b *backend) check(t *testing.T, r row) {
	err := b.play(t.Context(), r)
	switch {
	case b.moto && r.moto != "" && err == nil:
		t.Errorf("moto agrees now; strike out its deviation %q", r.moto)
	case b.moto && r.moto != "":
		t.Logf("moto: %s: %v", r.moto, err)
	case err != nil:
		t.Error(err)
	}
}

// play runs the steps of a row and returns what differs first.
func (b *backend) play(ctx context.Context, r row) error {
	vars := map[string]string{"name": "t-" + strings.ToLower(rand.Text()[:12])}
	for i := 1; i <= 9; i++ {
		x := fmt.Sprintf("%x", rand.Text())
		vars[fmt.Sprintf("v%d", i)] = fmt.Sprintf("%s-%s-%s-%s-%s", x[:8], x[8:12], x[12:16], x[16:20], x[20:32])
	}
	for i, s := range r.steps {
		if err := b.playStep(ctx, s, vars); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.op, err)
		}
	}
	return nil
}

func (b *backend) playStep(ctx context.Context, s step, vars map[string]string) error {
	in, _ := expand(s.in, vars).(obj)
	got, err := b.ask(ctx, s, in, vars)
	if err != nil {
		return err
	}
	status := s.status
	if status == 0 {
		status = 200
		if s.code != "" {
			status = 400
		}
	}
	if got.code != s.code {
		return fmt.Errorf("got code %q (%s), want %q", got.code, got.message, s.code)
	}
	// moto answers some refusals with 404; one row says so for all.
	if got.status != status && (!b.moto || s.status != 0) {
		return fmt.Errorf("got status %d, want %d", got.status, status)
	}
	if want := expand(s.message, vars); s.message != "" && !b.moto && got.message != want {
		return fmt.Errorf("got message %q, want %q", got.message, want)
	}
	if err := match(got.out, expand(s.want, vars)); err != nil {
		return err
	}
	for _, member := range s.absent {
		if got.out[member] != nil {
			return fmt.Errorf("%s is there: %v", member, got.out[member])
		}
	}
	for name, member := range s.save {
		vars[name], _ = got.out[member].(string)
		vars[name+"-"] = vars[name][:max(0, len(vars[name])-7)] // an ARN without its suffix
	}
	return nil
}

func (b *backend) ask(ctx context.Context, s step, in obj, vars map[string]string) (*answer, error) {
	if s.body != "" {
		return b.raw(ctx, s.op, expand(s.body, vars).(string))
	}
	if !s.raw {
		return b.call(ctx, s.op, in)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return b.raw(ctx, s.op, string(body))
}

// expand replaces the variables in a value.
func expand(v any, vars map[string]string) any {
	switch v := v.(type) {
	case string:
		return os.Expand(v, func(name string) string { return vars[name] })
	case obj:
		out := obj{}
		for k, e := range v {
			out[os.Expand(k, func(name string) string { return vars[name] })] = expand(e, vars)
		}
		return out
	case arr:
		out := arr{}
		for _, e := range v {
			out = append(out, expand(e, vars))
		}
		return out
	case []string:
		return expandAll(v, vars)
	case set:
		return set(expandAll(v, vars))
	case named:
		return named(expandAll(v, vars))
	case exact:
		return exact(expand(obj(v), vars).(obj))
	case labelled:
		out := labelled{}
		for id, l := range v {
			out[expand(id, vars).(string)] = l
		}
		return out
	}
	return v
}

func expandAll(texts []string, vars map[string]string) []string {
	out := make([]string, len(texts))
	for i, e := range texts {
		out[i] = expand(e, vars).(string)
	}
	return out
}

// match reports what of want is not in got.
func match(got, want any) error {
	switch want := want.(type) {
	case nil:
		return nil
	case obj:
		have, ok := got.(obj)
		if !ok {
			return fmt.Errorf("got %v, want an object", got)
		}
		for k, w := range want {
			if err := match(have[k], w); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		return nil
	case arr:
		have, _ := got.(arr)
		if len(have) != len(want) {
			return fmt.Errorf("got %d elements %v, want %d", len(have), got, len(want))
		}
		for i := range want {
			if err := match(have[i], want[i]); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case set:
		return matchSet(got, want)
	case named:
		return matchNames(got, want)
	case labelled:
		return matchVersions(got, want)
	case exact:
		if have, _ := got.(obj); len(have) != len(want) {
			return fmt.Errorf("got %v, want exactly %v", got, want)
		}
		return match(got, obj(want))
	case like:
		return want(got)
	}
	if got != want {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

func matchSet(got any, want set) error {
	have, ok := got.(arr)
	if !ok && len(want) > 0 {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	var texts set
	for _, h := range have {
		texts = append(texts, fmt.Sprint(h))
	}
	slices.Sort(texts)
	sorted := slices.Sorted(slices.Values(want))
	if !slices.Equal(texts, sorted) {
		return fmt.Errorf("got %v, want %v", texts, sorted)
	}
	return nil
}

func matchNames(got any, want named) error {
	var have named
	list, _ := got.(arr)
	for _, s := range list {
		have = append(have, fmt.Sprint(s.(obj)["Name"]))
	}
	if !slices.Equal(have, want) {
		return fmt.Errorf("got %v, want %v", have, want)
	}
	return nil
}

func matchVersions(got any, want labelled) error {
	list, _ := got.(arr)
	if len(list) != len(want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	for _, v := range list {
		version := v.(obj)
		labels, ok := want[fmt.Sprint(version["VersionId"])]
		if !ok {
			return fmt.Errorf("got version %v, want %v", version, want)
		}
		if err := matchSet(version["VersionStages"], labels); err != nil {
			return err
		}
	}
	return nil
}

var present = like(func(got any) error {
	if got == nil || got == "" {
		return errors.New("is absent")
	}
	return nil
})
