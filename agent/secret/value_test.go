package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"secretsd/agent/secret"
)

const canary = "CANARY-hunter2"

// outer hides a Value behind unexported fields, which is where fmt and slog
// stop asking for methods.
type outer struct {
	v  secret.Value
	p  *secret.Value
	m  map[string]secret.Value
	vs []secret.Version
}

func TestValueNeverPrints(t *testing.T) {
	v := secret.NewValue(canary)
	hidden := outer{v: v, p: &v, m: map[string]secret.Value{"k": v}, vs: []secret.Version{{Text: v, Binary: v}}}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		fmt.Fprintf(&b, verb+"\n", v)
		fmt.Fprintf(&b, verb+"\n", &v)
		fmt.Fprintf(&b, verb+"\n", hidden)
		fmt.Fprintf(&b, verb+"\n", &hidden)
		fmt.Fprintf(&b, verb+"\n", secret.Version{Text: v})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("m", "value", v, "outer", hidden, "version", secret.Version{Binary: v}, "err", fmt.Errorf("e: %v", v))
	}
	if err := json.NewEncoder(&b).Encode(map[string]any{"v": v, "version": secret.Version{Text: v}}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(&b, errors.Join(fmt.Errorf("%w: %+v", errors.ErrUnsupported, hidden)))
	for _, leak := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("a value was printed: %s", b.String())
		}
	}
	if v.Reveal() != canary || string(v.Bytes()) != canary {
		t.Error("Reveal and Bytes do not return the value")
	}
}

func TestValueEqualTellsEmptyFromAbsent(t *testing.T) {
	var none secret.Value
	empty := secret.NewValue("")
	if none.Equal(empty) || empty.Equal(none) || !none.Equal(secret.Value{}) || !empty.Equal(secret.NewValue("")) {
		t.Error("an absent value must equal only an absent one")
	}
	if !none.IsZero() || empty.IsZero() {
		t.Error("an empty value is not an absent one")
	}
}

func TestKindOfFindsTheKindThroughWrapping(t *testing.T) {
	denied := &secret.Error{Kind: secret.Denied, ID: "db", Code: "AccessDeniedException", Message: "no"}
	if got := secret.KindOf(fmt.Errorf("refresh: %w", errors.Join(errors.New("x"), denied))); got != secret.Denied {
		t.Errorf("got %v", got)
	}
	if got := secret.KindOf(errors.New("anything")); got != secret.Transient {
		t.Errorf("an error without a kind is %v, want transient", got)
	}
	if got, want := denied.Error(), "read secret db: AccessDeniedException: no"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
