package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"secretsd/agent/secret"
)

func (v *validator) endpoint() {
	e := v.c.Endpoint
	if e == nil {
		return
	}
	up := []any{&v.c.Endpoint}
	if e.Socket == nil || e.Listen != "" {
		v.endpointAddress(e, up)
	}
	if s := e.Socket; s != nil {
		v.absolute(&s.Path, []any{&e.Socket, &v.c.Endpoint}, "endpoint.socket.path")
		if s.Mode&^0o666 != 0 {
			v.fault(&s.Mode, up, "", `endpoint.socket.mode: want "0600", "0660" or "0666"`)
		}
	}
	switch {
	case e.TokenFile.Path == "" && len(e.TokenEnv) == 0 && len(e.Clients) == 0:
		v.fault(&e.TokenFile, up, "for example token_file: /run/secretsd/token; it is made if it is missing", "endpoint: there is no token_file, nor token_env")
	case e.TokenFile.Path != "" && len(e.TokenEnv) > 0:
		v.fault(&e.TokenEnv, up, "", "endpoint: give token_file or token_env, not both")
	}
	v.tokenFile(&e.TokenFile, up, "endpoint.token_file")
	v.clients(e)
	v.onDemand(e.OnDemand, up)
	v.anySignature(e, up)
	if e.MaxConnections < 1 {
		v.fault(&e.MaxConnections, up, "", "endpoint.max_connections: want at least 1")
	}
	v.pathPrefix(e, up)
}

// endpointPaths are the endpoint's own, which it answers whatever the prefix is.
var endpointPaths = []string{"/ping", "/secretsmanager/get", "/secretsd/secrets", "/secretsd/refresh"}

// pathPrefix holds that no secret is asked for by a path that means something else:
// its reader would take "healthy", or a list, for the secret.
func (v *validator) pathPrefix(e *Endpoint, up []any) {
	if !strings.HasPrefix(e.PathPrefix, "/") {
		v.fault(&e.PathPrefix, up, "", "endpoint.path_prefix: %q does not begin with /", e.PathPrefix)
		return
	}
	for i := range v.c.Secrets {
		s := &v.c.Secrets[i]
		for _, own := range endpointPaths {
			id, is := strings.CutPrefix(own, e.PathPrefix)
			if is && id != "" && (id == s.Name || id == s.ID) {
				v.fault(&e.PathPrefix, up, "choose another prefix, such as /v1/, or give the secret another name",
					"endpoint.path_prefix: secrets[%d] cannot be read at %s, which is the endpoint's own", i, own)
			}
		}
	}
}

// anySignature holds that unsafe_any_signature opens something, and that it is
// known what.
func (v *validator) anySignature(e *Endpoint, up []any) {
	const key = "endpoint.unsafe_any_signature"
	switch {
	case !e.UnsafeAnySignature:
	case e.TokenFile.Path == "" && len(e.TokenEnv) == 0:
		v.fault(&e.UnsafeAnySignature, up, "give endpoint.token_file, whose rights such a program gets, or take the key away",
			"%s: there is no token_file, nor token_env, so that nobody's rights would apply", key)
	case e.Listen == "":
		v.fault(&e.UnsafeAnySignature, up, "give endpoint.listen, or take the key away",
			"%s: it is about programs that come over TCP, and there is no address", key)
	case e.UnsafeAnyAddress:
		v.fault(&e.UnsafeAnySignature, up, "take one of the two away",
			"%s: not together with unsafe_any_address, for everybody on the network could read everything", key)
	}
}

// endpointAddress holds that the endpoint listens on loopback, unless the file
// says in so many words that it is not to.
func (v *validator) endpointAddress(e *Endpoint, up []any) {
	if !e.UnsafeAnyAddress {
		v.loopback(&e.Listen, up, "endpoint.listen")
		return
	}
	host, ok := v.hostPort(&e.Listen, up, "endpoint.listen")
	if !ok || host == "localhost" {
		return
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		v.fault(&e.Listen, up, "give an address of this machine, or 0.0.0.0 for all of them", "endpoint.listen: %s is not an address", e.Listen)
	case !ip.IsLoopback() && len(e.AllowedHosts) == 0:
		v.fault(&e.UnsafeAnyAddress, up, "for example allowed_hosts: [secrets.internal]",
			"endpoint.allowed_hosts: names none of the hosts by which clients ask for %s", e.Listen)
	}
}

func (v *validator) onDemand(d *OnDemand, up []any) {
	if d == nil {
		return
	}
	up = append([]any{d}, up...)
	if len(d.Secrets) == 0 {
		v.fault(&d.Secrets, up, `for example secrets: ["prod/*"]`, "endpoint.on_demand.secrets: none may be read")
	}
	v.patterns(d.Secrets, up, "endpoint.on_demand.secrets")
	if d.MaxEntries < 1 {
		v.fault(&d.MaxEntries, up, "", "endpoint.on_demand.max_entries: want at least 1")
	}
	v.roles(d.Roles, up, "endpoint.on_demand.roles")
	if d.MaxRoles < 1 {
		v.fault(&d.MaxRoles, up, "leave roles out if none may be assumed", "endpoint.on_demand.max_roles: want at least 1")
	}
	v.atLeast(&d.Interval, MinInterval, up, "endpoint.on_demand.interval")
	if d.Interval > v.c.Refresh.MaxStale {
		v.fault(&d.Interval, up, "", "endpoint.on_demand.interval: %s is longer than refresh.max_stale, %s", d.Interval.Std(), v.c.Refresh.MaxStale.Std())
	}
}

