package main

import (
	"fmt"
	"strings"
	"time"

	"secretsd/agent"
	"secretsd/sinks/endpoint"
)

// writeClients writes the table of the endpoint's clients, and below it what
// nobody known has asked.
func writeClients(b *strings.Builder, st *agent.Status, now time.Time, wide bool) {
	heading := "CLIENT\tKNOWN BY\tMAY READ\tANSWERED\tREFUSED\tFAILED\tLAST SEEN"
	if wide {
		heading += "\tOUTCOMES"
	}
	table(b, heading, len(st.Clients), func(i int) []string {
		c := &st.Clients[i]
		row := []string{c.Name, c.KnownBy(), c.MayRead()}
		for _, of := range [][]endpoint.Outcome{agent.OutcomesAnswered, agent.OutcomesRefused, agent.OutcomesFailed} {
			row = append(row, fmt.Sprint(agent.Total(c.Requests, of)))
		}
		row = append(row, suffixed(since(c.LastSeen, now), " ago"))
		if wide {
			row = append(row, agent.ListOutcomes(c.Requests, endpoint.Outcomes()))
		}
		return row
	})
	if list := agent.ListOutcomes(st.Requests, agent.OutcomesUnknown); list != "" {
		fmt.Fprintf(b, "\nrequests of nobody known: %s\n", list)
	}
}
