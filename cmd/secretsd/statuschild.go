package main

import (
	"fmt"
	"strings"
	"time"

	"secretsd/agent"
)

// childTable writes the state of the child, if there is one. What is wrong goes to
// fault.
func childTable(b *strings.Builder, st *agent.ChildStatus, now time.Time, fault func(what, name, err, hint string)) {
	if st == nil {
		return
	}
	table(b, "CHILD\tSTATE\tFOR\tSTARTS\tCRASHES\tLAST EXIT", 1, func(int) []string {
		what := "program"
		if st.EnvironmentHeld {
			what = "environment"
		}
		fault("child", what, st.Error, st.Hint)
		pid, since := "", ""
		if st.PID > 0 {
			pid, since = fmt.Sprint(st.PID), span(now.Sub(st.StartedAt))
		}
		state := strings.ReplaceAll(string(st.State), "_", " ")
		if st.EnvironmentHeld {
			state += ", environment held"
		}
		if !st.NextStart.IsZero() {
			state += ", next start in " + until(st.NextStart, now)
		}
		return []string{pid, state, since, fmt.Sprint(st.Starts), fmt.Sprint(st.Crashes), st.LastExit}
	})
}
