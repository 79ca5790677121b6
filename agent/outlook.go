package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

// Outlook is what a configuration will have the agent do. It is plain data that
// the caller owns.
type Outlook struct {
	Secrets []PlannedSecret `json:"secrets"`
	Outputs []PlannedOutput `json:"outputs"`
	Targets []PlannedTarget `json:"targets"`
	// Child is nil where none is run.
	Child *PlannedChild `json:"child,omitempty"`
	// CallsPerMonth are those to Secrets Manager in 30 days in which nothing
	// changes, fails or is asked for, and USDPerMonth is their price, without that
	// of the secrets themselves.
	CallsPerMonth int     `json:"calls_per_month"`
	USDPerMonth   float64 `json:"usd_per_month"`
}

// PlannedSecret is a secret that will be read.
type PlannedSecret struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Stage     string `json:"stage,omitempty"`
	VersionID string `json:"version_id,omitempty"`
	Region    string `json:"region,omitempty"`
	RoleARN   string `json:"role_arn,omitempty"`
	// Interval is between two reads.
	Interval string `json:"interval"`
	Required bool   `json:"required"`
	// UsedBy are the files and bundles that are rendered from it, "exec" for the
	// environment of the child, and "target NAME" for that of a target's commands.
	UsedBy []string `json:"used_by,omitempty"`
}

// PlannedOutput is a file or bundle that will be written.
type PlannedOutput struct {
	Path    string   `json:"path"`
	Bundle  bool     `json:"bundle,omitempty"`
	Secrets []string `json:"secrets,omitempty"`
	// Check is the command that new content has to pass.
	Check []string `json:"check,omitempty"`
	// Notify are the targets told when it has changed.
	Notify []string `json:"notify,omitempty"`
}

// PlannedTarget is a target that will be told.
type PlannedTarget struct {
	Name string `json:"name"`
	// How says what is done to tell it.
	How string `json:"how"`
	// Variables are those that the configuration gives its commands, those of ladder and
	// confirm among them, by name.
	Variables []string `json:"variables,omitempty"`
	// ToldOf are the files and bundles that it is told of.
	ToldOf []string `json:"told_of,omitempty"`
}

// PlannedChild is the program that will be run.
type PlannedChild struct {
	// Program is its file. Its arguments may hold anything, and are left out.
	Program string `json:"program"`
	// Variables are those that the configuration names; the keys of FromSecrets
	// come to them.
	Variables   []string `json:"variables,omitempty"`
	FromSecrets []string `json:"from_secrets,omitempty"`
	// OnChange is what a change does to it.
	OnChange string `json:"on_change"`
}

const (
	// month is what AWS's prices are by.
	month = 30 * 24 * time.Hour
	// usdPerCall is the price of an API call (AWS Secrets Manager pricing: 0.05
	// USD for 10,000).
	usdPerCall = 0.05 / 10_000
	// callsBatch is how many secrets one call reads (BatchGetSecretValue, API
	// reference).
	callsBatch = 20
)

// Foresee returns what cfg will have the agent do. It asks no network and writes
// nothing. What is wrong with cfg is a [ConfigError].
func Foresee(ctx context.Context, cfg *config.Config, opts Options) (Outlook, error) {
	b, err := newBuild(ctx, cfg, opts, nil)
	if err != nil {
		return Outlook{}, &ConfigError{err}
	}
	defer b.close()
	var out Outlook
	usedBy, toldOf := map[string][]string{}, map[string][]string{}
	for _, o := range b.outputs {
		p := PlannedOutput{Path: o.path, Bundle: o.bundle, Secrets: o.uses, Notify: o.notify}
		if o.check != nil {
			p.Check = o.check.command
		}
		out.Outputs = append(out.Outputs, p)
		for _, name := range o.uses {
			usedBy[name] = append(usedBy[name], o.path)
		}
		for _, name := range o.notify {
			toldOf[name] = append(toldOf[name], o.path)
		}
	}
	if c := b.child; c != nil {
		out.Child = c.outlook()
		for _, name := range c.names() {
			usedBy[name] = append(usedBy[name], "exec")
		}
	}
	given := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(b.commands)) { // which begin with their target
		c := b.commands[id]
		for _, name := range c.names() {
			usedBy[name] = append(usedBy[name], "target "+c.target)
		}
		for _, v := range c.list {
			given[c.target] = append(given[c.target], v.name)
		}
	}
	for _, s := range b.secrets {
		usedBy[s.name] = slices.Compact(usedBy[s.name])
		out.Secrets = append(out.Secrets, PlannedSecret{Name: s.name, ID: s.ref.ID, Stage: s.ref.Stage, VersionID: s.ref.VersionID,
			Region: s.region, RoleARN: cmp.Or(s.ref.RoleARN, roleOf(cfg)), Interval: s.interval.String(), Required: s.required, UsedBy: usedBy[s.name]})
	}
	for _, t := range b.targets {
		out.Targets = append(out.Targets, PlannedTarget{Name: t.Name, How: howTold(t), Variables: slices.Compact(slices.Sorted(slices.Values(given[t.Name]))), ToldOf: toldOf[t.Name]})
	}
	if cfg.Source.Local == nil {
		out.CallsPerMonth = callsIn(month, b.secrets)
		out.USDPerMonth = float64(out.CallsPerMonth) * usdPerCall
	}
	return out, nil
}

func roleOf(cfg *config.Config) string {
	if cfg.Source.AWS != nil {
		return cfg.Source.AWS.RoleARN
	}
	return ""
}

// howTold says in words how a target is told.
func howTold(t notify.Target) string {
	switch {
	case len(t.Command) > 0:
		return "command " + t.Command[0]
	case t.HTTP != nil:
		return "request to " + t.HTTP.URL
	case t.Unit != nil:
		return t.Unit.Action + " of " + t.Unit.Name
	case t.Process == nil:
		return ""
	}
	p, what := t.Process, "the child"
	for kind, name := range map[string]string{
		"the process in ": p.PidFile, "processes of ": p.Exe, "processes called ": p.Argv0, "processes in ": p.Cgroup, "the main process of ": p.Unit,
	} {
		if name != "" {
			what = kind + name
		}
	}
	return "signal " + notify.SignalName(t.Signal) + " to " + what
}

// callsIn returns how many calls reading secrets takes in some time. Secrets of
// one Region, role and interval share calls where AWSCURRENT is what is read.
func callsIn(d time.Duration, secrets []*schedule) int {
	type group struct {
		region, role string
		interval     time.Duration
	}
	shared := map[group]int{}
	calls := 0
	for _, s := range secrets {
		if s.ref.Stage == secret.StageCurrent && s.ref.VersionID == "" {
			shared[group{s.region, s.ref.RoleARN, s.interval}]++
			continue
		}
		calls += int(d / s.interval)
	}
	for _, g := range slices.Collect(maps.Keys(shared)) {
		calls += (shared[g] + callsBatch - 1) / callsBatch * int(d/g.interval)
	}
	return calls
}
