package agent

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"secretsd/agent/config"
	"secretsd/sinks/endpoint"
)

// ClientStatus is the state of one client of the endpoint, without its token.
type ClientStatus struct {
	// Name is the configured name, or "default" for whoever has the token in
	// token_file.
	Name string `json:"name"`
	// TokenFile and TokenEnv say where its token is, UIDs and GIDs whom it may
	// run as; with a token and any of these it needs both.
	TokenFile string   `json:"token_file,omitempty"`
	TokenEnv  []string `json:"token_env,omitempty"`
	UIDs      []int    `json:"uids,omitempty"`
	GIDs      []int    `json:"gids,omitempty"`
	// All says that it may read every configured secret and all that on_demand
	// allows; else Secrets are the names, ids and globs that it may read.
	All     bool     `json:"all,omitempty"`
	Secrets []string `json:"secrets,omitempty"`
	// Roles are the roles that it may have assumed.
	Roles []string `json:"roles,omitempty"`
	// Requests count since the agent started, by outcome, and LastSeen is when
	// it last came; zero if it never has.
	Requests map[string]uint64 `json:"requests"`
	LastSeen time.Time         `json:"last_seen,omitzero"`
}

// KnownBy says how the client is told from others, never its token.
func (c *ClientStatus) KnownBy() string {
	token := ""
	switch {
	case len(c.TokenEnv) > 0:
		token = "token in $" + strings.Join(c.TokenEnv, " or $")
	case c.TokenFile != "":
		token = "token in " + c.TokenFile
	}
	var peers []string
	for _, uid := range c.UIDs {
		peers = append(peers, "uid "+strconv.Itoa(uid))
	}
	for _, gid := range c.GIDs {
		peers = append(peers, "gid "+strconv.Itoa(gid))
	}
	if token != "" && len(peers) > 0 {
		token += " from "
	}
	return token + strings.Join(peers, " or ")
}

// MayRead says what the client may read, in the configuration's words.
func (c *ClientStatus) MayRead() string {
	if c.All {
		return "everything"
	}
	text := strings.Join(c.Secrets, " ")
	if len(c.Roles) > 0 {
		text += " as " + strings.Join(c.Roles, " ")
	}
	return text
}

// The outcomes of requests, as people are shown them: those that were given a
// value, those that were refused, those that failed for no fault of theirs, and
// those that came from no client.
var (
	OutcomesAnswered = []endpoint.Outcome{endpoint.OutcomeOK, endpoint.OutcomeStale}
	OutcomesRefused  = []endpoint.Outcome{endpoint.OutcomeDenied, endpoint.OutcomeNotFound, endpoint.OutcomeRefused, endpoint.OutcomeBadRequest, endpoint.OutcomeLimited}
	OutcomesFailed   = []endpoint.Outcome{endpoint.OutcomeFailed}
	OutcomesUnknown  = []endpoint.Outcome{endpoint.OutcomeBadToken, endpoint.OutcomeForwarded}
)

// Total returns how many requests had one of the outcomes.
func Total(counts map[string]uint64, of []endpoint.Outcome) uint64 {
	var n uint64
	for _, o := range of {
		n += counts[string(o)]
	}
	return n
}

// ListOutcomes names those of the outcomes that there were, with their counts;
// it returns "" if there were none.
func ListOutcomes(counts map[string]uint64, of []endpoint.Outcome) string {
	var list []string
	for _, o := range of {
		if n := counts[string(o)]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(o), "_", " ")))
		}
	}
	return strings.Join(list, ", ")
}

// clientNames are those of all clients of e, the default among them.
func clientNames(e *config.Endpoint) map[string]bool {
	names := map[string]bool{}
	if e == nil {
		return names
	}
	names[endpoint.DefaultClient] = true
	for i := range e.Clients {
		names[e.Clients[i].Name] = true
	}
	return names
}

// clientStatus returns the state of e's clients, in the configuration's order.
func (t *traffic) clientStatus(e *config.Endpoint) []ClientStatus {
	var list []ClientStatus
	if e == nil {
		return list
	}
	add := func(c ClientStatus) {
		c.Requests, c.LastSeen = t.of(c.Name)
		list = append(list, c)
	}
	if e.TokenFile.Path != "" || len(e.TokenEnv) > 0 {
		add(ClientStatus{Name: endpoint.DefaultClient, TokenFile: e.TokenFile.Path, TokenEnv: e.TokenEnv, All: true})
	}
	for i := range e.Clients {
		c := &e.Clients[i]
		add(ClientStatus{Name: c.Name, TokenFile: c.TokenFile.Path, UIDs: c.UIDs, GIDs: c.GIDs, Secrets: c.Secrets, Roles: c.Roles})
	}
	return list
}
