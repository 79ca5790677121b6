package agent

import (
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
		add(ClientStatus{Name: c.Name, TokenFile: c.TokenFile.Path, UIDs: c.UIDs, GIDs: c.GIDs, Secrets: c.Secrets})
	}
	return list
}
