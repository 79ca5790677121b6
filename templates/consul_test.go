package templates_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"secretsd/templates"
)

// TestConsulTemplateGivesTheSame renders templates that consul-template 0.41.1
// has rendered, whose results testdata/consul-template.jsonl holds.
func TestConsulTemplateGivesTheSame(t *testing.T) {
	recorded, err := os.ReadFile("testdata/consul-template.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for dec := json.NewDecoder(bytes.NewReader(recorded)); dec.More(); rows++ {
		var row struct{ Template, Result string }
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
		got, err := render(secrets{}, templates.Options{
			Name: "a.tmpl", Text: row.Template, AllowEnv: []string{"SET_VARIABLE", "UNSET_VARIABLE"},
			LookupEnv: func(name string) (string, bool) {
				return map[string]string{"SET_VARIABLE": "v"}[name], name == "SET_VARIABLE"
			},
		})
		if err != nil || got != row.Result {
			t.Errorf("%s\n gives           %q, %v\n consul-template %q", row.Template, got, err, row.Result)
		}
	}
	if rows < 50 {
		t.Errorf("only %d templates are recorded", rows)
	}
}