// tokenFile checks a token file, if one is named.
func (v *validator) tokenFile(f *TokenFile, up []any, key string) {
	up = append([]any{f}, up...)
	if f.Path != "" {
		v.absolute(&f.Path, up, key)
	}
	if f.Mode != 0o400 && f.Mode != 0o440 {
		v.fault(&f.Mode, up, "", `%s.mode: want "0400" or "0440"`, key)
	}
}

// clientName keeps names fit for logs, metrics and an access key id.
var clientName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// defaultClient is what logs call whoever has the top-level token.
const defaultClient = "default"

func (v *validator) clients(e *Endpoint) {
	names, files := map[string]int{}, map[string]string{e.TokenFile.Path: "endpoint.token_file"}
	for i := range e.Clients {
		c, key := &e.Clients[i], fmt.Sprintf("endpoint.clients[%d]", i)
		up := []any{c, &v.c.Endpoint}
		first, taken := names[c.Name]
		switch {
		case !clientName.MatchString(c.Name):
			v.fault(&c.Name, up, "a name of letters, digits and ._-", "%s.name: %q is no name", key, c.Name)
		case c.Name == defaultClient:
			v.fault(&c.Name, up, "give it another name", "%s.name: default is what logs call the holder of endpoint.token_file", key)
		case taken:
			v.fault(&c.Name, up, "give one of them another name", "%s.name: %q is already the name of endpoint.clients[%d]", key, c.Name, first)
		default:
			names[c.Name] = i
		}
		v.clientIdentity(c, up, key)
		if len(c.UIDs)+len(c.GIDs) > 0 && e.Socket == nil {
			v.fault(c, up, "give endpoint.socket, for example {path: /run/secretsd/endpoint.sock}", "%s: uids and gids are known over a socket only, and there is none", key)
		}
		v.tokenFile(&c.TokenFile, up, key+".token_file")
		if other := files[c.TokenFile.Path]; other != "" && c.TokenFile.Path != "" {
			v.fault(&c.TokenFile, up, "give each client a token of its own", "%s.token_file: %s is already that of %s", key, c.TokenFile.Path, other)
		} else {
			files[c.TokenFile.Path] = key
		}
		if len(c.Secrets) == 0 {
			v.fault(&c.Secrets, up, "for example secrets: [prod/db, prod/app/*]", "%s.secrets: it may read none", key)
		}
		v.patterns(c.Secrets, up, key+".secrets")
		v.roles(c.Roles, up, key+".roles")
		if len(c.Roles) > 0 && !v.c.rolesInUse() {
			v.fault(&c.Roles, up, "give endpoint.on_demand.roles too, which bounds what every client may have assumed",
				"%s.roles: no role is assumed, for there is neither endpoint.on_demand.roles nor a secret with role_arn", key)
		}
	}
}

// clientIdentity holds that something tells who a client is.
func (v *validator) clientIdentity(c *Client, up []any, key string) {
	if c.TokenFile.Path == "" && len(c.UIDs)+len(c.GIDs) == 0 {
		v.fault(c, up, "for example token_file: /run/secretsd/tokens/"+c.Name, "%s: there is no token_file, nor uids or gids", key)
	}
	for name, ids := range map[string][]int{"uids": c.UIDs, "gids": c.GIDs} {
		for i, id := range ids {
			if id < 0 {
				v.fault(&ids[i], up, "", "%s.%s: %d is no id", key, name, id)
			}
		}
	}
}

func (v *validator) patterns(list []string, up []any, key string) {
	for i, p := range list {
		if p == "" || strings.ContainsAny(p, " \t\r\n") {
			v.fault(&list[i], up, "write a name, an ARN or a glob such as prod/*", "%s: %q matches no secret", key, p)
		}
	}
}

// rolesInUse reports whether anything can be read with a role of its own.
func (c *Config) rolesInUse() bool {
	if e := c.Endpoint; e != nil && e.OnDemand != nil && len(e.OnDemand.Roles) > 0 {
		return true
	}
	return slices.ContainsFunc(c.Secrets, func(s Secret) bool { return s.RoleARN != "" })
}

func (v *validator) roles(list []string, up []any, key string) {
	for i, p := range list {
		if !secret.CanBeRole(p) {
			v.fault(&list[i], up, "write the ARN of a role or a glob of it, such as arn:aws:iam::123456789012:role/app/*", "%s: %q matches no role", key, p)
		}
	}
}
