package main

import (
	"fmt"
	"strings"
	"time"

	"secretsd/agent"
	"secretsd/sinks/endpoint"
)

// What requests were answered, in the words of the table.
var (
	answered = []endpoint.Outcome{endpoint.OutcomeOK, endpoint.OutcomeStale}
	refused  = []endpoint.Outcome{endpoint.OutcomeDenied, endpoint.OutcomeNotFound, endpoint.OutcomeRefused, endpoint.OutcomeBadRequest, endpoint.OutcomeLimited}
	failed   = []endpoint.Outcome{endpoint.OutcomeFailed}
	// strange are the requests that come from no client.
	strange = []endpoint.Outcome{endpoint.OutcomeBadToken, endpoint.OutcomeForwarded}
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
		row := []string{c.Name, knownBy(c), mayRead(c), total(c.Requests, answered), total(c.Requests, refused), total(c.Requests, failed), suffixed(since(c.LastSeen, now), " ago")}
		if wide {
			row = append(row, outcomesOf(c.Requests, endpoint.Outcomes()))
		}
		return row
	})
	if list := outcomesOf(st.Requests, strange); list != "" {
		fmt.Fprintf(b, "\nrequests of nobody known: %s\n", list)
	}
}

// knownBy says how a client is told from others, never its token.
func knownBy(c *agent.ClientStatus) string {
	token := prefixed("token in ", c.TokenFile)
	if len(c.TokenEnv) > 0 {
		token = "token in $" + strings.Join(c.TokenEnv, " or $")
	}
	var who []string
	for _, uid := range c.UIDs {
		who = append(who, fmt.Sprint("uid ", uid))
	}
	for _, gid := range c.GIDs {
		who = append(who, fmt.Sprint("gid ", gid))
	}
	peers := strings.Join(who, " or ")
	if token != "" && peers != "" {
		return token + " from " + peers
	}
	return token + peers
}

// mayRead says what a client may read, in the configuration's words.
func mayRead(c *agent.ClientStatus) string {
	if c.All {
		return "everything"
	}
	return strings.Join(c.Secrets, " ") + prefixed(" as ", strings.Join(c.Roles, " "))
}

func total(counts map[string]uint64, of []endpoint.Outcome) string {
	var n uint64
	for _, o := range of {
		n += counts[string(o)]
	}
	return fmt.Sprint(n)
}

// outcomesOf lists those of the outcomes that there were.
func outcomesOf(counts map[string]uint64, of []endpoint.Outcome) string {
	var list []string
	for _, o := range of {
		if n := counts[string(o)]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(o), "_", " ")))
		}
	}
	return strings.Join(list, ", ")
}
